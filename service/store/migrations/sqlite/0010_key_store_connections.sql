-- How often ConnectCustomKeyStore was answered: another server knows by it that its own connection is an earlier one.
ALTER TABLE key_stores ADD COLUMN connections INTEGER NOT NULL DEFAULT 0;
