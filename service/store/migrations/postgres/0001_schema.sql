-- What migrations/sqlite make in SQLite, up to its schema 8; their comments tell what is what. Text is compared byte by byte
-- (COLLATE "C"), as there: lists are in that order. Documents of JSON are kept as they were written: type TEXT, not JSONB.
-- The type JSON is only asked whether they are JSON.
CREATE TABLE keys (
	region      TEXT COLLATE "C" NOT NULL,
	id          TEXT COLLATE "C" NOT NULL,
	account     TEXT COLLATE "C" NOT NULL,
	spec        TEXT COLLATE "C" NOT NULL,
	usage       TEXT COLLATE "C" NOT NULL,
	origin      TEXT COLLATE "C" NOT NULL,
	state       TEXT COLLATE "C" NOT NULL,
	description TEXT COLLATE "C" NOT NULL,
	policy      TEXT COLLATE "C" NOT NULL,
	created_at  BIGINT NOT NULL,
	deletion_at BIGINT,
	materials   TEXT COLLATE "C" NOT NULL CHECK (materials::json IS NOT NULL),
	tags        TEXT COLLATE "C" NOT NULL CHECK (tags::json IS NOT NULL),
	details     TEXT COLLATE "C" NOT NULL DEFAULT '{}' CHECK (details::json IS NOT NULL),
	due_at      BIGINT,
	key_store   TEXT COLLATE "C" NOT NULL DEFAULT '',
	changed_at  BIGINT NOT NULL DEFAULT 0,
	PRIMARY KEY (region, id)
);

CREATE INDEX keys_of_account ON keys (account, region, id) WHERE state NOT IN ('Creating', 'Deleting');
CREATE INDEX keys_creating ON keys (created_at) WHERE state = 'Creating';
CREATE INDEX keys_deleting ON keys (state) WHERE state = 'Deleting';
CREATE INDEX keys_pending ON keys (deletion_at) WHERE state = 'PendingDeletion';
CREATE INDEX keys_related ON keys (id, region) WHERE id LIKE 'mrk-%';
CREATE INDEX keys_due ON keys (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX keys_of_store ON keys (key_store) WHERE key_store <> '';
CREATE INDEX keys_changed ON keys (changed_at) WHERE key_store = '';

CREATE TABLE aliases (
	account    TEXT COLLATE "C" NOT NULL,
	region     TEXT COLLATE "C" NOT NULL,
	name       TEXT COLLATE "C" NOT NULL,
	key_id     TEXT COLLATE "C" NOT NULL,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL,
	PRIMARY KEY (account, region, name),
	FOREIGN KEY (region, key_id) REFERENCES keys (region, id) ON DELETE CASCADE
);

CREATE INDEX aliases_of_key ON aliases (region, key_id, name);

CREATE TABLE access_keys (
	id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	account       TEXT COLLATE "C" NOT NULL,
	principal     TEXT COLLATE "C" NOT NULL,
	sealed_secret BYTEA NOT NULL,
	enabled       BIGINT NOT NULL CHECK (enabled IN (0, 1)),
	created_at    BIGINT NOT NULL
);

CREATE INDEX access_keys_of_principal ON access_keys (principal, id);

CREATE TABLE service_objects (
	purpose    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	cka_id     BYTEA NOT NULL,
	created_at BIGINT NOT NULL,
	public     BYTEA,
	key_store  TEXT COLLATE "C" NOT NULL DEFAULT ''
);

CREATE TABLE grants (
	id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	region     TEXT COLLATE "C" NOT NULL,
	key_id     TEXT COLLATE "C" NOT NULL,
	account    TEXT COLLATE "C" NOT NULL,
	name       TEXT COLLATE "C" NOT NULL,
	grantee    TEXT COLLATE "C" NOT NULL,
	retiring   TEXT COLLATE "C" NOT NULL,
	issuer     TEXT COLLATE "C" NOT NULL,
	created_at BIGINT NOT NULL,
	terms      TEXT COLLATE "C" NOT NULL CHECK (terms::json IS NOT NULL),
	secret     BYTEA NOT NULL,
	FOREIGN KEY (region, key_id) REFERENCES keys (region, id) ON DELETE CASCADE
);

CREATE INDEX grants_of_key ON grants (region, key_id, id);
CREATE INDEX grants_retirable ON grants (region, retiring, id) WHERE retiring <> '';

CREATE TABLE key_stores (
	id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	account          TEXT COLLATE "C" NOT NULL,
	region           TEXT COLLATE "C" NOT NULL,
	name             TEXT COLLATE "C" NOT NULL,
	cluster          TEXT COLLATE "C" NOT NULL,
	trust_anchor     TEXT COLLATE "C" NOT NULL,
	sealed_password  BYTEA NOT NULL,
	connected        BIGINT NOT NULL CHECK (connected IN (0, 1)),
	connection_error TEXT COLLATE "C" NOT NULL,
	created_at       BIGINT NOT NULL,
	UNIQUE (account, region, name),
	UNIQUE (account, region, cluster)
);

CREATE TABLE wrapping_keys (
	cka_id     BYTEA NOT NULL PRIMARY KEY,
	expires_at BIGINT NOT NULL,
	key_store  TEXT COLLATE "C" NOT NULL DEFAULT ''
);

CREATE INDEX wrapping_keys_expiry ON wrapping_keys (expires_at);

CREATE TABLE key_uses (
	region     TEXT COLLATE "C" NOT NULL,
	key_id     TEXT COLLATE "C" NOT NULL,
	operation  TEXT COLLATE "C" NOT NULL,
	at         BIGINT NOT NULL,
	event_id   TEXT COLLATE "C" NOT NULL,
	request_id TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (region, key_id),
	FOREIGN KEY (region, key_id) REFERENCES keys (region, id) ON DELETE CASCADE
);

CREATE TABLE principals (
	arn        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	account    TEXT COLLATE "C" NOT NULL,
	kind       TEXT COLLATE "C" NOT NULL CHECK (kind IN ('user', 'role')),
	created_at BIGINT NOT NULL,
	details    TEXT COLLATE "C" NOT NULL CHECK (details::json IS NOT NULL)
);

CREATE TABLE access_key_uses (
	id        TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES access_keys (id) ON DELETE CASCADE,
	at        BIGINT NOT NULL,
	region    TEXT COLLATE "C" NOT NULL,
	service   TEXT COLLATE "C" NOT NULL
);

CREATE TABLE certificates (
	fingerprint TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	principal   TEXT COLLATE "C" NOT NULL,
	created_at  BIGINT NOT NULL
);

CREATE TABLE iv_leases (
	material TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	leased   BIGINT NOT NULL
);

CREATE TABLE pending_records (
	number BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	record TEXT COLLATE "C" NOT NULL CHECK (record::json IS NOT NULL)
);

CREATE TABLE tokens (
	serial  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	seen_at BIGINT NOT NULL
);

-- What servers tell each other of their changes; changes.go has more on it.
CREATE TABLE verenc_changes (
	writer TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	n      BIGINT NOT NULL,
	recent TEXT COLLATE "C" NOT NULL, -- JSON
	at     BIGINT NOT NULL
);

-- Which server does a work that only one may do at a time; exclusive.go has more on it.
CREATE TABLE verenc_leases (
	work   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	holder TEXT COLLATE "C" NOT NULL, -- empty: nobody
	epoch  BIGINT NOT NULL,
	beat   BIGINT NOT NULL
);
