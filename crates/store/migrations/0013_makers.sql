-- Who made a key store: a principal's id, or the name of the certificate of an administrator who is none. The same call again
-- gives the store to nobody else, since who is given it knows that the PIN in the call is the store's. Absent of stores of
-- before, and once the store was connected or something was told of a PIN.
ALTER TABLE key_stores ADD COLUMN maker TEXT;
