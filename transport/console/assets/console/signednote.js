// Signed notes (C2SP signed-note) and the keys of an audit log that sign them, verified in the browser as package
// service/audit does, so that nothing that the server says has to be believed.

import { fromBase64, fromText, toBase64, toHex } from "../bytes.js";

const ed25519 = 1; // C2SP signed-note, "Signature types"
const ecdsa = 2;

class ProofError extends Error {
  name = "ProofError";
}

export const refuse = (why) => {
  throw new ProofError(why);
};

// openNote gives the text of a signed note (C2SP signed-note), if the key has signed it.
export async function openNote(signed, key) {
  const end = signed.lastIndexOf("\n\n");
  if (end < 0 || !signed.endsWith("\n")) refuse("This is not a signed note.");
  const text = signed.slice(0, end + 1);
  let verified = false;
  for (const line of signed.slice(end + 2, -1).split("\n")) {
    const [, name, encoded] = /^\u2014 ([^ +]+) ([A-Za-z0-9+/=]+)$/.exec(line) ?? refuse("A line behind the text is not a signature.");
    const bytes = strictBase64(encoded);
    if (bytes.length < 5) refuse("A signature is too short.");
    if (name !== key.name || toHex(bytes.slice(0, 4)) !== key.id) continue; // another key's
    if (verified || !await key.verify(bytes.slice(4), fromText(text))) refuse("The signature is wrong: what is signed is not this text.");
    verified = true;
  }
  if (!verified) refuse("This key has not signed it.");
  return text;
}

// readKey reads a verifier key, name+id+base64, as verenc audit keys prints it.
export async function readKey(text) {
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

export const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

// strictBase64 reads base64 that has only one spelling.
export function strictBase64(text, length) {
  let bytes;
  try {
    bytes = fromBase64(text);
  } catch {
    refuse("There is a part that is not base64.");
  }
  if (toBase64(bytes) !== text || length !== undefined && bytes.length !== length) refuse("There is a part that is not base64 of the right length.");
  return bytes;
}
