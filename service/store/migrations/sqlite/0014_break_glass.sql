-- The sealed credential: its public part only, as JSON. The one with the highest number is in force.
CREATE TABLE break_glass_keys (
	number  INTEGER NOT NULL PRIMARY KEY,
	details TEXT NOT NULL
) STRICT;

-- Its openings. What the credential has signed decides; the times beside it are for lists.
CREATE TABLE break_glass_openings (
	id        TEXT NOT NULL PRIMARY KEY,
	opened_at INTEGER NOT NULL,
	until_at  INTEGER NOT NULL,
	closed_at INTEGER,          -- before until_at
	used_at   INTEGER,          -- of the first request
	signed    BLOB NOT NULL     -- a signed note
) STRICT, WITHOUT ROWID;
CREATE INDEX break_glass_openings_at ON break_glass_openings (opened_at, id);
