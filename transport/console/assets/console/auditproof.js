// Verifies a proof that an audit log holds a record: a C2SP tlog-proof, whose extra data is the record. It does what
// VerifyProof of package service/audit does, so that nothing that the server says has to be believed.

import { fromText, toBase64, toText } from "../bytes.js";
import { openNote, readKey, refuse, sha256, strictBase64 } from "./signednote.js";

const header = "c2sp.org/tlog-proof@v1";
const maxProof = 128 * 1024; // bytes, as in service/audit
const maxHashes = 63; // of a proof, RFC 6962 section 2.1.1
const maxNumber = 2 ** 48; // as in service/audit

// verifyProof checks a proof against one verifier key. It gives what is proven, or fails with the reason.
export async function verifyProof(text, keyText) {
  const key = await readKey(keyText.trim());
  const proof = parseProof(text);
  const note = await openNote(proof.signed, key);
  const checkpoint = parseCheckpoint(note);
  if (checkpoint.origin !== key.name) refuse(`The checkpoint is of the log ${checkpoint.origin}, the key of ${key.name}.`);
  if (proof.index >= checkpoint.size) refuse("The checkpoint does not cover the record.");
  const root = await rootOf(proof, checkpoint.size);
  if (toBase64(root) !== checkpoint.root) refuse("The record and the hashes do not give the root that is signed: the record is not what the log holds at this place.");
  const record = toText(proof.record) ?? refuse("The record is not text.");
  return { origin: checkpoint.origin, index: proof.index, size: checkpoint.size, hashes: proof.hashes.length, record, algorithm: key.algorithm };
}

// parseProof reads a proof. A text that is read is the only encoding of what it says.
function parseProof(text) {
  if (fromText(text).length > maxProof) refuse("The proof is too long.");
  const end = text.indexOf("\n\n");
  const lines = text.slice(0, Math.max(end, 0)).split("\n");
  if (end < 0 || lines.length < 3 || lines.length > 3 + maxHashes || lines[0] !== header ||
    !lines[1].startsWith("extra ") || !lines[2].startsWith("index ")) refuse("This is not a proof of an audit record.");
  return {
    record: strictBase64(lines[1].slice("extra ".length)), index: number(lines[2].slice("index ".length)),
    hashes: lines.slice(3).map((l) => strictBase64(l, 32)), signed: text.slice(end + 2),
  };
}

function parseCheckpoint(text) {
  const lines = text.split("\n");
  if (lines.length < 4 || lines.length > 6 || lines.at(-1) !== "") refuse("This is not a checkpoint of an audit log.");
  if (lines.length > 4 && !lines[3].startsWith("key ") || lines.length > 5 && !lines[4].startsWith("after ")) refuse("This is not a checkpoint of an audit log.");
  strictBase64(lines[2], 32);
  return { origin: lines[0], size: number(lines[1]), root: lines[2] };
}

// rootOf computes the root of a tree of so many leaves from a leaf and the hashes beside its path (RFC 9162 section
// 2.1.3.2).
async function rootOf({ record, index, hashes }, size) {
  let hash = await sha256(Uint8Array.of(0, ...record));
  let leaf = index; // numbers have up to 48 bits: no bitwise operators, which have 32
  let last = size - 1;
  for (const beside of hashes) {
    if (last === 0) refuse("The proof has too many hashes.");
    if (leaf % 2 === 1 || leaf === last) {
      hash = await node(beside, hash);
      while (leaf % 2 === 0 && leaf !== 0) [leaf, last] = [leaf / 2, Math.floor(last / 2)];
    } else hash = await node(hash, beside);
    [leaf, last] = [Math.floor(leaf / 2), Math.floor(last / 2)];
  }
  if (last !== 0) refuse("The proof has too few hashes.");
  return hash;
}

const node = (left, right) => sha256(Uint8Array.of(1, ...left, ...right));

function number(text) {
  const value = Number(text);
  if (!/^(0|[1-9][0-9]{0,15})$/.test(text) || value > maxNumber) refuse("The proof has a part that is not a number.");
  return value;
}
