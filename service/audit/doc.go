// Package audit keeps the audit trail: an append-only log of records in the shape of AWS CloudTrail, made
// tamper-evident by a Merkle tree whose checkpoints are signed by a key in the token.
//
// # What it protects
//
// It protects the truth about what was requested and answered from whoever may write to the folder
// later: an operator who wants to get rid of a record, an intruder, a failing disk. Once a
// checkpoint covers a record, nobody without the signing key can change, remove, reorder or insert
// a record before it without being detected. Verify needs only the folder and the public key.
//
// It trusts the process that writes (which can lie before it signs), the token that signs, and the
// file system to sync when it says so. It cannot detect that a whole folder was set back to an
// earlier, valid state: for that, compare it with checkpoints kept elsewhere (VerifyConfig.Known takes
// them, Config.Checkpointed receives each one). Package witness has the servers keep those of each other.
//
// # What is proven when
//
//   - Append has returned nil: the record is on the disk or, if it is of a request that changed
//     nothing, handed to the operating system and on the disk within Config.SyncWithin. It is
//     chained by hash to every record before it, and every required output has it.
//   - A checkpoint covers it: the record and its position are signed. Checkpoints are made every
//     Config.CheckpointEvery records, Config.CheckpointWithin after the last one if there are new
//     records, when a file is full, when Checkpoint is called, by Close and Rotate, and by Open
//     when it finds an unsealed tail.
//   - In between, it belongs to the unsealed tail. Accidental damage (a flipped bit, a lost line)
//     breaks the chain. But the chain has no key: Verify does not notice somebody who rewrites the
//     tail consistently, or cuts records off its end. It reports the tail's length, and outputs to
//     other machines close that gap.
//
// # The folder
//
//	checkpoint                      the latest checkpoint: C2SP tlog-checkpoint, a signed note
//	epoch/000000, 000001, ...       one signed checkpoint for each signing key, whose extension line "key <verifier
//	                                key>" names it; signed by that key and, from 000001 on, by the one before it
//	records/<20 digits>.jsonl       the records as JSON Lines; the name is the index of the first one
//	tile/<L>/<N>[.p/<W>]            the Merkle tree's hashes (C2SP tlog-tiles; RFC 6962 section 2.1, SHA-256)
//
// A leaf of the tree is a line without its newline. The line is the record, with three members
// after those of CloudTrail:
//
//	"logIndex":7,"logBatch":5,"logHash":"<base64>"}
//
// logIndex is the record's number, from 0. logBatch is the index of the first record that may not
// have been on the disk at that time. logHash is SHA-256(the logHash of the previous line, 32 bytes
// | the bytes of this line before ,"logHash"); before the first line stands
// SHA-256("verenc-audit/1" | origin). A line has at most 65,535 bytes, so that a server of
// tlog-tiles entry bundles could be put in front of the folder. Bundles are not stored, since they
// would repeat everything.
//
// At most 4 MiB are not synced at any time. So a crash can tear only that much of the last file,
// and logBatch tells whether a damaged line can be part of it: Open cuts such a line and
// everything after it, and refuses the folder for any other damage. While a file is being written,
// it ends in blanks for the next records (Config.Reserve). Readers of JSON Lines take them for
// white space; they do not count, and are cut when the file is full or the log is closed. Files
// whose names end in .tmp are writes that a crash interrupted or, in the folder cut, what Open has
// cut off; they do not count either.
//
// A log keeps every record: parts of it cannot be removed, and nothing prunes it. Where retention
// ends, close the log at the end of a period, archive its folder, and begin another log with
// another origin.
//
// Every later version can verify what is written today.
package audit
