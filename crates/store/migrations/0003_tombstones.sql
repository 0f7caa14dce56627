-- Versions that were destroyed, or that a failed creation left behind. A token that shows one again, because it was
-- away or was restored, has it destroyed again. Never deleted: nobody knows for how long a copy of a token is kept.
CREATE TABLE destroyed_versions (
    key_id       TEXT   NOT NULL,
    version      BIGINT NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    destroyed_at BIGINT NOT NULL,
    PRIMARY KEY (key_id, version)
);
