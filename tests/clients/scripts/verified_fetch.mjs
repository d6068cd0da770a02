// @helia/verified-fetch: published objects by CID and IPNS name from a gateway that is not believed.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  CreateBucketCommand, DeleteBucketCommand, DeleteObjectCommand, HeadObjectCommand,
  PutObjectCommand, S3Client,
} from "@aws-sdk/client-s3";

Promise.withResolvers ??= () => { // Node.js 20
  let resolve, reject;
  const promise = new Promise((yes, no) => { resolve = yes; reject = no; });
  return { promise, resolve, reject };
};
const { createVerifiedFetch } = await import("@helia/verified-fetch");

const Bucket = process.env.BUCKET;
const gateway = process.env.IPFS_GATEWAY;
const client = new S3Client({
  endpoint: process.env.AWS_ENDPOINT_URL, region: "us-east-1", forcePathStyle: true,
});
await client.send(new CreateBucketCommand({ Bucket }));
const fetch = await createVerifiedFetch({
  gateways: [gateway], routers: [gateway], allowLocal: true, allowInsecure: true,
});
try {
  for (const Body of [Buffer.from(`small ${gateway}`), randomBytes((3 << 20) + 17)]) {
    const Metadata = { ipfs: "publish" };
    await client.send(new PutObjectCommand({ Bucket, Key: "k", Body, Metadata }));
    const { cid } = (await client.send(new HeadObjectCommand({ Bucket, Key: "k" }))).Metadata;
    const whole = await fetch(`ipfs://${cid}`);
    assert.equal(whole.status, 200);
    assert.ok(Buffer.from(await whole.arrayBuffer()).equals(Body));
    const named = await globalThis.fetch(
      `${process.env.IPFS_API}/api/v0/name/publish?arg=/ipfs/${cid}&ttl=1ms`, { method: "POST" },
    );
    const { Name } = await named.json();
    const again = await fetch(`ipns://${Name}`);
    assert.equal(again.status, 200);
    assert.ok(Buffer.from(await again.arrayBuffer()).equals(Body));
  }
} finally {
  await fetch.stop();
}
await client.send(new DeleteObjectCommand({ Bucket, Key: "k" }));
await client.send(new DeleteBucketCommand({ Bucket }));
