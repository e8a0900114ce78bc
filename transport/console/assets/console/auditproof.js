// Verifies a proof that an audit log holds a record: a C2SP tlog-proof, whose extra data is the record. It does what
// VerifyProof of package service/audit does, so that nothing that the server says has to be believed.

import { fromBase64, fromText, toBase64, toHex, toText } from "../bytes.js";

const header = "c2sp.org/tlog-proof@v1";
const maxProof = 128 * 1024; // bytes, as in service/audit
const maxHashes = 63; // of a proof, RFC 6962 section 2.1.1
const maxNumber = 2 ** 48; // as in service/audit
const ed25519 = 1; // C2SP signed-note, "Signature types"
const ecdsa = 2;

class ProofError extends Error {
  name = "ProofError";
}

const refuse = (why) => {
  throw new ProofError(why);
};

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

// openNote gives the text of a signed note (C2SP signed-note), if the key has signed it.
async function openNote(signed, key) {
  const end = signed.lastIndexOf("\n\n");
  if (end < 0 || !signed.endsWith("\n")) refuse("This is not a signed checkpoint.");
  const text = signed.slice(0, end + 1);
  let verified = false;
  for (const line of signed.slice(end + 2, -1).split("\n")) {
    const [, name, encoded] = /^\u2014 ([^ +]+) ([A-Za-z0-9+/=]+)$/.exec(line) ?? refuse("A line of the checkpoint is not a signature.");
    const bytes = strictBase64(encoded);
    if (bytes.length < 5) refuse("A signature of the checkpoint is too short.");
    if (name !== key.name || toHex(bytes.slice(0, 4)) !== key.id) continue; // another key's
    if (verified || !await key.verify(bytes.slice(4), fromText(text))) refuse("The signature of the checkpoint is wrong.");
    verified = true;
  }
  if (!verified) refuse("The checkpoint is not signed by this key.");
  return text;
}

// readKey reads a verifier key, name+id+base64, as verenc audit keys prints it.
async function readKey(text) {
  const [, name, id, encoded] = /^([!-*,-~]{1,255})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text) ?? refuse("This is not a public key of an audit log. verenc audit keys prints it: name+id+base64.");
  const bytes = strictBase64(encoded);
  const public_ = bytes.slice(1);
  if (bytes[0] === ed25519) {
    const named = Uint8Array.of(...fromText(name), 10, ...bytes);
    if (id !== toHex((await sha256(named)).slice(0, 4)) || public_.length !== 32) refuse("The id of the key is not that of its bytes.");
    const key = await imported("raw", public_, { name: "Ed25519" });
    return { name, id, algorithm: "Ed25519", verify: (signature, message) => crypto.subtle.verify("Ed25519", key, signature, message) };
  }
  if (bytes[0] === ecdsa) {
    if (id !== toHex((await sha256(public_)).slice(0, 4))) refuse("The id of the key is not that of its bytes.");
    const key = await imported("spki", public_, { name: "ECDSA", namedCurve: "P-256" });
    return { name, id, algorithm: "ECDSA on P-256 with SHA-256", verify: (signature, message) => {
      const plain = plainSignature(signature);
      return plain !== null && crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key, plain, message);
    } };
  }
  return refuse("The type of the key is not known: it is neither Ed25519 (1) nor ECDSA (2).");
}

async function imported(format, bytes, algorithm) {
  try {
    return await crypto.subtle.importKey(format, bytes, algorithm, false, ["verify"]);
  } catch {
    return refuse(`The browser can't read the key. It is for ${algorithm.name}${algorithm.namedCurve ? " on " + algorithm.namedCurve : ""}.`);
  }
}

// plainSignature turns Ecdsa-Sig-Value in DER (RFC 3279 section 2.2.3) into the two numbers of 32 bytes that WebCrypto
// takes. It gives null for what is not in DER.
function plainSignature(der) {
  const plain = new Uint8Array(64);
  if (der.length < 8 || der[0] !== 0x30 || der[1] !== der.length - 2 || der[1] > 0x7f) return null;
  let at = 2;
  for (const end of [32, 64]) {
    const length = der[at + 1];
    const value = der.slice(at + 2, at + 2 + length);
    if (der[at] !== 2 || value.length !== length || length < 1 || value[0] > 0x7f) return null;
    if (length > 1 && value[0] === 0 && value[1] <= 0x7f) return null; // not the shortest form
    const digits = value[0] === 0 ? value.slice(1) : value;
    if (digits.length > 32) return null;
    plain.set(digits, end - digits.length);
    at += 2 + length;
  }
  return at === der.length ? plain : null;
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

const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

// strictBase64 reads base64 that has only one spelling.
function strictBase64(text, length) {
  let bytes;
  try {
    bytes = fromBase64(text);
  } catch {
    refuse("The proof has a part that is not base64.");
  }
  if (toBase64(bytes) !== text || length !== undefined && bytes.length !== length) refuse("The proof has a part that is not base64 of the right length.");
  return bytes;
}

function number(text) {
  const value = Number(text);
  if (!/^(0|[1-9][0-9]{0,15})$/.test(text) || value > maxNumber) refuse("The proof has a part that is not a number.");
  return value;
}
