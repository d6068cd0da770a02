"""`pin …`, `repo …`: what a bucket keeps, and what it lets go of."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from chain.cids import Cid
from gateway.catalog.interface import Space
from gateway.ipfs.api.call import Call, Lines, Reply, Value, each
from gateway.ipfs.api.errors import ApiError, BadCall
from gateway.ipfs.api.node import Node
from gateway.ipfs.api.paths import cid_text, content_path
from gateway.ipfs.errors import AlreadyPinned, BlockError, Incomplete, NotPinned
from gateway.ipfs.index import rows
from gateway.ipfs.index.collect import Overtaken
from gateway.ipfs.index.dag import Once, below, unbounded
from gateway.ipfs.index.packs import PREFIX
from gateway.ipfs.index.pins import Pin
from gateway.model import Bucket

PINS_MAX = 1_000_000
NAME_BYTES_MAX = 255
_PAGE = 1000
_KINDS = ("all", "direct", "indirect", "recursive")


async def _cid(node: Node, text: str) -> Cid:
    return (await node.resolve(content_path(text))).roots[-1]


async def add(node: Node, call: Call) -> Reply:
    """Keep what paths lead to, with `recursive` all below it."""
    call.argument(0, "ipfs-path")
    recursive, name = call.flag("recursive", "r", default=True), call.text("name", "n")
    if len(name.encode()) > NAME_BYTES_MAX:
        raise BadCall(f"the name of a pin has at most {NAME_BYTES_MAX} bytes")
    bucket = await node.bucket(call)
    pinned, count = [], 0
    for text in call.arguments:
        cid = await _cid(node, text)
        try:
            count += await node.pins.add(bucket, cid, recursive=recursive, name=name)
        except (Incomplete, AlreadyPinned) as error:
            raise ApiError(f"pin: {error}") from None
        pinned.append(cid_text(call, cid))
    if call.flag("progress"):
        return Lines(each([{"Progress": count}, {"Pins": pinned}]))
    return Value({"Pins": pinned})


async def rm(node: Node, call: Call) -> Reply:
    """Keep things no longer, as far as no other pin does."""
    call.argument(0, "ipfs-path")
    recursive = call.flag("recursive", "r", default=True)
    bucket = await node.bucket(call)
    gone = []
    for text in call.arguments:
        path = content_path(text)
        cid = await _cid(node, text) if path.segments else await node.root(path)
        await _unpin(node, bucket, cid, recursive)
        gone.append(cid_text(call, cid))
    return Value({"Pins": gone})


async def _unpin(node: Node, bucket: Bucket, cid: Cid, recursive: bool) -> None:
    pin = node.pins.get(bucket, cid)
    if pin is not None and pin.recursive and not recursive:
        raise ApiError(f"{cid} is pinned recursively")
    try:
        await node.pins.remove(bucket, cid)
    except NotPinned:
        raise ApiError("not pinned or pinned indirectly") from None


async def ls(node: Node, call: Call) -> Reply:
    """What is kept: by a pin of its own, or by one above it."""
    kind = call.text("type", "t", default="all")
    if kind not in _KINDS:
        raise BadCall(f"invalid type {kind[:40]!r}: {', '.join(_KINDS)} are")
    bucket = await node.bucket(call)
    wanted = _Wanted(kind, call.text("name", "n"), call.flag("names") or call.is_set("name", "n"))
    found = _named(node, bucket, call, wanted) if call.arguments else _all(node, bucket, wanted)
    if call.flag("stream", "s"):
        return Lines(_lines(call, found))
    keys: dict[str, Any] = {}
    async for cid, entry in found:
        keys[cid_text(call, cid)] = entry
        if len(keys) > PINS_MAX:
            raise ApiError(f"more than {PINS_MAX} pins: list them by stream=true")
    return Value({"Keys": keys})


class _Wanted:
    """Which pins are asked for."""

    def __init__(self, kind: str, name: str, names: bool) -> None:
        self._kind, self._name, self._names = kind, name, names

    def takes(self, kind: str, name: str = "") -> bool:
        return self._kind in ("all", kind) and self._name in name

    def entry(self, kind: str, name: str = "") -> dict[str, str]:
        return {"Type": kind} | ({"Name": name} if self._names else {})


async def _lines(
    call: Call, found: AsyncGenerator[tuple[Cid, dict[str, str]], None]
) -> AsyncGenerator[Any, None]:
    async for cid, entry in found:
        yield {"Cid": cid_text(call, cid), **entry}


async def _own(node: Node, bucket: Bucket) -> AsyncGenerator[Pin, None]:
    after: Cid | None = None
    while page := node.pins.list(bucket, after=after, limit=_PAGE):
        for pin in page:
            yield pin
        after = page[-1].cid


async def _all(
    node: Node, bucket: Bucket, wanted: _Wanted
) -> AsyncGenerator[tuple[Cid, dict[str, str]], None]:
    async for pin in _own(node, bucket):
        kind = "recursive" if pin.recursive else "direct"
        if wanted.takes(kind, pin.name):
            yield pin.cid, wanted.entry(kind, pin.name)
    if wanted.takes("indirect"):
        async for cid, _ in node.pins.indirect(bucket):
            if node.pins.get(bucket, cid) is None:
                yield cid, wanted.entry("indirect")


async def _named(
    node: Node, bucket: Bucket, call: Call, wanted: _Wanted
) -> AsyncGenerator[tuple[Cid, dict[str, str]], None]:
    for text in call.arguments:
        cid = await _cid(node, text)
        pin = node.pins.get(bucket, cid)
        if pin is not None:
            kind = "recursive" if pin.recursive else "direct"
            if wanted.takes(kind, pin.name):
                yield cid, wanted.entry(kind, pin.name)
                continue
        elif wanted.takes("indirect") and (above := await pinned_above(node, bucket, cid)):
            yield cid, wanted.entry(f"indirect through {cid_text(call, above)}")
            continue
        raise ApiError(f"path '{text}' is not pinned")


async def pinned_above(node: Node, bucket: Bucket, cid: Cid) -> Cid | None:
    """A recursive pin that reaches this block, if there is one."""
    async for block, root in node.pins.indirect(bucket):
        if block.multihash == cid.multihash:
            return root
    return None


async def update(node: Node, call: Call) -> Reply:
    """Pin one thing in place of another."""
    texts = (call.argument(0, "from-path"), call.argument(1, "to-path"))
    old, new = [await _cid(node, text) for text in texts]
    bucket = await node.bucket(call)
    pin = node.pins.get(bucket, old)
    if pin is None or not pin.recursive:
        raise ApiError("'from' cid was not recursively pinned already")
    try:
        await node.pins.add(bucket, new, name=pin.name)
    except Incomplete as error:
        raise ApiError(f"pin: {error}") from None
    if call.flag("unpin", default=True) and new != old:
        await _unpin(node, bucket, old, True)
    return Value({"Pins": [cid_text(call, old), cid_text(call, new)]})


async def verify(node: Node, call: Call) -> Reply:
    """Whether all that recursive pins reach is here and as its name says."""
    return Lines(_verified(node, call, await node.bucket(call)))


async def _verified(node: Node, call: Call, bucket: Bucket) -> AsyncGenerator[Any, None]:
    verbose = call.flag("verbose")
    async for pin in _own(node, bucket):
        bad: list[dict[str, str]] = []
        if pin.recursive:
            bad = [
                {"Cid": cid_text(call, cid), "Err": why}
                async for cid, why in _damaged(node, pin.cid)
            ]
        if bad or verbose:
            yield {"Cid": cid_text(call, pin.cid), "Ok": not bad, "BadNodes": bad}


async def _damaged(node: Node, root: Cid) -> AsyncGenerator[tuple[Cid, str], None]:
    """(block, what is wrong with it) of all that is reached."""
    reader = unbounded(node.index, node.clock)
    try:
        async for cid, found in below(reader, [root], Once()):
            if found is None:
                yield cid, "block was not found locally (offline)"
            elif not cid.matches(await reader.bytes_of(found)):
                yield cid, "the block is not what its CID says"
    except BlockError as error:
        yield root, str(error)


# ------------------------------------------------------------------ the repository
async def gc(node: Node, call: Call) -> Reply:
    """Let go of what no pin and no tree reaches; a line for each block."""
    dropped: list[Cid] = []
    try:
        await node.collector.collect(await node.bucket(call), grace_ns=0, dropped=dropped.append)
    except Overtaken:
        raise ApiError("another collection has begun") from None
    quiet = call.flag("quiet", "q") or call.flag("silent")
    lines = [] if quiet else [{"Key": {"/": cid_text(call, cid)}} for cid in dropped]
    return Lines(each(lines))


async def repo_stat(node: Node, call: Call) -> Reply:
    """What the bucket's packs hold."""
    size = count = 0
    bucket = await node.bucket(call)
    only_size = call.flag("size-only")
    start: bytes | None = b""
    while start is not None:
        page = node.objects.list_objects(bucket, prefix=PREFIX, start=start, limit=_PAGE)
        for version in page.objects:
            size += version.size
            if not only_size:
                count += sum(1 for _ in packed(node, version.uid))
        start = page.next_start
        await node.clock.sleep(0)
    found = {"RepoSize": size, "StorageMax": 0, "NumObjects": count}
    return Value({**found, "RepoPath": f"s3://{bucket.name}", "Version": "cumulus@1"})


