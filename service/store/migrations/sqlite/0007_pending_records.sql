-- Audit records of commands, which wait for the server to put them into the log.
CREATE TABLE pending_records (
	number INTEGER PRIMARY KEY AUTOINCREMENT, -- never one that was there before
	record TEXT NOT NULL CHECK (json_valid(record))
);
