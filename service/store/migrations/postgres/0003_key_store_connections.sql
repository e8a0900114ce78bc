-- sqlite/0010_key_store_connections.sql tells what is what.
ALTER TABLE key_stores ADD COLUMN connections BIGINT NOT NULL DEFAULT 0;
