-- The token that holds the keys is told from another one by its objects: those of the service, and those of the keys
-- that were changed last, which an older backup of the token lacks.
ALTER TABLE keys ADD COLUMN changed_at INTEGER NOT NULL DEFAULT 0;
UPDATE keys SET changed_at = created_at;
CREATE INDEX keys_changed ON keys (changed_at) WHERE key_store = '';

-- Serial numbers of the tokens that were seen to have them, for people.
CREATE TABLE tokens (
	serial  TEXT NOT NULL PRIMARY KEY,
	seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
