-- The life of key stores: trust anchor, what a failed connect came to, and kmsuser's PINs.

ALTER TABLE key_stores ADD COLUMN trust_anchor TEXT NOT NULL DEFAULT '';
ALTER TABLE key_stores ADD COLUMN error_code TEXT;
ALTER TABLE key_stores ADD COLUMN error_message TEXT;

-- Stores of before had neither a trust anchor nor a PIN on record.
UPDATE key_stores SET state = 'DISCONNECTED';

-- kmsuser's PIN in each HSM that has joined the cluster, sealed (AES-256-GCM under a key that is not in here). One row
-- for the whole cluster, under the id '*', where the PIN belongs to the cluster.
CREATE TABLE pins (
    key_store_id    TEXT   NOT NULL REFERENCES key_stores (id) ON DELETE CASCADE,
    hsm_id          TEXT   NOT NULL,
    -- The PIN in the token, as far as is known.
    current_pin     BYTEA  NOT NULL,
    -- The PIN that it has if a rotation went further than this row knows. Written before C_SetPIN.
    pending_pin     BYTEA,
    -- The token refused it: not tried again.
    current_refused BIGINT NOT NULL DEFAULT 0,
    pending_refused BIGINT NOT NULL DEFAULT 0,
    -- 'current' or 'pending', written before C_Login and taken away with its outcome. One that is found here has none.
    attempt         TEXT,
    -- Attempts in a row that were refused or had no outcome.
    failures        BIGINT NOT NULL DEFAULT 0,
    -- The next login is followed by a rotation.
    rotation_due    BIGINT NOT NULL DEFAULT 0,
    -- Milliseconds since the Unix epoch.
    rotated_at      BIGINT,
    PRIMARY KEY (key_store_id, hsm_id)
);
