-- A PIN that an operator has told stands beside the one that has proven to be the token's, until a token has taken one of
-- them. The count of failed logins belongs to the token, and outlives what is told and deleted.

-- The PIN that an operator told last, sealed.
ALTER TABLE pins ADD COLUMN offered_pin BYTEA;
ALTER TABLE pins ADD COLUMN offered_refused BIGINT NOT NULL DEFAULT 0;
-- It was told after the security officer had set the PIN, so that it is tried before the others.
ALTER TABLE pins ADD COLUMN offered_first BIGINT NOT NULL DEFAULT 0;
-- A token has taken `current_pin`, which may be known to nobody else. Of the rows from before this is not known, so that
-- none of them is given up for a PIN that may be mistyped.
ALTER TABLE pins ADD COLUMN current_proven BIGINT NOT NULL DEFAULT 1;
-- When an operator said last that the security officer had cleared the token's own count of wrong PINs. Milliseconds
-- since the Unix epoch.
ALTER TABLE pins ADD COLUMN reset_at BIGINT;

-- What was left of the counts as key stores were deleted. It goes on as soon as a PIN is on record again for the HSM.
CREATE TABLE failed_logins (
    cluster_id TEXT   NOT NULL,
    hsm_id     TEXT   NOT NULL,
    failures   BIGINT NOT NULL,
    PRIMARY KEY (cluster_id, hsm_id)
);
