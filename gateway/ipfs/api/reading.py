"""`cat`, `ls`, `refs`, `resolve`: what is there, by path."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from chain.cids import DAG_PB, Cid
from chain.net.transport import Buffer
from gateway.ipfs.api.call import Call, Data, Lines, Reply, Value
from gateway.ipfs.api.errors import ApiError, BadCall
from gateway.ipfs.api.node import Node
from gateway.ipfs.api.paths import cid_text, content_path
from gateway.ipfs.codecs import dagpb, unixfs
from gateway.ipfs.codecs.links import links
from gateway.ipfs.errors import BlockError, NotFound
from gateway.ipfs.index.reader import BlockReader
from gateway.ipfs.web.stream import size_of
from gateway.ipfs.web.walk import Content, Entity, Folder, Walker

REFS_MAX = 1_000_000
_TYPES = {"directory": 1, "file": 2, "symlink": 4}


async def cat(node: Node, call: Call) -> Reply:
    """The bytes of files, one behind the other."""
    call.argument(0, "ipfs-path")
    offset, length = call.number("offset", "o"), call.number("length", "l", default=1 << 62)
    found = [await file_at(node, path) for path in call.arguments]
    ranges = []
    for entity in found:
        size = size_of(entity)
        start = min(offset, size)
        end = min(start + length, size)
        offset, length = offset - start, length - (end - start)
        ranges.append((entity, start, end))
    total = sum(end - start for _, start, end in ranges)
    return Data(_pieces(node, ranges), size=total)


async def _pieces(
    node: Node, ranges: list[tuple[Content, int, int]]
) -> AsyncGenerator[Buffer, None]:
    for entity, start, end in ranges:
        async for part in node.content(entity, start, end):
            yield part


async def file_at(node: Node, path: str) -> Content:
    """The file at a path. Raises ApiError, IpfsError."""
    entity = (await node.resolve(content_path(path))).entity
    if isinstance(entity, Folder):
        raise ApiError("this dag node is a directory")
    if not isinstance(entity, Content):
        raise ApiError("this dag node is no UnixFS file")
    return entity


async def ls(node: Node, call: Call) -> Reply:
    """The entries of directories; of a file its blocks."""
    call.argument(0, "ipfs-path")
    resolve = call.flag("resolve-type", default=True)
    if call.flag("stream", "s"):
        return Lines(_ls_lines(node, call, resolve))
    objects = []
    for path in call.arguments:
        entries = [entry async for entry in _entries(node, call, path, resolve)]
        objects.append({"Hash": path, "Links": entries})
    return Value({"Objects": objects})


async def _ls_lines(node: Node, call: Call, resolve: bool) -> AsyncGenerator[Any, None]:
    for path in call.arguments:
        async for entry in _entries(node, call, path, resolve):
            yield {"Objects": [{"Hash": path, "Links": [entry]}]}


async def _entries(
    node: Node, call: Call, path: str, resolve: bool
) -> AsyncGenerator[dict[str, Any], None]:
    entity, walker = (await node.resolve(content_path(path))).entity, node.walker()
    if isinstance(entity, Folder):
        found = list(await walker.entries(entity))
    elif entity.cid.codec == DAG_PB:
        found = list(dagpb.decode(await walker.reader.block(entity.cid)).links)
    else:
        found = []
    for link in found:
        kind, size, target, more = 0, link.size, "", dict[str, Any]()
        if resolve:
            kind, size, target, more = await described(walker, link.cid)
        yield {
            "Name": link.name,
            "Hash": cid_text(call, link.cid),
            "Size": size,
            "Type": kind,
            "Target": target,
            **more,
        }


async def described(walker: Walker, cid: Cid) -> tuple[int, int, str, dict[str, Any]]:
    """(Kubo's number of its type, size, symlink's target, attributes) of what a CID is."""
    try:
        entity: Entity = await walker.entity(cid)
    except NotFound:
        return 0, 0, "", {}
    if cid.codec != DAG_PB:
        return (2, size_of(entity), "", {}) if isinstance(entity, Content) else (0, 0, "", {})
    try:
        data = unixfs.decode(dagpb.decode(await walker.reader.block(cid)).data or b"")
    except BlockError:
        return 0, 0, "", {}
    more = attributes(data)
    if isinstance(entity, Folder):
        return 1, 0, "", more
    if data.kind is unixfs.Kind.SYMLINK:
        return 4, 0, (data.data or b"").decode("utf-8", "replace"), more
    return 2, size_of(entity) if isinstance(entity, Content) else 0, "", more


def attributes(data: unixfs.Data) -> dict[str, Any]:
    """Mode and time as Kubo's JSON has them, where a node has them."""
    out: dict[str, Any] = {}
    if data.mode is not None:
        out["Mode"] = f"{data.mode & 0o7777:04o}"
    if data.mtime is not None:
        out["Mtime"], nanoseconds = data.mtime
        if nanoseconds:
            out["MtimeNsecs"] = nanoseconds
    return out


async def refs(node: Node, call: Call) -> Reply:
    """The links of blocks, with `recursive` of all below them."""
    call.argument(0, "ipfs-path")
    form = "<src> -> <dst>" if call.flag("edges", "e") else call.text("format", default="<dst>")
    depth = call.number("max-depth", default=-1, least=-1)
    if not call.flag("recursive", "r"):
        depth = 1
    roots = [(await node.resolve(content_path(p))).roots[-1] for p in call.arguments]
    return Lines(_refs(node, call, roots, form, depth))


async def _refs(
    node: Node, call: Call, roots: list[Cid], form: str, depth: int
) -> AsyncGenerator[Any, None]:
    unique, reader = call.flag("unique", "u"), node.reader()
    seen: set[bytes] = set()
    waiting = [(root, depth) for root in reversed(roots)]
    count = 0
    while waiting:
        cid, left = waiting.pop()
        if left == 0:
            continue
        below = []
        for name, child in await _named_links(reader, cid):
            if unique and child.raw in seen:
                continue
            seen.add(child.raw)
            count += 1
            if count > REFS_MAX:
                raise ApiError(f"more than {REFS_MAX} references")
            text = form.replace("<src>", cid_text(call, cid)).replace("<linkname>", name)
            yield {"Ref": text.replace("<dst>", cid_text(call, child)), "Err": ""}
            below.append((child, left - 1))
        waiting += reversed(below)


async def _named_links(reader: BlockReader, cid: Cid) -> list[tuple[str, Cid]]:
    block = await reader.block(cid)
    if cid.codec == DAG_PB:
        return [(link.name, link.cid) for link in dagpb.decode(block).links]
    return [("", child) for child in links(cid, block)]


async def resolve(node: Node, call: Call) -> Reply:
    """Where a path leads, as `/ipfs/CID`."""
    path = content_path(call.argument(0, "name"))
    if path.namespace == "ipns" and not path.segments and not call.flag("recursive", default=True):
        raise BadCall("only recursive resolution is served here")
    found = await node.resolve(path)
    rest = "".join(f"/{name}" for name in found.remainder)
    return Value({"Path": f"/ipfs/{cid_text(call, found.roots[-1])}{rest}"})


COMMANDS: Mapping[str, Any] = {"cat": cat, "ls": ls, "refs": refs, "resolve": resolve}
