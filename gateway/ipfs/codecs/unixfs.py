"""UnixFS (https://specs.ipfs.tech/unixfs/): the data field of DAG-PB nodes, and file DAGs.

Profile `unixfs-v1-2025`: CIDv1, raw leaves of 1 MiB, 1,024 links a node, balanced; a file of one
leaf is that leaf.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from chain import varint
from chain.cids import DAG_PB, RAW, SHA2_256, Cid
from gateway.ipfs.codecs import dagpb
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
    mode: int | None = None  # permission bits
    mtime: tuple[int, int] | None = None  # seconds since 1970, nanoseconds


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
    if message.mode is not None:
        out += [b"\x38", varint.encode(message.mode)]
    if message.mtime is not None:
        time = _encode_time(*message.mtime)
        out += [b"\x42", varint.encode(len(time)), time]
    return b"".join(out)


def _encode_time(seconds: int, nanoseconds: int) -> bytes:
    out = b"\x08" + varint.encode(seconds)
    return out + b"\x15" + nanoseconds.to_bytes(4, "little") if nanoseconds else out


def decode(raw: bytes) -> Data:
    """Read a UnixFS message, sizes of blocks packed or not. Raises BlockError.

    An mtime before 1970 is read as none.
    """
    values: dict[int, int] = {}
    sizes: list[int] = []
    data: bytes | None = None
    mtime: tuple[int, int] | None = None
    at = 0
    while at < len(raw):
        tag, at = varint.decode(raw, at, BlockError)
        if tag in (0x12, 0x22, 0x42):  # data, packed sizes, mtime
            body, at = _decode_bytes(raw, at)
            if tag == 0x12:
                data = body
            elif tag == 0x22:
                sizes += _decode_packed(body)
            else:
                mtime = _decode_time(body)
            continue
        value, at = varint.decode(raw, at, BlockError)
        if tag == 0x20:
            sizes.append(value)
        elif tag in (0x08, 0x18, 0x28, 0x30, 0x38):
            values[tag] = value
        else:
            raise BlockError(f"UnixFS field {tag:#x}")
    kind = values.get(0x08)
    if kind is None:
        raise BlockError("UnixFS data without a type")
    if kind > Kind.SHARD:
        raise BlockError(f"UnixFS type {kind}")
    return Data(
        Kind(kind), data, values.get(0x18), tuple(sizes), values.get(0x28), values.get(0x30),
        values.get(0x38), mtime,
    )  # fmt: skip


def _decode_bytes(raw: bytes, at: int) -> tuple[bytes, int]:
    length, at = varint.decode(raw, at, BlockError)
    if length > len(raw) - at:
        raise BlockError("UnixFS data is cut off")
    return raw[at : at + length], at + length


def _decode_packed(raw: bytes) -> Iterator[int]:
    at = 0
    while at < len(raw):
        value, at = varint.decode(raw, at, BlockError)
        yield value


def _decode_time(raw: bytes) -> tuple[int, int] | None:
    """Seconds as a varint (ten bytes before 1970), then nanoseconds as four bytes, if any."""
    if raw[:1] != b"\x08":
        raise BlockError("a UnixFS time without seconds")
    if len(raw) >= 11 and raw[10] == 1 and min(raw[1:10]) >= 0x80:
        return None
    seconds, at = varint.decode(raw, 1, BlockError)
    if at == len(raw):
        return seconds, 0
    if raw[at : at + 1] != b"\x15" or len(raw) != at + 5:
        raise BlockError("a UnixFS time of another form")
    return seconds, int.from_bytes(raw[at + 1 :], "little")


@dataclass(frozen=True, slots=True)
class FileDag:
    """A file's DAG without its leaves: the root, and the DAG-PB blocks from the leaves up."""

    root: Cid
    size: int
    total: int  # Tsize of a link to the root: all blocks below and the root itself
    nodes: tuple[tuple[Cid, bytes], ...]


class Child(NamedTuple):
    """A part of a file: a leaf, or a node with all that is below it."""

    cid: Cid
    size: int  # file bytes
    total: int  # block bytes


# (codec, block) -> its CID.
Seal = Callable[[int, bytes], Cid]


class Balanced:
    """Nodes above leaves that come one by one: full nodes are made as soon as another leaf comes.

    Holds up to `width` children of each level.
    """

    def __init__(self, width: int = WIDTH, seal: Seal = lambda _, block: dagpb.cid_of(block)):
        self._width = width
        self._seal = seal
        self._levels: list[list[Child]] = [[]]

    def add(self, child: Child, level: int = 0) -> Iterator[tuple[Cid, bytes]]:
        """Put a leaf behind the others; the nodes that are whole now."""
        if level == len(self._levels):
            self._levels.append([])
        children = self._levels[level]
        if len(children) == self._width:
            parent, block = self._node(children, None, None)
            yield parent.cid, block
            children.clear()
            yield from self.add(parent, level + 1)
        self._levels[level].append(child)

    def finish(
        self, mode: int | None = None, mtime: tuple[int, int] | None = None
    ) -> Iterator[tuple[Child, bytes]]:
        """The nodes that are left, the root last; none where one leaf is all: it is the root."""
        level = 0
        while len(self._levels[level]) > 1 or level + 1 < len(self._levels):
            children = self._levels[level]
            if level + 1 == len(self._levels):
                yield self._node(children, mode, mtime)
                return
            parent, block = self._node(children, None, None)
            yield parent, block
            for cid, above in self.add(parent, level + 1):
                yield Child(cid, 0, 0), above
            level += 1

    def _node(
        self, children: list[Child], mode: int | None, mtime: tuple[int, int] | None
    ) -> tuple[Child, bytes]:
        size = sum(child.size for child in children)
        sizes = tuple(child.size for child in children)
        data = encode(Data(Kind.FILE, size=size, block_sizes=sizes, mode=mode, mtime=mtime))
        block = dagpb.encode([dagpb.Link(c.cid, "", c.total) for c in children], data)
        total = len(block) + sum(child.total for child in children)
        return Child(self._seal(DAG_PB, block), size, total), block


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
    balanced = Balanced()
    nodes: list[tuple[Cid, bytes]] = []
    root = Child(leaf_cid(leaves[:DIGEST_BYTES]), size, size)
    for digest, length in _leaves(size, leaves):
        nodes += balanced.add(Child(leaf_cid(digest), length, length))
    for root, block in balanced.finish():
        nodes.append((root.cid, block))
    return FileDag(root.cid, size, root.total, tuple(nodes))


def _leaves(size: int, leaves: bytes) -> Iterator[tuple[bytes, int]]:
    for index in range(leaf_count(size)):
        digest = leaves[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
        yield digest, min(LEAF_BYTES, size - index * LEAF_BYTES)
