-- What restricts every caller of an account but break-glass: package policy, Evaluate.
CREATE TABLE guards (
	account    TEXT NOT NULL PRIMARY KEY,
	document   TEXT NOT NULL CHECK (json_valid(document)),
	changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Calls that need approvals: package approval. A server of an earlier version makes none, and asks no guard.
CREATE TABLE approval_requests (
	number     INTEGER NOT NULL PRIMARY KEY,
	account    TEXT NOT NULL,
	digest     TEXT NOT NULL, -- of the call
	requester  TEXT NOT NULL,
	state      TEXT NOT NULL, -- PENDING, REJECTED or USED
	created_at INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	details    TEXT NOT NULL CHECK (json_valid(details))
) STRICT;

CREATE INDEX approval_requests_of_account ON approval_requests (account, number);
CREATE INDEX approval_requests_of_requester ON approval_requests (requester, expires_at);
CREATE INDEX approval_requests_pending ON approval_requests (digest) WHERE state = 'PENDING';

CREATE TABLE approvals (
	request  INTEGER NOT NULL REFERENCES approval_requests (number) ON DELETE CASCADE,
	approver TEXT NOT NULL,
	at       INTEGER NOT NULL,
	evidence TEXT NOT NULL CHECK (json_valid(evidence)), -- with the approver's signature
	PRIMARY KEY (request, approver)
) STRICT, WITHOUT ROWID;
