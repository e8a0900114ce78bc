-- sqlite/0012_approvals.sql tells what is what.
CREATE TABLE guards (
	account    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	document   TEXT COLLATE "C" NOT NULL CHECK (document::json IS NOT NULL),
	changed_at BIGINT NOT NULL
);

CREATE TABLE approval_requests (
	number     BIGINT NOT NULL PRIMARY KEY,
	account    TEXT COLLATE "C" NOT NULL,
	digest     TEXT COLLATE "C" NOT NULL,
	requester  TEXT COLLATE "C" NOT NULL,
	state      TEXT COLLATE "C" NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	details    TEXT COLLATE "C" NOT NULL CHECK (details::json IS NOT NULL)
);

CREATE INDEX approval_requests_of_account ON approval_requests (account, number);
CREATE INDEX approval_requests_of_requester ON approval_requests (requester, expires_at);
CREATE INDEX approval_requests_pending ON approval_requests (digest) WHERE state = 'PENDING';

CREATE TABLE approvals (
	request  BIGINT NOT NULL REFERENCES approval_requests (number) ON DELETE CASCADE,
	approver TEXT COLLATE "C" NOT NULL,
	at       BIGINT NOT NULL,
	evidence TEXT COLLATE "C" NOT NULL CHECK (evidence::json IS NOT NULL),
	PRIMARY KEY (request, approver)
);
