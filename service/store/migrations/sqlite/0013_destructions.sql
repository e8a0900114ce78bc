-- Signed statements that key material was destroyed. They outlive their keys.
CREATE TABLE destructions (
	id     TEXT NOT NULL PRIMARY KEY, -- made of the destroyed objects, so that there is one statement of them
	region TEXT NOT NULL,
	key_id TEXT NOT NULL,
	at     INTEGER NOT NULL,          -- of the statement
	signed BLOB NOT NULL              -- a signed note
) STRICT, WITHOUT ROWID;
CREATE INDEX destructions_at ON destructions (at, id);
