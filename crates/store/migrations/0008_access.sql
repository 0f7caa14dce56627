-- Access: principals, groups, identity policies, key policies, grants, approvals.

-- Who may call. The id is drawn anew for each, so that one who is made anew under an old ARN inherits nothing.
CREATE TABLE principals (
    id          TEXT   PRIMARY KEY,
    -- Of whatever account.
    arn         TEXT   NOT NULL UNIQUE,
    description TEXT   NOT NULL,
    created_at  BIGINT NOT NULL
);

-- By which names of certificates a principal is known: 'cn:…', 'dns:…', 'spiffe://…'.
CREATE TABLE identities (
    identity     TEXT   PRIMARY KEY,
    principal_id TEXT   NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
    created_at   BIGINT NOT NULL
);

CREATE INDEX identities_by_principal ON identities (principal_id);

CREATE TABLE principal_tags (
    principal_id TEXT NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    value        TEXT NOT NULL,
    PRIMARY KEY (principal_id, name)
);

CREATE TABLE groups (
    name       TEXT   PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE group_members (
    principal_id TEXT NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
    group_name   TEXT NOT NULL REFERENCES groups (name) ON DELETE CASCADE,
    PRIMARY KEY (principal_id, group_name)
);

CREATE INDEX group_members_by_group ON group_members (group_name);

CREATE TABLE identity_policies (
    name        TEXT   PRIMARY KEY,
    description TEXT   NOT NULL,
    -- Byte for byte as it was put.
    document    TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);

-- The principals that a policy names, with the ids that they had when it was put. The id of one that is gone stays.
CREATE TABLE policy_names (
    policy       TEXT NOT NULL REFERENCES identity_policies (name) ON DELETE CASCADE,
    arn          TEXT NOT NULL,
    principal_id TEXT NOT NULL,
    PRIMARY KEY (policy, arn)
);

-- To whom a policy is attached: either to a principal or to a group. Policies that are part of the program have no row,
-- so that no reference leads to them.
CREATE TABLE attachments (
    policy       TEXT NOT NULL,
    principal_id TEXT REFERENCES principals (id) ON DELETE CASCADE,
    group_name   TEXT REFERENCES groups (name) ON DELETE CASCADE,
    CHECK ((principal_id IS NULL) <> (group_name IS NULL)),
    UNIQUE (policy, principal_id),
    UNIQUE (policy, group_name)
);

CREATE INDEX attachments_by_principal ON attachments (principal_id);
CREATE INDEX attachments_by_group ON attachments (group_name);

-- A key without a row has the default policy.
CREATE TABLE key_policies (
    key_id     TEXT   PRIMARY KEY REFERENCES keys (id) ON DELETE CASCADE,
    -- Byte for byte as it was put.
    document   TEXT   NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE key_policy_names (
    key_id       TEXT NOT NULL REFERENCES key_policies (key_id) ON DELETE CASCADE,
    arn          TEXT NOT NULL,
    principal_id TEXT NOT NULL,
    PRIMARY KEY (key_id, arn)
);

-- Never changed, only made and removed. Ids of principals that are gone stay.
CREATE TABLE grants (
    id              TEXT   PRIMARY KEY,
    key_id          TEXT   NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    -- Empty where it has none.
    name            TEXT   NOT NULL,
    grantee         TEXT   NOT NULL,
    retiring        TEXT,
    issuing_account TEXT   NOT NULL,
    issuer          TEXT   NOT NULL,
    -- Names in the order in which they were given, with a blank between two.
    operations      TEXT   NOT NULL,
    -- 'subset' or 'equals', with the pairs in `grant_constraints`.
    constraint_kind TEXT,
    -- SHA-256 of the parameters: by it a call that is repeated finds its grant.
    parameters      BYTEA  NOT NULL,
    created_at      BIGINT NOT NULL
);

CREATE INDEX grants_by_key ON grants (key_id, name, parameters);
CREATE INDEX grants_by_grantee ON grants (grantee);
CREATE INDEX grants_by_retiring ON grants (retiring);

CREATE TABLE grant_constraints (
    grant_id TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    name     TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (grant_id, name)
);

-- How many grants a key has: there may be 50,000, too many to count before each further one.
ALTER TABLE keys ADD COLUMN grant_count BIGINT NOT NULL DEFAULT 0;

-- Requests that others have to approve.
CREATE TABLE approvals (
    id          TEXT   PRIMARY KEY,
    requester   TEXT   NOT NULL,
    -- The operation's event name.
    operation   TEXT   NOT NULL,
    -- An ARN.
    resource    TEXT   NOT NULL,
    -- SHA-256 of the other parameters.
    parameters  BYTEA  NOT NULL,
    -- For those who are to approve.
    description TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    -- Not to be used from then on, and forgotten in time.
    expires_at  BIGINT NOT NULL,
    -- So many have to approve.
    needed      BIGINT NOT NULL,
    -- 'waiting', 'used' or 'refused'.
    state       TEXT   NOT NULL
);

CREATE INDEX approvals_by_requester ON approvals (requester);
CREATE INDEX approvals_by_expiry ON approvals (expires_at);

CREATE TABLE approval_votes (
    approval_id  TEXT   NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
    principal_id TEXT   NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
    -- 'approve' or 'refuse'.
    vote         TEXT   NOT NULL,
    voted_at     BIGINT NOT NULL,
    PRIMARY KEY (approval_id, principal_id)
);

CREATE INDEX approval_votes_by_principal ON approval_votes (principal_id);

-- Entities of the change log are now also 'principal', 'group', 'policy', 'grant' and 'approval'. Its rows are made as
-- long as they will be with the longest id, a policy's or a group's name of 128 characters. What they say stays: who
-- reads it leaves the blanks off.
UPDATE changes SET id = substr(id || '                                                                                                                                ', 1, 128);
