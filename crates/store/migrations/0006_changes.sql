-- What each change has changed, so that a catalogue in memory, here or in another process, can follow.
--
-- A ring of rows that are written over in turn, so that a change needs no room on a disk that is full. Each is made as
-- long as it will be, with the numbers of a place that was never reached.
CREATE TABLE changes (
    -- `position` modulo the number of rows.
    slot     BIGINT PRIMARY KEY,
    -- Counts what was ever written here.
    position BIGINT NOT NULL,
    -- Several rows where one change has changed several things.
    revision BIGINT NOT NULL,
    -- 'key' (with its versions and placements), 'key store', or 'destroyed': the key's versions that are destroyed.
    entity   TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    -- 1: it is not there any more.
    gone     BIGINT NOT NULL
);

WITH RECURSIVE slots (slot) AS (SELECT 0 UNION ALL SELECT slot + 1 FROM slots WHERE slot < 1023)
INSERT INTO changes (slot, position, revision, entity, id, gone)
SELECT slot, -4611686018427387904, -4611686018427387904, 'none so far', '................................................', 0
FROM slots;

-- The position that the next row will have. They begin at 1: at 0 is whoever has read nothing yet.
ALTER TABLE revision ADD COLUMN log_end BIGINT NOT NULL DEFAULT 1;
