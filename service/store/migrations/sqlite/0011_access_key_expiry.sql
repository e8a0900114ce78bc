-- When an access key ends; NULL: never. The release before does not know the column, and accepts such a key after its
-- end until it is upgraded.
ALTER TABLE access_keys ADD COLUMN expires_at INTEGER;
