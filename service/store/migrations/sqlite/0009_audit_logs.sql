-- What servers tell each other of their audit logs. Whoever can write here can't forge it: checkpoints and
-- retirements are notes that a token key has signed.
CREATE TABLE audit_logs (
	log     TEXT NOT NULL PRIMARY KEY, -- its first public key, which has its name in it
	newest  BLOB NOT NULL,             -- its newest checkpoint
	seen    BLOB NOT NULL,             -- checkpoints that its server has seen of the others, as JSON
	trouble TEXT NOT NULL,             -- why its server can't go on with it; empty: it can
	retired BLOB NOT NULL              -- that it was retired; empty: it was not
) STRICT, WITHOUT ROWID;
