-- Keys, their versions, where each version is, key stores, client tokens, and the revision of it all.
--
-- This text is read by SQLite and PostgreSQL alike. BIGINT gives SQLite's INTEGER affinity. BYTEA is PostgreSQL's name
-- for bytes; in SQLite, where a column's type is only a preference, it leaves a BLOB as it is. Ids are UUIDs as text,
-- so that a person can read a row. Times are milliseconds since the Unix epoch.

-- One row. Every change of the tables below, the counting of encryptions excepted, adds one to `value` in its own
-- transaction and writes the new value beside the rows that it changed.
CREATE TABLE revision (
    id    BIGINT PRIMARY KEY CHECK (id = 1),
    value BIGINT NOT NULL
);

INSERT INTO revision (id, value) VALUES (1, 0);

CREATE TABLE key_stores (
    id         TEXT   PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    cluster_id TEXT   NOT NULL UNIQUE,
    state      TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    revision   BIGINT NOT NULL
);

CREATE TABLE keys (
    id           TEXT   PRIMARY KEY,
    key_store_id TEXT   NOT NULL REFERENCES key_stores (id),
    state        TEXT   NOT NULL,
    description  TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    -- Also of a change to the key's versions or placements.
    revision     BIGINT NOT NULL
);

CREATE TABLE key_versions (
    key_id               TEXT   NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    version              BIGINT NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    -- The key under the cluster wrapping key.
    escrow               BYTEA,
    -- Initialisation vector, and ciphertext with tag, of the proof.
    proof_iv             BYTEA,
    proof                BYTEA,
    -- Out of a budget of 2^32.
    encryptions_reserved BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (key_id, version)
);

CREATE TABLE placements (
    key_id  TEXT   NOT NULL,
    version BIGINT NOT NULL,
    hsm_id  TEXT   NOT NULL,
    state   TEXT   NOT NULL,
    PRIMARY KEY (key_id, version, hsm_id),
    FOREIGN KEY (key_id, version) REFERENCES key_versions (key_id, version) ON DELETE CASCADE
);

-- What a client token made, for a day.
CREATE TABLE client_tokens (
    principal  TEXT   NOT NULL,
    operation  TEXT   NOT NULL,
    token      TEXT   NOT NULL,
    -- SHA-256 of the other parameters.
    parameters BYTEA  NOT NULL,
    key_id     TEXT   NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (principal, operation, token)
);

CREATE INDEX client_tokens_by_age ON client_tokens (created_at);
CREATE INDEX client_tokens_by_key ON client_tokens (key_id);
