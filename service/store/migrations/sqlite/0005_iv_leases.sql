-- Initialisation vectors that key materials may have used, leased in blocks.
CREATE TABLE iv_leases (
	material TEXT NOT NULL PRIMARY KEY,
	leased   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
