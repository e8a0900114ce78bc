// What the latest answers had, in this tab's memory, for the fields of the next requests.

const kept = 20;
let blobs = [];

// rememberBlob keeps the member of an answer of an operation, and the encryption context of its request.
export function rememberBlob(name, operation, bytes, context) {
  blobs = [{ name, context, label: `${name} of ${operation}, ${new Date().toLocaleTimeString()}`, bytes }, ...blobs].slice(0, kept);
}

// latestBlob gives the latest member of this name with its bytes and context, if there is one.
export const latestBlob = (name) => blobs.find((b) => b.name === name);

export const recentBlobs = () => blobs;

// names are members of answers that other operations take.
const names = ["CustomKeyStoreId", "GrantId"];
const latest = new Map();

// rememberNames keeps those of an answer.
export function rememberNames(value) {
  for (const name of names) if (value[name]) latest.set(name, value[name]);
}

// withLatestNames gives an example with the latest of them in the place of its own.
export function withLatestNames(example) {
  const value = { ...example };
  for (const [name, v] of latest) if (name in value) value[name] = v;
  return value;
}

// forget is for when somebody signs out.
export function forget() {
  blobs = [];
  latest.clear();
}
