-- details is JSON: what no query asks for. due_at is when a reconciler must look at the key (rotation, expiry).
ALTER TABLE keys ADD COLUMN details TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(details));
ALTER TABLE keys ADD COLUMN due_at INTEGER;
ALTER TABLE keys ADD COLUMN key_store TEXT NOT NULL DEFAULT '';

CREATE INDEX keys_related ON keys (id, region) WHERE id LIKE 'mrk-%';
CREATE INDEX keys_due ON keys (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX keys_of_store ON keys (key_store) WHERE key_store <> '';

CREATE TABLE grants (
	id         TEXT NOT NULL PRIMARY KEY,
	region     TEXT NOT NULL,
	key_id     TEXT NOT NULL,
	account    TEXT NOT NULL,
	name       TEXT NOT NULL,
	grantee    TEXT NOT NULL,
	retiring   TEXT NOT NULL,
	issuer     TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	terms      TEXT NOT NULL CHECK (json_valid(terms)),
	secret     BLOB NOT NULL, -- compared with grant tokens; of use only to whom the grant names
	FOREIGN KEY (region, key_id) REFERENCES keys (region, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX grants_of_key ON grants (region, key_id, id);
CREATE INDEX grants_retirable ON grants (region, retiring, id) WHERE retiring <> '';

CREATE TABLE key_stores (
	id               TEXT NOT NULL PRIMARY KEY,
	account          TEXT NOT NULL,
	region           TEXT NOT NULL,
	name             TEXT NOT NULL,
	cluster          TEXT NOT NULL,
	trust_anchor     TEXT NOT NULL,
	sealed_password  BLOB NOT NULL, -- by a token key, bound to id
	connected        INTEGER NOT NULL CHECK (connected IN (0, 1)),
	connection_error TEXT NOT NULL,
	created_at       INTEGER NOT NULL,
	UNIQUE (account, region, name),
	UNIQUE (account, region, cluster)
) STRICT, WITHOUT ROWID;

-- Key pairs in the token that GetParametersForImport made.
CREATE TABLE wrapping_keys (
	cka_id     BLOB NOT NULL PRIMARY KEY,
	expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX wrapping_keys_expiry ON wrapping_keys (expires_at);

CREATE TABLE key_uses (
	region     TEXT NOT NULL,
	key_id     TEXT NOT NULL,
	operation  TEXT NOT NULL,
	at         INTEGER NOT NULL,
	event_id   TEXT NOT NULL,
	request_id TEXT NOT NULL,
	PRIMARY KEY (region, key_id),
	FOREIGN KEY (region, key_id) REFERENCES keys (region, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
