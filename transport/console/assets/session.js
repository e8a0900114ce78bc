// Who is signed in, in this tab's memory alone, and requests signed as them.

import { fromText } from "./bytes.js";
import { authorization, secretKey, timestamp } from "./sigv4.js";

let credentials = null; // the secret is a CryptoKey in it, which can be used and not read
const listeners = [];

// signedIn tells the access key id, the region, and the ARN of the principal, or is null. With a client certificate there is
// no access key id.
export function signedIn() {
  if (!credentials) return null;
  const { accessKeyId, region, arn, sessionToken } = credentials;
  return { accessKeyId, region, arn, temporary: Boolean(sessionToken) };
}

// onChange has a function called when somebody signs in or out.
export const onChange = (listener) => listeners.push(listener);

function use(next) {
  credentials = next;
  for (const listener of listeners) listener();
}

// signIn asks the server whom the credentials are of. It fails with what is wrong with them.
export async function signIn({ accessKeyId, secret, sessionToken, region }) {
  await enter({ accessKeyId, key: await secretKey(secret), sessionToken, region });
}

export const signInByCertificate = (region) => enter({ region });

export const signOut = () => use(null);

async function enter(candidate) {
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const answer = await post(candidate, "sts", headers, "Action=GetCallerIdentity&Version=2011-06-15");
  const part = (name) => plain(new RegExp(`<${name}>([^<]*)</${name}>`).exec(answer.text)?.[1] ?? ""); // of XML
  if (answer.status === 200) return use({ ...candidate, arn: part("Arn") });
  const error = new Error(part("Message") || `The server answered with status ${answer.status}.`);
  error.name = part("Code");
  throw error;
}

const entities = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

// plain is a text of XML without escapes.
const plain = (text) => text.replace(/&(?:#(\d+)|(\w+));/g, (whole, code, name) => (code ? String.fromCodePoint(code) : entities[name] ?? whole));

// send calls an operation. It gives the status, the headers, the text of the body and the time in milliseconds.
export const send = (target, body) =>
  post(credentials, "kms", { "content-type": "application/x-amz-json-1.1", "x-amz-target": target }, body);

async function post({ accessKeyId, key, sessionToken, region }, service, headers, body) {
  const bytes = fromText(body);
  if (key) {
    headers["x-amz-date"] = timestamp(new Date());
    if (sessionToken) headers["x-amz-security-token"] = sessionToken;
    headers.authorization = await authorization({ key, accessKeyId, region, service, headers: { host: location.host, ...headers }, body: bytes });
  }
  const began = performance.now();
  const response = await fetch("/", {
    method: "POST", headers, body: bytes, cache: "no-store", redirect: "error",
    credentials: "same-origin", // a client certificate of the connection is one; there are no cookies
  });
  const text = await response.text();
  return { status: response.status, headers: [...response.headers], requestId: response.headers.get("x-amzn-requestid"), text, took: performance.now() - began };
}

// call calls an operation with a value, and gives the value of its answer. An error has the code as its name.
export const call = (operation, request) => invoke("TrentService." + operation, request);

// own does so with one of Verenc's own operations.
export const own = (operation, request) => invoke("Verenc." + operation, request);

async function invoke(target, request) {
  const answer = await send(target, JSON.stringify(request));
  const value = answer.text === "" ? {} : JSON.parse(answer.text);
  if (answer.status === 200) return value;
  const error = new Error(value.message ?? "");
  error.name = value.__type ?? String(answer.status);
  throw error;
}
