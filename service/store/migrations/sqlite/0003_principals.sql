-- Users and roles. details is JSON: path, unique id, tags, policies.
CREATE TABLE principals (
	arn        TEXT NOT NULL PRIMARY KEY,
	account    TEXT NOT NULL,
	kind       TEXT NOT NULL CHECK (kind IN ('user', 'role')),
	created_at INTEGER NOT NULL,
	details    TEXT NOT NULL CHECK (json_valid(details))
) STRICT, WITHOUT ROWID;

CREATE INDEX access_keys_of_principal ON access_keys (principal, id);

CREATE TABLE access_key_uses (
	id        TEXT NOT NULL PRIMARY KEY REFERENCES access_keys (id) ON DELETE CASCADE,
	at        INTEGER NOT NULL,
	region    TEXT NOT NULL,
	service   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Client certificates, by the SHA-256 of their DER, in hex.
CREATE TABLE certificates (
	fingerprint TEXT NOT NULL PRIMARY KEY,
	principal   TEXT NOT NULL,
	created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
