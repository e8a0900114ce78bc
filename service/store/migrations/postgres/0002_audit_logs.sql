-- sqlite/0009_audit_logs.sql tells what is what.
CREATE TABLE audit_logs (
	log     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	newest  BYTEA NOT NULL,
	seen    BYTEA NOT NULL,
	trouble TEXT COLLATE "C" NOT NULL,
	retired BYTEA NOT NULL
);
