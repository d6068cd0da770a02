// aws-sdk-js v3: objects, streams in parts, pages, presigned URLs.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import {
  CreateBucketCommand, DeleteBucketCommand, DeleteObjectsCommand, GetObjectCommand,
  HeadObjectCommand, PutObjectCommand, S3Client, paginateListObjectsV2,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";

const Bucket = process.env.BUCKET;
const client = new S3Client({
  endpoint: process.env.AWS_ENDPOINT_URL, region: "us-east-1", forcePathStyle: true,
});
await client.send(new CreateBucketCommand({ Bucket }));
await client.send(new PutObjectCommand({
  Bucket, Key: "a/é +", Body: "small", Metadata: { who: "ann" }, ContentType: "text/plain",
}));
const head = await client.send(new HeadObjectCommand({ Bucket, Key: "a/é +" }));
assert.deepEqual([head.ContentLength, head.Metadata.who], [5, "ann"]);
const body = randomBytes(12 << 20);
const pieces = Readable.from((function* () {
  for (let at = 0; at < body.length; at += 100_000) yield body.subarray(at, at + 100_000);
})());
await new Upload({ client, params: { Bucket, Key: "large", Body: pieces } }).done();
const got = await client.send(new GetObjectCommand({ Bucket, Key: "large", ChecksumMode: "ENABLED" }));
assert.ok(Buffer.from(await got.Body.transformToByteArray()).equals(body));
for (let n = 0; n < 7; n++)
  await client.send(new PutObjectCommand({ Bucket, Key: `n/${n}`, Body: Buffer.alloc(n) }));
const keys = [];
for await (const page of paginateListObjectsV2({ client, pageSize: 4 }, { Bucket }))
  keys.push(...page.Contents.map((item) => item.Key));
assert.equal(keys.length, 9);
const gone = await client.send(new DeleteObjectsCommand({
  Bucket, Delete: { Objects: keys.map((Key) => ({ Key })) },
}));
assert.equal(gone.Deleted.length, 9);
await assert.rejects(client.send(new GetObjectCommand({ Bucket, Key: "large" })), { name: "NoSuchKey" });
await client.send(new DeleteBucketCommand({ Bucket }));
