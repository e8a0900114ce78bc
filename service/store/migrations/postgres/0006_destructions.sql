-- sqlite/0013_destructions.sql tells what is what.
CREATE TABLE destructions (
	id     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	region TEXT COLLATE "C" NOT NULL,
	key_id TEXT COLLATE "C" NOT NULL,
	at     BIGINT NOT NULL,
	signed BYTEA NOT NULL
);
CREATE INDEX destructions_at ON destructions (at, id);
