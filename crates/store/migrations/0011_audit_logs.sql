-- The audit logs of this daemon, one after the other. The last one is written; of those before it nobody has the key any more.
CREATE TABLE audit_logs (
    -- From 1.
    number     BIGINT PRIMARY KEY,
    -- What it is called in its checkpoints.
    origin     TEXT   NOT NULL UNIQUE,
    -- The seed of its Ed25519 key, sealed under the seal key for this origin. Absent where another log came after it.
    sealed     BYTEA,
    created_at BIGINT NOT NULL,
    -- The newest head that was noted: a log that is behind it, or says otherwise, is not written on.
    size       BIGINT NOT NULL DEFAULT 0,
    -- Absent while nothing was noted.
    root       BYTEA
);
