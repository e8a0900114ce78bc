// AWS Signature Version 4 with WebCrypto, for requests to the path / without a query.

import { fromText, toHex } from "./bytes.js";

const algorithm = "AWS4-HMAC-SHA256";
const hmac = { name: "HMAC", hash: "SHA-256" };

const importKey = (bytes) => crypto.subtle.importKey("raw", bytes, hmac, false, ["sign"]);

// secretKey makes a key of a secret access key, which nothing can read again.
export const secretKey = (secret) => importKey(fromText("AWS4" + secret));

const sign = async (key, text) => new Uint8Array(await crypto.subtle.sign("HMAC", key, fromText(text)));

const sha256 = async (bytes) => toHex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));

// timestamp is a time as X-Amz-Date has it.
export const timestamp = (date) => date.toISOString().replace(/[:-]|\.\d{3}/g, "");

// authorization gives the Authorization header of a POST to /. headers are those to sign, by their names in lower case,
// with host and x-amz-date among them; body is bytes.
export async function authorization({ key, accessKeyId, region, service, headers, body }) {
  const names = Object.keys(headers).sort();
  const canonical = ["POST", "/", ""];
  for (const name of names) canonical.push(`${name}:${headers[name].trim().replace(/ +/g, " ")}`);
  canonical.push("", names.join(";"), await sha256(body));

  const at = headers["x-amz-date"];
  const scope = [at.slice(0, 8), region, service, "aws4_request"];
  const toSign = [algorithm, at, scope.join("/"), await sha256(fromText(canonical.join("\n")))].join("\n");
  let signing = key;
  for (const part of scope) signing = await importKey(await sign(signing, part));
  const signature = toHex(await sign(signing, toSign));
  return `${algorithm} Credential=${accessKeyId}/${scope.join("/")}, SignedHeaders=${names.join(";")}, Signature=${signature}`;
}
