"""`block …`: single blocks."""

import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, nullcontext
from typing import Any

from blake3 import blake3

from chain.cids import BLAKE3, DAG_CBOR, DAG_PB, IDENTITY, RAW, SHA2_256, SHA2_512, Cid
from gateway.catalog.interface import Batch, Change, Conflict, Delete, Equals, Space
from gateway.ipfs.api.call import Call, Data, Lines, Reply, Value, each, whole
from gateway.ipfs.api.errors import BadCall
from gateway.ipfs.api.multipart import files
from gateway.ipfs.api.node import Node
from gateway.ipfs.api.paths import cid_text, content_path
from gateway.ipfs.api.pinning import pinned_above
from gateway.ipfs.codecs.dagpb import BLOCK_BYTES_MAX
from gateway.ipfs.index import rows
from gateway.model import Bucket

CODECS = {
    "raw": RAW, "dag-pb": DAG_PB, "dag-cbor": DAG_CBOR, "dag-json": 0x0129, "cbor": 0x51,
    "json": 0x0200, "libp2p-key": 0x72, "git-raw": 0x78,
}  # fmt: skip
FORMATS = {"v0": DAG_PB, "protobuf": DAG_PB, "raw": RAW, "cbor": DAG_CBOR} | CODECS
_IDENTITY_MAX = 128


def sealed(codec: int, hash_name: str, block: bytes) -> Cid:
    """The CIDv1 of a block. Raises BadCall."""
    match hash_name:
        case "sha2-256":
            return Cid.of(codec, SHA2_256, hashlib.sha256(block).digest())
        case "sha2-512":
            return Cid.of(codec, SHA2_512, hashlib.sha512(block).digest())
        case "blake3":
            return Cid.of(codec, BLAKE3, blake3(block).digest())
        case "identity" if len(block) <= _IDENTITY_MAX:
            return Cid.of(codec, IDENTITY, block)
    raise BadCall(f"hash {hash_name[:40]!r} is not served here")


async def put(node: Node, call: Call) -> Reply:
    """Store blocks as they come."""
    form, name = call.text("format", "f"), call.text("cid-codec", default="raw")
    codec = FORMATS.get(form) if form else CODECS.get(name)
    if codec is None:
        raise BadCall(f"codec {form or name!r:.40} is not known: {', '.join(CODECS)} are")
    hash_name = call.text("mhtype", default="sha2-256")
    if call.number("mhlen", default=-1, least=-1) not in (-1, 64 if "512" in hash_name else 32):
        raise BadCall("a digest that is cut is not served here")
    version_0 = form == "v0" and hash_name == "sha2-256"
    bucket = await node.bucket(call)
    lines: list[Any] = []
    made: list[Cid] = []

    async def blocks() -> AsyncGenerator[tuple[Cid, bytes], None]:
        async with aclosing(files(call.content_type, call.body, BLOCK_BYTES_MAX)) as found:
            async for block in found:
                cid = sealed(codec, hash_name, block)
                if version_0:
                    cid = Cid(cid.raw[2:])
                made.append(cid)
                lines.append({"Key": cid_text(call, cid), "Size": len(block)})
                if cid.hash_code != IDENTITY:
                    yield cid, block

    async with node.pins.hold(bucket) if call.flag("pin") else nullcontext():
        await node.packs.store_all(bucket, (), blocks())
        for cid in made if call.flag("pin") else ():
            await node.pins.add(bucket, cid, partial=True)
    if not lines:
        raise BadCall('argument "data" is required')
    return Lines(each(lines))


async def get(node: Node, call: Call) -> Reply:
    """A block's bytes."""
    block = await _block(node, call)
    return Data(whole(block[1]), size=len(block[1]))


async def stat(node: Node, call: Call) -> Reply:
    """A block's CID and size."""
    cid, block = await _block(node, call)
    return Value({"Key": cid_text(call, cid), "Size": len(block)})


async def rm(node: Node, call: Call) -> Reply:
    """Take blocks out of the bucket's packs; other holders keep theirs."""
    call.argument(0, "cid")
    bucket = await node.bucket(call)
    force, quiet = call.flag("force", "f"), call.flag("quiet", "q")
    lines = []
    for text in call.arguments:
        cid = await node.root(content_path(text))
        why = await _removed(node, bucket, cid)
        if (why and not force) or not quiet:
            lines.append({"Hash": cid_text(call, cid)} | ({"Error": why} if why else {}))
    return Lines(each(lines))


async def _removed(node: Node, bucket: Bucket, cid: Cid) -> str:
    """Remove a block; why it stays."""
    place = rows.pins_prefix(bucket.id)
    with node.catalog.read() as reader:
        state = reader.get(Space.BLOCKS, place)
    if (pin := node.pins.get(bucket, cid)) is not None:
        return f"pinned: {'recursive' if pin.recursive else 'direct'}"
    if above := await pinned_above(node, bucket, cid):
        return f"pinned via {above}"
    if not node.index.is_packed(cid, bucket.id) or cid.hash_code == IDENTITY:
        return f"ipld: could not find {cid}"
    changes: list[Change] = []
    for uid, _ in node.index.packs_of(cid):
        with node.catalog.read() as reader:
            row = reader.get(Space.BLOCKS, rows.version_key(uid))
        if row is not None and rows.published_version(row).bucket_id == bucket.id:
            changes.append(Delete(Space.BLOCKS, rows.packed_key(cid.multihash, uid)))
    try:
        await node.catalog.commit(Batch([Equals(Space.BLOCKS, place, state)], changes))
    except Conflict:
        return "pins have changed meanwhile"
    return ""


async def _block(node: Node, call: Call) -> tuple[Cid, bytes]:
    path = content_path(call.argument(0, "cid"))
    cid = (await node.resolve(path)).roots[-1] if path.segments else await node.root(path)
    return cid, await node.block(cid)


COMMANDS: Mapping[str, Any] = {
    "block/put": put,
    "block/get": get,
    "block/stat": stat,
    "block/rm": rm,
}
