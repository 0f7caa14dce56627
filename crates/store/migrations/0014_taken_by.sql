-- Which tokens have taken a PIN that belongs to a whole cluster: their marks, by which a token is known again. One that has taken
-- the PIN itself is not kept out by a trouble in which it says nothing of a PIN, also after a restart of the daemon. Absent of
-- PINs that each HSM has for itself, and of those of before: of them the next login tells.
ALTER TABLE pins ADD COLUMN taken_by TEXT;
