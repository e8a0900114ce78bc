-- sqlite/0011_access_key_expiry.sql tells what is what.
ALTER TABLE access_keys ADD COLUMN expires_at BIGINT;
