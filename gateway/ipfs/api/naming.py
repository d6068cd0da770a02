"""`key …` and `name …`: keys of a bucket, and what is published under them."""

import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from gateway.ipfs.api.call import Call, Data, Lines, Reply, Value
from gateway.ipfs.api.errors import ApiError, BadCall
from gateway.ipfs.api.multipart import Part, parts
from gateway.ipfs.api.node import Node
from gateway.ipfs.api.paths import content_path
from gateway.ipfs.index.directories import Directories
from gateway.ipfs.ipns import keys
from gateway.ipfs.ipns.following import path_of
from gateway.ipfs.ipns.keybook import SELF, Key, Publication
from gateway.ipfs.ipns.name import InvalidName, IpnsName
from gateway.ipfs.web.request import ContentPath
from gateway.model import Bucket

LIFETIME_LEAST_NS, LIFETIME_MAX_NS = 60 * 10**9, 100 * 366 * 86400 * 10**9
_UNITS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_PIECE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)", re.ASCII)


async def generate(node: Node, call: Call) -> Reply:
    """A new key."""
    name = call.argument(0, "name")
    kind, bits = call.text("type", "t", default="ed25519"), call.number("size", "s", default=2048)
    made = await node.keys.generate(await node.bucket(call), name, kind, bits)
    return Value(_shown(call, made))


async def listed(node: Node, call: Call) -> Reply:
    """The keys of a bucket."""
    found = await node.keys.all(await node.bucket(call))
    return Value({"Keys": [_shown(call, key) for key in found]})


async def rename(node: Node, call: Call) -> Reply:
    """Another name for a key."""
    old, new = call.argument(0, "name"), call.argument(1, "newName")
    bucket = await node.bucket(call)
    key, replaced = await node.keys.rename(bucket, old, new, force=call.flag("force", "f"))
    id = _shown(call, key)["Id"]
    return Value({"Was": old, "Now": new, "Id": id, "Overwrite": replaced})


async def remove(node: Node, call: Call) -> Reply:
    """Forget keys."""
    call.argument(0, "name")
    bucket = await node.bucket(call)
    gone = [_shown(call, await node.keys.remove(bucket, name)) for name in call.arguments]
    return Value({"Keys": gone})


async def import_key(node: Node, call: Call) -> Reply:
    """Keep a key that was made elsewhere; the body holds it as libp2p's protobuf."""
    name, data = call.argument(0, "name"), bytearray()
    async for event in parts(call.content_type, call.body):
        if not isinstance(event, Part) and event is not None:
            data += event
            if len(data) > keys.SERIALISED_MAX:
                raise BadCall("a key is too long")
    kept = await node.keys.add(await node.bucket(call), name, keys.private_key(bytes(data)))
    return Value(_shown(call, kept))


async def export_key(node: Node, call: Call) -> Reply:
    """A key as libp2p's protobuf, in the clear."""
    key = await node.keys.secret(await node.bucket(call), call.argument(0, "name"))
    serialised = key.serialised()

    async def body() -> AsyncGenerator[bytes, None]:
        yield serialised

    return Data(body(), "application/octet-stream", len(serialised))


def _followed(node: Node, keeper: Bucket, place: str) -> str:
    """The path of `BUCKET/PREFIX` as of now, of a bucket of the key's owner. Raises ApiError."""
    name, _, prefix = place.partition("/")
    bucket = node.objects.bucket(name)
    if bucket.owner.id != keeper.owner.id:
        raise ApiError(f"bucket {name} belongs to another account than the key")
    return path_of(Directories(node.catalog, node.clock), bucket, prefix)


async def publish(node: Node, call: Call) -> Reply:
    """Let a key's name lead to a path; to `s3://BUCKET/PREFIX`, whatever is there."""
    argument = call.argument(0, "ipfs-path")
    follows = argument.removeprefix("s3://") if argument.startswith("s3://") else ""
    lifetime = duration_ns(call.text("lifetime", "t", default="48h"))
    ttl = duration_ns(call.text("ttl", default="5m"))
    if not LIFETIME_LEAST_NS <= lifetime <= LIFETIME_MAX_NS:
        raise BadCall("lifetime is from one minute to 100 years")
    sequence = call.number("sequence") if call.is_set("sequence") else None
    bucket = await node.bucket(call)
    path = content_path(_followed(node, bucket, follows) if follows else argument)
    if call.flag("resolve", default=True):
        await node.resolve(path)
    name = call.text("key", "k", default=SELF)
    key = await node.keys.find(bucket, name)
    made = await node.keys.publish(
        bucket,
        key.name,
        Publication(_text(path), lifetime, ttl, follows),
        sequence=sequence,
        v1=call.flag("v1compat", default=True),
    )
    return Value({"Name": _shown(call, key)["Id"], "Value": made.value})


async def resolve(node: Node, call: Call) -> Reply:
    """Where a name leads; without one, the bucket's `self`."""
    if call.arguments:
        name = call.arguments[0].removeprefix("ipns://").removeprefix("/ipns/").rstrip("/")
    else:
        name = str((await node.keys.find(await node.bucket(call), SELF)).id)
    root, *rest = name.split("/")
    path = ContentPath("ipns", root, tuple(part for part in rest if part), False)
    if call.flag("recursive", "r", default=True):
        path = (await node.names.resolve(path)).path
        text = _text(path)
    else:
        text = _one_step(node, root)
    value = {"Path": text}
    if not call.flag("stream", "s"):
        return Value(value)

    async def lines() -> AsyncGenerator[Any, None]:
        yield value

    return Lines(lines())


def _one_step(node: Node, name: str) -> str:
    try:
        record = node.keys.records.get(IpnsName.parse(name))
    except InvalidName as error:
        raise ApiError(f"{error}: domain names are resolved recursively") from None
    if record is None:
        raise ApiError("could not resolve name")
    return record.value


def duration_ns(text: str) -> int:
    """A duration as Go writes it: `1h30m`, `300ms`, `0`. Raises BadCall."""
    if text == "0":
        return 0
    pieces = _PIECE.findall(text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        raise BadCall(f"invalid duration {text[:40]!r}")
    return sum(round(float(number) * _UNITS[unit]) for number, unit in pieces)


def _text(path: ContentPath) -> str:
    return "/".join(["", path.namespace, path.root, *path.segments])


def _shown(call: Call, key: Key) -> dict[str, str]:
    base = call.text("ipns-base", default="base36")
    if base == "b58mh":
        return {"Name": key.name, "Id": key.id.peer_id}
    if base not in ("base36", "base32"):
        raise BadCall(f"ipns-base {base[:40]!r} is not known: base36, base32, b58mh are")
    return {"Name": key.name, "Id": str(key.id) if base == "base36" else str(key.id.cid)}


COMMANDS: Mapping[str, Any] = {
    "key/gen": generate,
    "key/list": listed,
    "key/ls": listed,
    "key/rename": rename,
    "key/rm": remove,
    "key/import": import_key,
    "key/export": export_key,
    "name/publish": publish,
    "name/resolve": resolve,
}
