-- Times are nanoseconds since 1970, UTC. Materials and tags are JSON, since they are read and written with their key.
CREATE TABLE keys (
	region      TEXT NOT NULL,
	id          TEXT NOT NULL,
	account     TEXT NOT NULL,
	spec        TEXT NOT NULL,
	usage       TEXT NOT NULL,
	origin      TEXT NOT NULL,
	state       TEXT NOT NULL,
	description TEXT NOT NULL,
	policy      TEXT NOT NULL,
	created_at  INTEGER NOT NULL,
	deletion_at INTEGER, -- end of the waiting period
	materials   TEXT NOT NULL CHECK (json_valid(materials)),
	tags        TEXT NOT NULL CHECK (json_valid(tags)),
	PRIMARY KEY (region, id)
) STRICT;

CREATE INDEX keys_of_account ON keys (account, region, id) WHERE state NOT IN ('Creating', 'Deleting');

-- Small, so that a reconciler reads only what it has to do.
CREATE INDEX keys_creating ON keys (created_at) WHERE state = 'Creating';
CREATE INDEX keys_deleting ON keys (state) WHERE state = 'Deleting';
CREATE INDEX keys_pending ON keys (deletion_at) WHERE state = 'PendingDeletion';

CREATE TABLE aliases (
	account    TEXT NOT NULL,
	region     TEXT NOT NULL,
	name       TEXT NOT NULL,
	key_id     TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	updated_at INTEGER NOT NULL,
	PRIMARY KEY (account, region, name),
	FOREIGN KEY (region, key_id) REFERENCES keys (region, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX aliases_of_key ON aliases (region, key_id, name);

CREATE TABLE access_keys (
	id            TEXT NOT NULL PRIMARY KEY,
	account       TEXT NOT NULL,
	principal     TEXT NOT NULL,
	sealed_secret BLOB NOT NULL, -- by a token key, bound to id
	enabled       INTEGER NOT NULL CHECK (enabled IN (0, 1)),
	created_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Token objects that serve the service itself.
CREATE TABLE service_objects (
	purpose    TEXT NOT NULL PRIMARY KEY,
	cka_id     BLOB NOT NULL,
	created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
