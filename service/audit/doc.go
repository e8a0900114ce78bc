// Package audit keeps the audit trail: an append-only log of records in the shape of AWS CloudTrail, made
// tamper-evident by a Merkle tree whose checkpoints are signed by a key in the token.
//
// # What it protects
//
// The truth about what was asked and answered, against whoever may write the folder afterwards: an
// operator who would rather a record were not there, an intruder, a failing disk. Once a checkpoint
// covers a record, nobody without the signing key can change, remove, reorder or insert one below
// it unseen; Verify needs the folder and the public key only.
//
// It trusts the process that writes (it can lie before it signs), the token that signs, and the
// file system to sync when it says so. It cannot tell that a whole folder was put back to an
// earlier, honest state: for that, compare with a checkpoint kept elsewhere (Config.Checkpointed
// gives each one away, VerifyConfig.Known takes one).
//
// # What is proven when
//
//   - Append has returned nil: the record is on the disk, or, if it tells of no change, in the
//     operating system's hands and on the disk within Config.SyncWithin; it is chained by hash to
//     every record before it, and every required output has it.
//   - A checkpoint covers it: the record and its place are signed for. Checkpoints are made every
//     Config.CheckpointEvery records, Config.CheckpointWithin after the last one if there are
//     new records, when a file is full, when Checkpoint is called, by Close and Rotate, and by
//     Open when it finds an unsealed tail.
//   - In between it belongs to the unsealed tail. Accidental damage (a flipped bit, a lost line)
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
// A leaf of the tree is a line without its newline. The line is the record with three members behind CloudTrail's:
//
//	"logIndex":7,"logBatch":5,"logHash":"<base64>"}
//
// logIndex is the record's number from 0; logBatch is the index of the first record that may not
// have been on the disk by then; logHash is SHA-256(the logHash of the line before, 32 bytes | the
// bytes of this line before ,"logHash"), where the line before the first is taken to hold
// SHA-256("verenc-audit/1" | origin). A line has at most 65,535 bytes, so that a server of
// tlog-tiles entry bundles could be put before the folder; bundles are not stored, since they would
// say everything twice.
//
// Of what is not synced there is never more than 4 MiB. So only that much of the last file can be
// torn by a crash, and logBatch tells whether a damaged line can be part of it: Open cuts such a
// line and what follows, and refuses the folder for any other damage. While a file is written it
// ends in blanks, for records to come (Config.Reserve); they are white space to readers of JSON
// Lines, count for nothing, and are cut when the file is full or the log closed. Files that end in
// .tmp are writes that a crash broke off, or, in the folder cut, what Open cut; they count for
// nothing.
//
// A log keeps every record: parts of it cannot be removed, and no mode prunes it. Where retention
// has an end, close the log at the end of a period, archive its folder, and begin another one with
// another origin.
//
// What is written today can be verified by every later version.
package audit
