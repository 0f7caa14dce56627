-- Access keys of principals: an id and a secret, with which calls are signed where others come with a certificate.
CREATE TABLE access_keys (
    -- 'AKKS…'
    id           TEXT   PRIMARY KEY,
    principal_id TEXT   NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
    -- 1: calls may be signed with it.
    active       BIGINT NOT NULL,
    -- The secret, sealed under the seal key for this id and this principal.
    sealed       BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL
);

CREATE INDEX access_keys_by_principal ON access_keys (principal_id);

-- When each was used last. No part of what a catalogue shows.
CREATE TABLE access_key_usage (
    access_key_id TEXT   PRIMARY KEY REFERENCES access_keys (id) ON DELETE CASCADE,
    used_at       BIGINT NOT NULL,
    -- Of which service AWS's name was in the signature: 'kms', 'sts'.
    service       TEXT   NOT NULL
);
