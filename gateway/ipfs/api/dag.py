"""`dag …`: IPLD data, and whole DAGs as CARs."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from chain.cids import IDENTITY, Cid
from chain.net.transport import Buffer
from gateway.ipfs.api.blocks import sealed
from gateway.ipfs.api.call import Call, Data, Lines, Reply, Value, each, whole
from gateway.ipfs.api.errors import ApiError, BadCall
from gateway.ipfs.api.multipart import Part, PartKind, files, parts
from gateway.ipfs.api.node import Node
from gateway.ipfs.api.paths import cid_text, content_path
from gateway.ipfs.codecs import ipld
from gateway.ipfs.codecs.dagpb import BLOCK_BYTES_MAX
from gateway.ipfs.codecs.data_model import Value as IpldValue
from gateway.ipfs.errors import AlreadyPinned, BlockError, Incomplete
from gateway.ipfs.index.dag import Once, below
from gateway.ipfs.web.car_stream import CarWriter
from gateway.ipfs.web.request import CarOptions
from gateway.model import Bucket

CARS_MAX = 256
_TYPES = {
    "dag-json": "application/vnd.ipld.dag-json", "json": "application/json",
    "dag-cbor": "application/vnd.ipld.dag-cbor", "cbor": "application/cbor",
}  # fmt: skip


def _codec(name: str) -> int:
    if name not in ipld.CODECS:
        raise BadCall(f"codec {name[:40]!r} is not known: {', '.join(ipld.CODECS)} are")
    return ipld.CODECS[name]


async def put(node: Node, call: Call) -> Reply:
    """Store a value: read by one codec, written by another."""
    read_by = _codec(call.text("input-codec", default="dag-json"))
    written_by = _codec(call.text("store-codec", default="dag-cbor"))
    hash_name, pin = call.text("hash", default="sha2-256"), call.flag("pin")
    bucket = await node.bucket(call)
    made: list[Cid] = []

    async def blocks() -> AsyncGenerator[tuple[Cid, bytes], None]:
        async with aclosing(files(call.content_type, call.body, BLOCK_BYTES_MAX)) as found:
            async for raw in found:
                block = _converted(raw, read_by, written_by)
                made.append(sealed(written_by, hash_name, block))
                yield made[-1], block

    async with node.pins.hold(bucket):
        await node.packs.store_all(bucket, (), _stored(blocks()))
        if not made:
            raise BadCall('argument "object data" is required')
        if pin:
            for cid in made:
                await node.pins.add(bucket, cid, partial=True)
    return Lines(each([{"Cid": {"/": cid_text(call, cid)}} for cid in made]))


def _converted(raw: bytes, read_by: int, written_by: int) -> bytes:
    """A value's block. Raises BadCall."""
    try:
        value = ipld.decode(read_by, raw)
        block = raw if read_by == written_by else ipld.encode(written_by, value)
    except BlockError as error:
        raise BadCall(str(error)) from None
    if len(block) > BLOCK_BYTES_MAX:
        raise BadCall("a block is larger than 2 MiB")
    return block


async def _stored(
    blocks: AsyncGenerator[tuple[Cid, bytes], None],
) -> AsyncGenerator[tuple[Cid, bytes], None]:
    """Those that are not in their CIDs."""
    async with aclosing(blocks):
        async for cid, block in blocks:
            if cid.hash_code != IDENTITY:
                yield cid, block


async def get(node: Node, call: Call) -> Reply:
    """A value, or a part of it, by a codec."""
    name = call.text("output-codec", default="dag-json")
    codec = _codec(name)
    found = await node.resolve(content_path(call.argument(0, "ref")))
    cid = found.roots[-1]
    value = ipld.decode(cid.codec, await node.block(cid))
    for part in found.remainder:
        value = _part(value, part)
    try:
        data = ipld.encode(codec, value)
    except BlockError as error:
        raise ApiError(str(error)) from None
    return Data(whole(data), _TYPES.get(name, "text/plain"), len(data))


