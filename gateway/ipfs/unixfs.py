"""UnixFS (https://specs.ipfs.tech/unixfs/): the data field of DAG-PB nodes, and file DAGs.

Profile `unixfs-v1-2025`: CIDv1, raw leaves of 1 MiB, 1,024 links a node, balanced; a file of one
leaf is that leaf.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from chain import varint
from chain.cids import RAW, SHA2_256, Cid
from gateway.ipfs import dagpb
from gateway.ipfs.errors import BlockError

LEAF_BYTES = 1 << 20
WIDTH = 1024
DIGEST_BYTES = 32
EMPTY_DIGEST = hashlib.sha256(b"").digest()


class Kind(IntEnum):
    """DataType of the UnixFS message."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    SHARD = 5


class Data(NamedTuple):
    """The UnixFS message."""

    kind: Kind
    data: bytes | None = None
    size: int | None = None
    block_sizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fan_out: int | None = None


DIRECTORY_DATA = b"\x08\x01"


def encode(message: Data) -> bytes:
    """The canonical bytes: fields in order, repeated ones unpacked."""
    out = [b"\x08", varint.encode(message.kind)]
    if message.data is not None:
        out += [b"\x12", varint.encode(len(message.data)), message.data]
    if message.size is not None:
        out += [b"\x18", varint.encode(message.size)]
    for size in message.block_sizes:
        out += [b"\x20", varint.encode(size)]
    if message.hash_type is not None:
        out += [b"\x28", varint.encode(message.hash_type)]
    if message.fan_out is not None:
        out += [b"\x30", varint.encode(message.fan_out)]
    return b"".join(out)


def decode(raw: bytes) -> Data:
    """Read a UnixFS message; optional mode and mtime are skipped. Raises BlockError."""
    kind: Kind | None = None
    values: dict[int, int] = {}
    sizes: list[int] = []
    data: bytes | None = None
    at = 0
    while at < len(raw):
        tag, at = varint.decode(raw, at, BlockError)
        if tag in (0x12, 0x42):  # data, mtime
            length, at = varint.decode(raw, at, BlockError)
            if length > len(raw) - at:
                raise BlockError("UnixFS data is cut off")
            if tag == 0x12:
                data = raw[at : at + length]
            at += length
            continue
        value, at = varint.decode(raw, at, BlockError)
        if tag == 0x08:
            if value > Kind.SHARD:
                raise BlockError(f"UnixFS type {value}")
            kind = Kind(value)
        elif tag == 0x20:
            sizes.append(value)
        elif tag in (0x18, 0x28, 0x30, 0x38):
            values[tag] = value
        else:
            raise BlockError(f"UnixFS field {tag:#x}")
    if kind is None:
        raise BlockError("UnixFS data without a type")
    return Data(kind, data, values.get(0x18), tuple(sizes), values.get(0x28), values.get(0x30))


@dataclass(frozen=True, slots=True)
class FileDag:
    """A file's DAG without its leaves: the root, and the DAG-PB blocks from the leaves up."""

    root: Cid
    size: int
    total: int  # Tsize of a link to the root: all blocks below and the root itself
    nodes: tuple[tuple[Cid, bytes], ...]


class _Child(NamedTuple):
    cid: Cid
    size: int  # file bytes
    total: int  # block bytes


def leaf_count(size: int) -> int:
    """Leaves of a file of `size` bytes; an empty file has one."""
    return max(1, -(-size // LEAF_BYTES))


def leaf_cid(digest: bytes) -> Cid:
    """The CID of a leaf with this SHA2-256 digest."""
    return Cid.of(RAW, SHA2_256, digest)


def build_file(size: int, leaves: bytes) -> FileDag:
    """The DAG of a file from the packed SHA2-256 digests of its 1 MiB leaves.

    Raises ValueError if the digests are not as many as the size needs.
    """
    count = leaf_count(size)
    if len(leaves) != count * DIGEST_BYTES:
        raise ValueError(f"{len(leaves)} bytes of digests for a file of {size} bytes")
    level = [_Child(leaf_cid(digest), length, length) for digest, length in _leaves(size, leaves)]
    nodes: list[tuple[Cid, bytes]] = []
    while len(level) > 1:
        above = []
        for at in range(0, len(level), WIDTH):
            child, block = _parent(level[at : at + WIDTH])
            nodes.append((child.cid, block))
            above.append(child)
        level = above
    [root] = level
    return FileDag(root.cid, size, root.total, tuple(nodes))


def _leaves(size: int, leaves: bytes) -> Iterator[tuple[bytes, int]]:
    for index in range(leaf_count(size)):
        digest = leaves[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
        yield digest, min(LEAF_BYTES, size - index * LEAF_BYTES)


def _parent(children: list[_Child]) -> tuple[_Child, bytes]:
    size = sum(child.size for child in children)
    data = encode(Data(Kind.FILE, size=size, block_sizes=tuple(c.size for c in children)))
    block = dagpb.encode([dagpb.Link(c.cid, "", c.total) for c in children], data)
    total = len(block) + sum(child.total for child in children)
    return _Child(dagpb.cid_of(block), size, total), block
