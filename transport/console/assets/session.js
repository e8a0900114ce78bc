// Who is signed in, in this tab's memory alone, and requests signed as them.

import { fromText } from "./bytes.js";
import { authorization, secretKey, timestamp } from "./sigv4.js";

let credentials = null; // the secret is a CryptoKey in it, which can be used and not read
const listeners = [];

// signedIn tells the access key id and the region, or null. With a client certificate there is no access key id.
export function signedIn() {
  return credentials && { accessKeyId: credentials.accessKeyId, region: credentials.region, temporary: Boolean(credentials.sessionToken) };
}

// onChange has a function called when somebody signs in or out.
export const onChange = (listener) => listeners.push(listener);

function use(next) {
  credentials = next;
  for (const listener of listeners) listener();
}

export async function signIn({ accessKeyId, secret, sessionToken, region }) {
  use({ accessKeyId, key: await secretKey(secret), sessionToken, region });
}

export const signInByCertificate = (region) => use({ region });

export const signOut = () => use(null);

// send calls an operation. It gives the status, the headers, the text of the body and the time in milliseconds.
export async function send(target, body) {
  const bytes = fromText(body);
  const headers = { "content-type": "application/x-amz-json-1.1", "x-amz-target": target };
  const { accessKeyId, key, sessionToken, region } = credentials;
  if (key) {
    headers["x-amz-date"] = timestamp(new Date());
    if (sessionToken) headers["x-amz-security-token"] = sessionToken;
    headers.authorization = await authorization({ key, accessKeyId, region, service: "kms", headers: { host: location.host, ...headers }, body: bytes });
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
