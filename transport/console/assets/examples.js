// The keys that the examples are of. A fresh server has none, so that the page offers to make them.

import { call } from "./session.js";

const kinds = {
  "alias/example": {},
  "alias/example-sign": { KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY" },
  "alias/example-agree": { KeySpec: "ECC_NIST_P256", KeyUsage: "KEY_AGREEMENT" },
  "alias/example-hmac": { KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC" },
  "alias/example-kem": { KeySpec: "ML_KEM_768", KeyUsage: "ENCAPSULATE_DECAPSULATE" },
  "alias/example-import": { Origin: "EXTERNAL" },
  "alias/example-multi-region": { MultiRegion: true },
};

// Where an example has the id of a key, which no server has, the id is that of one of these keys.
const byOperation = {
  GetParametersForImport: "alias/example-import", ImportKeyMaterial: "alias/example-import", DeleteImportedKeyMaterial: "alias/example-import",
  ReplicateKey: "alias/example-multi-region", UpdatePrimaryRegion: "alias/example-multi-region",
};

const known = new Map(); // the ids of these keys, as far as this tab knows them, by alias

// withKnownKeys gives an example with the ids of the keys that are known, where it has the id of another.
export function withKnownKeys(schema, example) {
  const missing = missingKey(schema, example);
  return missing?.byId && known.has(missing.alias) ? { ...example, [missing.member]: known.get(missing.alias) } : example;
}

// missingKey finds a key of the example in a request: the member that names it, and the alias of the key to make.
export function missingKey({ operation, request: members, example }, request) {
  for (const m of members) {
    const name = request[m.name];
    if (m.shape !== "KeyIdType" || !name || name !== example[m.name]) continue;
    return { member: m.name, alias: kinds[name] ? name : byOperation[operation] ?? "alias/example", byId: !name.startsWith("alias/") };
  }
  return null;
}

// exampleKey makes the key of an alias, unless it is there, and gives its id.
export async function exampleKey(alias) {
  const { KeyMetadata } = (await described(alias)) ?? (await created(alias));
  known.set(alias, KeyMetadata.KeyId);
  return KeyMetadata.KeyId;
}

async function described(alias) {
  try {
    return await call("DescribeKey", { KeyId: alias });
  } catch (e) {
    if (e.name !== "NotFoundException") throw e;
    return null;
  }
}

async function created(alias) {
  const answer = await call("CreateKey", { Description: "For the examples of the documentation", ...kinds[alias] });
  await call("CreateAlias", { AliasName: alias, TargetKeyId: answer.KeyMetadata.KeyId });
  return answer;
}
