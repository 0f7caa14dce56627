-- Keys that stay in the HSM that has made them.

-- 1: the version was made as an object of its token, or is to be, and there is no escrow of it.
ALTER TABLE key_versions ADD COLUMN in_place BIGINT NOT NULL DEFAULT 0;
