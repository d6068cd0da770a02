// minio-js: objects, streams in parts, lists, copies, tags, presigned URLs and forms.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import * as Minio from "minio";

const url = new URL(process.env.AWS_ENDPOINT_URL);
const bucket = process.env.BUCKET;
const client = new Minio.Client({
  endPoint: url.hostname, port: Number(url.port), useSSL: url.protocol === "https:",
  accessKey: process.env.AWS_ACCESS_KEY_ID, secretKey: process.env.AWS_SECRET_ACCESS_KEY,
  partSize: 5 << 20,
});
await client.makeBucket(bucket, "us-east-1");
assert.ok(await client.bucketExists(bucket));
await client.putObject(bucket, "a/é +", "small", { "x-amz-meta-who": "ann" });
const stat = await client.statObject(bucket, "a/é +");
assert.deepEqual([stat.size, stat.metaData.who], [5, "ann"]);
const body = randomBytes(12 << 20);
await client.putObject(bucket, "large", Readable.from([body]));
const parts = [];
for await (const piece of await client.getPartialObject(bucket, "large", 10 << 20)) parts.push(piece);
assert.ok(Buffer.concat(parts).equals(body.subarray(10 << 20)));
await client.setObjectTagging(bucket, "a/é +", { colour: "blue" });
assert.deepEqual(await client.getObjectTagging(bucket, "a/é +"), [{ Key: "colour", Value: "blue" }]);
const shared = await fetch(await client.presignedGetObject(bucket, "a/é +", 60));
assert.equal(await shared.text(), "small");
const policy = client.newPostPolicy();
policy.setBucket(bucket);
policy.setKey("form");
policy.setExpires(new Date(Date.now() + 60_000));
const { postURL, formData } = await client.presignedPostPolicy(policy);
const form = new FormData();
for (const [name, value] of Object.entries(formData)) form.append(name, value);
form.append("file", new Blob(["by form"]));
assert.equal((await fetch(postURL, { method: "POST", body: form })).status, 204);
const names = [];
for await (const item of client.listObjectsV2(bucket, "", true)) names.push(item.name);
assert.deepEqual(names.sort(), ["a/é +", "form", "large"]);
await client.removeObjects(bucket, names);
await client.removeBucket(bucket);