def packed(node: Node, uid: bytes) -> list[bytes]:
    """The multihashes of a pack's blocks."""
    prefix = rows.lists_prefix(uid)
    with node.catalog.read() as reader:
        lists = reader.scan(Space.BLOCKS, prefix, rows.after(prefix), PINS_MAX)
    return [multihash for _, value in lists for multihash in rows.listed(value)]


async def repo_version(_node: Node, _call: Call) -> Reply:
    """The form of what is stored."""
    return Value({"Version": "cumulus@1"})


async def refs_local(node: Node, call: Call) -> Reply:
    """The blocks of the bucket's packs, as raw CIDs."""
    return Lines(_local(node, call, await node.bucket(call)))


async def _local(node: Node, call: Call, bucket: Bucket) -> AsyncGenerator[Any, None]:
    start: bytes | None = b""
    while start is not None:
        page = node.objects.list_objects(bucket, prefix=PREFIX, start=start, limit=_PAGE)
        for version in page.objects:
            for multihash in packed(node, version.uid):
                yield {"Ref": cid_text(call, Cid(b"\x01\x55" + multihash)), "Err": ""}
        start = page.next_start


COMMANDS: Mapping[str, Any] = {
    "pin/add": add,
    "pin/rm": rm,
    "pin/ls": ls,
    "pin/update": update,
    "pin/verify": verify,
    "refs/local": refs_local,
    "repo/gc": gc,
    "repo/stat": repo_stat,
    "repo/version": repo_version,
}
