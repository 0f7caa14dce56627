// The AWS SDK for JavaScript, told nothing but what the environment says.
import {
  DecryptCommand, EncryptCommand, GenerateDataKeyCommand, KMSClient, ListKeysCommand, NotFoundException, DescribeKeyCommand,
} from "@aws-sdk/client-kms";

const kms = new KMSClient({ maxAttempts: 1 });
const key = process.env.KEY;
const check = (condition, what) => {
  if (!condition) throw new Error(what);
};

const plain = new TextEncoder().encode("from JavaScript");
const made = await kms.send(new EncryptCommand({ KeyId: key, Plaintext: plain, EncryptionContext: { a: "b" } }));
const opened = await kms.send(new DecryptCommand({ CiphertextBlob: made.CiphertextBlob, EncryptionContext: { a: "b" } }));
check(new TextDecoder().decode(opened.Plaintext) === "from JavaScript", "what was encrypted is opened");
const data = await kms.send(new GenerateDataKeyCommand({ KeyId: key, KeySpec: "AES_256" }));
check(data.Plaintext.length === 32, "a data key of 32 bytes");
const listed = await kms.send(new ListKeysCommand({ Limit: 1 }));
check(listed.Keys.length === 1 && listed.Truncated === (listed.NextMarker !== undefined), "a page of keys");
try {
  await kms.send(new DescribeKeyCommand({ KeyId: "11111111-2222-3333-4444-555555555555" }));
  check(false, "there is no such key");
} catch (error) {
  check(error instanceof NotFoundException && error.$metadata.httpStatusCode === 400, `NotFoundException, not ${error}`);
}
console.log(JSON.stringify({ ok: true, key: made.KeyId }));
