-- sqlite/0014_break_glass.sql tells what is what.
CREATE TABLE break_glass_keys (
	number  BIGINT NOT NULL PRIMARY KEY,
	details TEXT COLLATE "C" NOT NULL
);
CREATE TABLE break_glass_openings (
	id        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	opened_at BIGINT NOT NULL,
	until_at  BIGINT NOT NULL,
	closed_at BIGINT,
	used_at   BIGINT,
	signed    BYTEA NOT NULL
);
CREATE INDEX break_glass_openings_at ON break_glass_openings (opened_at, id);
