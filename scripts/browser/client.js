// What a web page does with the AWS SDK for JavaScript; transport/browser_test.go serves it and hears what came of it.
import { CreateKeyCommand, DecryptCommand, DescribeKeyCommand, EncryptCommand, KMSClient } from "@aws-sdk/client-kms";

const context = { tenant: "blue" };

async function use({ region, credentials }, endpoint) {
  const kms = new KMSClient({ endpoint, region, credentials, maxAttempts: 1 });
  const made = await kms.send(new CreateKeyCommand({ Description: "of a browser" }));
  const sealed = await kms.send(
    new EncryptCommand({ KeyId: made.KeyMetadata.KeyId, Plaintext: new TextEncoder().encode("message"), EncryptionContext: context }),
  );
  const opened = await kms.send(new DecryptCommand({ CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context }));
  const result = { plaintext: new TextDecoder().decode(opened.Plaintext), requestId: opened.$metadata.requestId };
  try {
    await kms.send(new DescribeKeyCommand({ KeyId: "alias/none" }));
  } catch (e) {
    result.error = e.name;
    result.errorRequestId = e.$metadata.requestId;
  }
  return result;
}

const config = await (await fetch("/config.json")).json();
const results = {};
for (const [name, endpoint] of Object.entries(config.endpoints)) {
  results[name] = await use(config, endpoint).catch((e) => ({ failure: `${e.name}: ${e.message}` }));
}
await fetch("/results", { method: "POST", body: JSON.stringify(results) });