def _part(value: IpldValue, name: str) -> IpldValue:
    """A part of a value by a name that the walk has followed already."""
    if isinstance(value, dict):
        return value[name]
    assert isinstance(value, list)
    return value[int(name)]


async def resolve(node: Node, call: Call) -> Reply:
    """The block in which a path ends, and what of the path lies in it."""
    found = await node.resolve(content_path(call.argument(0, "ref")))
    cid = {"/": cid_text(call, found.roots[-1])}
    return Value({"Cid": cid, "RemPath": "/".join(found.remainder)})


async def export(node: Node, call: Call) -> Reply:
    """All blocks that a DAG reaches, as a CAR."""
    path = content_path(call.argument(0, "root"))
    root = (await node.resolve(path)).roots[-1] if path.segments else await node.root(path)
    walker = node.walker()
    frames = CarWriter(walker, CarOptions()).frames(await walker.resolve(root, ()))
    return Data(frames, "application/vnd.ipld.car")


async def stat(node: Node, call: Call) -> Reply:
    """How many blocks DAGs have, and bytes in them."""
    call.argument(0, "root")
    every, stats, total = Once(), [], 0
    unique = shared = 0
    for text in call.arguments[:CARS_MAX]:
        root = (await node.resolve(content_path(text))).roots[-1]
        size = count = 0
        async for cid, found in below(node.reader(), [root], Once()):
            if found is None:
                raise ApiError(f"block was not found locally (offline): {cid}")
            length = len(found.data) if hasattr(found, "data") else found.end - found.start
            size, count = size + length, count + 1
            if every(cid):
                unique, total = unique + 1, total + length
            else:
                shared += length
        stats.append({"Cid": cid_text(call, root), "Size": size, "NumBlocks": count})
    sums = {"TotalSize": total, "UniqueBlocks": unique, "SharedSize": shared}
    ratio = (total + shared) / total if total else 1
    return Value({"DagStats": stats, **sums, "Ratio": ratio})


async def import_cars(node: Node, call: Call) -> Reply:
    """Store the blocks of CARs, and pin their roots."""
    pin = call.flag("pin-roots", default=True)
    bucket = await node.bucket(call)
    lines: list[Any] = []
    blocks = size = 0
    async with node.pins.hold(bucket):
        async with aclosing(parts(call.content_type, call.body)) as events:
            roots: list[Cid] = []
            async for event in events:
                if not isinstance(event, Part) or event.kind is not PartKind.FILE:
                    continue
                imported = await node.packs.import_car(bucket, _until_end(events), partial=True)
                blocks, size = blocks + imported.blocks, size + imported.bytes
                roots += imported.roots
        for root in dict.fromkeys(roots):
            why = await _pinned(node, bucket, root) if pin else ""
            lines.append({"Root": {"Cid": {"/": cid_text(call, root)}, "PinErrorMsg": why}})
    if not blocks and not lines:
        raise BadCall('argument "path" is required')
    if call.flag("silent") or not pin:
        lines = []
    if call.flag("stats"):
        lines.append({"Stats": {"BlockCount": blocks, "BlockBytesCount": size}})
    return Lines(each(lines))


async def _pinned(node: Node, bucket: Bucket, root: Cid) -> str:
    """Pin a root; what was wrong."""
    try:
        await node.pins.add(bucket, root)
    except (Incomplete, AlreadyPinned) as error:
        return str(error)
    return ""


async def _until_end(events: AsyncIterator[Any]) -> AsyncIterator[Buffer]:
    """The bytes of the part that has begun."""
    async for event in events:
        if event is None:
            return
        yield event


COMMANDS: Mapping[str, Any] = {
    "dag/put": put,
    "dag/get": get,
    "dag/resolve": resolve,
    "dag/export": export,
    "dag/import": import_cars,
    "dag/stat": stat,
}
