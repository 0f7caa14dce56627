-- Administrators of the configuration have votes as well, and need not be mapped to principals. No approval could be
-- asked for before this, so that there are no votes to be kept.
DROP TABLE approval_votes;

CREATE TABLE approval_votes (
    approval_id TEXT   NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
    -- A principal, with whom its votes go, or the name of the certificate of an administrator who is none.
    voter       TEXT   NOT NULL,
    -- 'approve' or 'refuse'.
    vote        TEXT   NOT NULL,
    voted_at    BIGINT NOT NULL,
    PRIMARY KEY (approval_id, voter)
);

CREATE INDEX approval_votes_by_voter ON approval_votes (voter);

-- By which names of certificates those were known who asked and who approved, when they did. One who is known by others
-- later, or by none, is the same one.
CREATE TABLE approval_identities (
    approval_id TEXT NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
    -- A requester or a voter.
    person      TEXT NOT NULL,
    identity    TEXT NOT NULL,
    PRIMARY KEY (approval_id, person, identity)
);

-- So that the grants of one grantee can be counted, however many the key has.
CREATE INDEX grants_by_key_and_grantee ON grants (key_id, grantee);
