-- The token of an object: that of a custom key store, or the service's own.
ALTER TABLE service_objects ADD COLUMN key_store TEXT NOT NULL DEFAULT '';
ALTER TABLE wrapping_keys ADD COLUMN key_store TEXT NOT NULL DEFAULT '';
