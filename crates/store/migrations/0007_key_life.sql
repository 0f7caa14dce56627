-- The life of keys: rotation, deletion, aliases, tags and last use.

-- The version that encrypts. One with a higher number is being made.
ALTER TABLE keys ADD COLUMN current_version BIGINT NOT NULL DEFAULT 1;
-- Days; absent where the key is not rotated by itself. With it, when it is next.
ALTER TABLE keys ADD COLUMN rotation_period BIGINT;
ALTER TABLE keys ADD COLUMN next_rotation BIGINT;
-- In PendingDeletion alone.
ALTER TABLE keys ADD COLUMN deletion_date BIGINT;
-- Milliseconds for which the daemon ran while that date was past: a clock alone deletes nothing.
ALTER TABLE keys ADD COLUMN overdue BIGINT NOT NULL DEFAULT 0;
-- 1: the material was given up, irrevocably; `destructions` says where it is gone.
ALTER TABLE keys ADD COLUMN material_destroyed BIGINT NOT NULL DEFAULT 0;

-- 32 random bytes in hexadecimal digits, never derived from the material. Versions of before get theirs when the
-- database is opened.
ALTER TABLE key_versions ADD COLUMN material_id TEXT NOT NULL DEFAULT '';
-- When it became the current one. Absent until then.
ALTER TABLE key_versions ADD COLUMN current_since BIGINT;
-- Why it was made: absent for a key's first one, else 'request', 'period' or 'wear'.
ALTER TABLE key_versions ADD COLUMN cause TEXT;

UPDATE key_versions SET current_since = (SELECT created_at FROM keys WHERE keys.id = key_versions.key_id);

-- Where a version whose material was given up is to be destroyed, and was.
CREATE TABLE destructions (
    key_id       TEXT   NOT NULL,
    version      BIGINT NOT NULL,
    hsm_id       TEXT   NOT NULL,
    -- Absent until the HSM has said so.
    destroyed_at BIGINT,
    -- What the last try came to, where it failed.
    failure      TEXT,
    PRIMARY KEY (key_id, version, hsm_id),
    FOREIGN KEY (key_id, version) REFERENCES key_versions (key_id, version) ON DELETE CASCADE
);

CREATE TABLE aliases (
    -- With its prefix 'alias/'.
    name       TEXT   PRIMARY KEY,
    key_id     TEXT   NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE INDEX aliases_by_key ON aliases (key_id);

-- Keys of a key store are counted before a further one is made.
CREATE INDEX keys_by_store ON keys (key_store_id);

CREATE TABLE tags (
    key_id TEXT NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (key_id, name)
);

-- The last successful use of each key, a minute late at most. No revision is counted for it.
CREATE TABLE key_usage (
    key_id     TEXT   PRIMARY KEY REFERENCES keys (id) ON DELETE CASCADE,
    used_at    BIGINT NOT NULL,
    operation  TEXT   NOT NULL,
    request_id TEXT   NOT NULL
);
