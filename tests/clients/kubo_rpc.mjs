// kubo-rpc-client: files, directories, blocks, values, pins, the tree, keys and names.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { create, globSource } from "kubo-rpc-client";
import { CID } from "multiformats/cid";

const token = process.env.TOKEN;
const headers = token ? { authorization: `Bearer ${token}` } : {};
const ipfs = create({ url: process.env.IPFS_API, headers });
const all = async (source) => { const out = []; for await (const x of source) out.push(x); return out; };
const bytes = async (source) => Buffer.concat(await all(source));
const cid = (text) => CID.parse(text);

assert.match((await ipfs.version()).version, /^\d/);
assert.match((await ipfs.id()).id.toString(), /^12D3Koo/);
assert.deepEqual(await ipfs.swarm.peers(), []);

const hello = await ipfs.add("hello world");
assert.equal(hello.cid.toString(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
const old = await ipfs.add("hello world", { cidVersion: 0 });
assert.equal(old.cid.toString(), "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
assert.equal((await bytes(ipfs.cat(old.cid))).toString(), "hello world");

const large = randomBytes(5 << 20);
const told = [];
const added = await ipfs.add({ path: "large.bin", content: large }, { progress: (n) => told.push(n) });
assert.equal(told.at(-1), large.length);
assert.ok((await bytes(ipfs.cat(added.cid))).equals(large));
const some = await bytes(ipfs.cat(added.cid, { offset: 1048570, length: 20 }));
assert.ok(some.equals(large.subarray(1048570, 1048590)));

const files = [
  { path: "site/index.html", content: "<h1>home</h1>", mode: 0o600, mtime: { secs: 1700000000 } },
  { path: "site/é +/deep", content: "deep" },
  { path: "site/empty" },
];
const lines = await all(ipfs.addAll(files, { wrapWithDirectory: true }));
assert.equal(lines.at(-1).path, "");
const site = lines.find((line) => line.path === "site").cid;
const listed = await all(ipfs.ls(site));
assert.deepEqual(listed.map((x) => [x.name, x.type]), [["empty", "dir"], ["index.html", "file"], ["é +", "dir"]]);
assert.equal((await bytes(ipfs.cat(`/ipfs/${site}/é +/deep`))).toString(), "deep");
assert.ok((await bytes(ipfs.get(site))).includes("index.html"));
assert.equal(await ipfs.resolve(`/ipfs/${lines.at(-1).cid}/site`), `/ipfs/${site}`);
assert.ok((await all(ipfs.refs(site, { recursive: true }))).length >= 4);
const tree = await all(ipfs.addAll(globSource(process.env.TREE, "**/*"), { wrapWithDirectory: true }));
assert.ok((await bytes(ipfs.cat(`${tree.at(-1).cid}/${process.env.FILE}`))).length > 0);

const block = await ipfs.block.put(Buffer.from("a block"), { format: "raw" });
assert.equal(Buffer.from(await ipfs.block.get(block)).toString(), "a block");
assert.equal((await ipfs.block.stat(block)).size, 7);
await all(ipfs.block.rm(block));
await assert.rejects(ipfs.block.get(block));

const value = { text: "x", list: [1, 2], to: hello.cid, data: new Uint8Array([1, 2, 3]) };
const put = await ipfs.dag.put(value, { pin: true });
assert.deepEqual((await ipfs.dag.get(put)).value, value);
const json = await ipfs.dag.put({ a: 1 }, { storeCodec: "dag-json" });
assert.deepEqual((await ipfs.dag.get(json)).value, { a: 1 });
const end = await ipfs.dag.resolve(put, { path: "list/1" });
assert.deepEqual([end.cid.toString(), end.remainderPath], [put.toString(), "list/1"]);
const car = await bytes(ipfs.dag.export(site));
const roots = await all(ipfs.dag.import([car]));
assert.equal(roots[0].root.cid.toString(), site.toString());
assert.ok(!roots[0].root.pinErrorMsg);

const pinned = async (options) => (await all(ipfs.pin.ls(options))).map((pin) => pin.cid.toString());
assert.ok((await pinned({ type: "recursive" })).includes(site.toString()));
await ipfs.pin.rm(site);
assert.ok(!(await pinned({ type: "recursive" })).includes(site.toString()));
await ipfs.pin.add(site, { name: "my site" });
const [named] = await all(ipfs.pin.ls({ paths: [site], names: true }));
assert.deepEqual([named.type, named.name], ["recursive", "my site"]);
await all(ipfs.repo.gc());
assert.ok((await ipfs.repo.stat()).numObjects > 0n);

await ipfs.files.mkdir("/a/b", { parents: true });
await ipfs.files.write("/a/b/f", "0123456789", { create: true, mode: 0o640 });
await ipfs.files.write("/a/b/f", "xy", { offset: 4 });
assert.equal((await bytes(ipfs.files.read("/a/b/f"))).toString(), "0123xy6789");
assert.equal((await bytes(ipfs.files.read("/a/b/f", { offset: 2, length: 3 }))).toString(), "23x");
const stat = await ipfs.files.stat("/a/b/f");
assert.deepEqual([stat.type, stat.size, stat.mode], ["file", 10, 0o640]);
await ipfs.files.cp(`/ipfs/${site}`, "/a/site");
await ipfs.files.mv("/a/b/f", "/a/g");
const entries = await all(ipfs.files.ls("/a"));
assert.deepEqual(entries.map((x) => [x.name, x.type]), [["b", "directory"], ["g", "file"], ["site", "directory"]]);
assert.ok(cid((await ipfs.files.flush("/a")).toString()));
await assert.rejects(ipfs.files.rm("/a"), /use -r/);
await ipfs.files.rm("/a", { recursive: true });
await assert.rejects(ipfs.files.stat("/a"), /does not exist/);

const key = await ipfs.key.gen("mine", { type: "ed25519" });
assert.ok((await ipfs.key.list()).some((found) => found.name === "mine" && found.id === key.id));
await ipfs.name.publish(site, { key: "mine" });
const [path] = await all(ipfs.name.resolve(key.id));
assert.equal(path, `/ipfs/${site}`);
assert.equal((await bytes(ipfs.cat(`/ipns/${key.id}/é +/deep`))).toString(), "deep");
await ipfs.key.rm("mine");

await assert.rejects(create({ url: process.env.IPFS_API, headers: { authorization: "Bearer no" } }).version(), /403/);
console.log("ok", site.toString());
