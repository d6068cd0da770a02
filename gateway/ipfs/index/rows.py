"""Keys and values of the IPFS rows in the catalog: docs/specs/unixfs-index.md."""

from collections.abc import Iterator
from typing import TypeVar

import msgspec
from blake3 import blake3

from chain import varint
from chain.cids import Cid
from gateway.records import CorruptRecord
from gateway.versions import CHANGED_KEYS

FORMAT = b"\x01"
LEAF, NODE, DIRECTORY, PACKED = b"\x01", b"\x02", b"\x03", b"\x04"
NODE_PLACE = b"\xff\xff\xff\xff"
DIRECTORY_PLACE = b"\xff\xff\xff\xfe"
PACK_PLACE = b"\xff\xff\xff\xfd"
LISTED_MAX = 1024  # multihashes of one row 01
ID_BYTES = 16
FOLDER_BYTES = 16
SUFFIX_BYTES = ID_BYTES + 4
SUFFIXES = {SUFFIX_BYTES, SUFFIX_BYTES + FOLDER_BYTES}  # of a block's keys

# Jobs
BUCKET_JOBS = b"ipfs-bucket/"
SWEEP_JOBS = b"ipfs-sweep/"


class PublishedVersion(msgspec.Struct, frozen=True, array_like=True):
    """Row 00 ‖ uid: a version whose blocks are served."""

    bucket: str
    bucket_id: bytes
    key: str
    size: int
    root: bytes  # binary CID; empty: a pack
    total: int  # Tsize of a link to the root


class TreeRow(msgspec.Struct, frozen=True, array_like=True):
    """Row 08 ‖ bucket id: the directories of a publishing bucket."""

    bucket: str
    root: bytes  # binary CID of the bucket's directory
    total: int  # Tsize of a link to it
    files: int = 0  # entries in all directories that are no directories
    changed_ns: int = 0  # of the last change: grows with each
    retired: int = 0  # bytes of replaced blocks that are still served
    sweeping: bool = False  # all of it goes, whatever the bucket's switch says now


class DirectoryRoot(msgspec.Struct, frozen=True, array_like=True):
    """Row 02 ‖ bucket id ‖ time: what the first releases kept of a directory. Only removed."""

    bucket: str
    prefix: str
    root: bytes
    multihashes: bytes  # of all its blocks, 34 bytes each


class Pin(msgspec.Struct, frozen=True, array_like=True):
    """Row 03 ‖ bucket id ‖ CID: what a collection leaves alone."""

    recursive: bool  # everything that is reached; else the one block
    name: str
    created_ns: int


class PinState(msgspec.Struct, frozen=True, array_like=True):
    """Row 03 ‖ bucket id: changes with every pin that comes, and with every collection."""

    pins: int = 0
    collector: bytes = b""


class BucketJob(msgspec.Struct, frozen=True, array_like=True):
    """Row `ipfs-bucket/` ‖ bucket id: how far a bucket is indexed (or swept)."""

    bucket: str
    on: bool
    start: bytes  # the key to go on from
    done: bool


class SweepJob(msgspec.Struct, frozen=True, array_like=True):
    """Row `ipfs-sweep/` ‖ uid: `gone` leaf rows of an unpublished large version are removed."""

    root: bytes  # empty: a pack, whose lists tell what is left
    gone: int


def leaf_key(multihash: bytes, uid: bytes, number: int) -> bytes:
    """A leaf of a version."""
    return multihash + uid + number.to_bytes(4, "big")


def node_key(multihash: bytes, uid: bytes) -> bytes:
    """A DAG-PB node of a version."""
    return multihash + uid + NODE_PLACE


def packed_key(multihash: bytes, uid: bytes) -> bytes:
    """A block of a pack."""
    return multihash + uid + PACK_PLACE


def packed(offset: int, length: int, number: int) -> bytes:
    """Where in its pack a block is, and which of the listed ones."""
    return PACKED + b"".join(
        (offset.to_bytes(8, "big"), length.to_bytes(4, "big"), number.to_bytes(4, "big"))
    )


def packed_range(value: bytes) -> tuple[int, int]:
    """[start, end) of a block in its pack."""
    start = int.from_bytes(value[1:9], "big")
    return start, start + int.from_bytes(value[9:13], "big")


def packed_number(value: bytes) -> int:
    """Which of the blocks listed of its pack a block is."""
    return int.from_bytes(value[13:17], "big")


def lists_prefix(uid: bytes) -> bytes:
    """The lists of a pack's blocks, in order."""
    return b"\x01" + uid


def list_key(uid: bytes, number: int) -> bytes:
    """A list of a pack's blocks."""
    return lists_prefix(uid) + number.to_bytes(4, "big")


def listed(value: bytes) -> Iterator[bytes]:
    """The multihashes of a list. Raises CorruptRecord."""
    at = 0
    while at < len(value):
        try:
            _, start = varint.decode(value, at)
            size, start = varint.decode(value, start)
        except varint.InvalidVarint as error:
            raise CorruptRecord(f"a list of a pack's blocks: {error}") from None
        yield value[at : start + size]
        at = start + size


def directory_key(multihash: bytes, bucket_id: bytes, folder: bytes) -> bytes:
    """A block of a directory of a bucket; `folder` names the directory (`folder_id`).

    The first releases had no `folder`.
    """
    return multihash + bucket_id + DIRECTORY_PLACE + folder


def folder_id(path: str) -> bytes:
    """16 bytes for a directory's path: empty, or with a slash at its end."""
    return blake3(path.encode("utf-8", "surrogateescape")).digest(FOLDER_BYTES)


def tree_key(bucket_id: bytes) -> bytes:
    """The directories of a bucket."""
    return b"\x08" + bucket_id


def weight_key(bucket_id: bytes, folder: bytes) -> bytes:
    """How many bytes the one block of a sharded directory would have."""
    return tree_key(bucket_id) + b"\x01" + folder


def retired_prefix(bucket_id: bytes) -> bytes:
    """Lists of replaced blocks; the time (ns, u64) follows."""
    return tree_key(bucket_id) + b"\x02"


def retired_key(bucket_id: bytes, multihash: bytes, folder: bytes) -> bytes:
    """Since when a block is replaced."""
    return tree_key(bucket_id) + b"\x03" + multihash + folder


def changed_prefix(bucket_id: bytes) -> bytes:
    """Keys of a bucket whose links the directories do not have yet, a queue."""
    return CHANGED_KEYS + bucket_id + b"/"


def version_key(uid: bytes) -> bytes:
    """The published version."""
    return b"\x00" + uid


def pins_prefix(bucket_id: bytes) -> bytes:
    """The state of a bucket's pins; before CIDs of the pins themselves."""
    return b"\x03" + bucket_id


def pin_key(bucket_id: bytes, cid: Cid) -> bytes:
    """A pin."""
    return pins_prefix(bucket_id) + cid.raw


def holds_prefix(bucket_id: bytes) -> bytes:
    """Writers under way whose blocks are not pinned yet, oldest first. No CID starts with 00."""
    return pins_prefix(bucket_id) + b"\x00"


def hold_key(bucket_id: bytes, began_ns: int, chance: bytes) -> bytes:
    """A writer under way."""
    return holds_prefix(bucket_id) + began_ns.to_bytes(8, "big") + chance


def requests_prefix(bucket_id: bytes) -> bytes:
    """Requests of the pinning service, oldest first."""
    return b"\x09" + bucket_id


def owned_prefixes(bucket_id: bytes) -> tuple[bytes, ...]:
    """Of rows that go with their bucket: pins, keys of names, the root of MFS, requests."""
    return tuple(kind + bucket_id for kind in (b"\x03", b"\x05", b"\x06", b"\x09"))


def mfs_key(bucket_id: bytes) -> bytes:
    """The root directory of a bucket's MFS."""
    return b"\x06" + bucket_id


def mfs_root(value: bytes) -> Cid:
    """Raises CorruptRecord."""
    if value[:1] != FORMAT:
        raise CorruptRecord(f"root of MFS of unknown format {value[:1].hex()}")
    return Cid(value[1:])


def roots_prefix(bucket_id: bytes) -> bytes:
    """The directory roots that the first releases kept of a bucket, oldest first."""
    return b"\x02" + bucket_id


def job_key(bucket_id: bytes) -> bytes:
    """The job of a whole bucket."""
    return BUCKET_JOBS + bucket_id


def after(prefix: bytes) -> bytes:
    """The first key behind all that start with `prefix` (which is not all FF)."""
    cut = prefix.rstrip(b"\xff")
    return cut[:-1] + bytes([cut[-1] + 1])


def pack(row: msgspec.Struct) -> bytes:
    """The value of a row."""
    return FORMAT + msgspec.msgpack.encode(row)


def published_version(value: bytes) -> PublishedVersion:
    """Raises CorruptRecord."""
    return unpacked(value, PublishedVersion)


def tree_row(value: bytes) -> TreeRow:
    """Raises CorruptRecord."""
    return unpacked(value, TreeRow)


def directory_root(value: bytes) -> DirectoryRoot:
    """Raises CorruptRecord."""
    return unpacked(value, DirectoryRoot)


def pin(value: bytes) -> Pin:
    """Raises CorruptRecord."""
    return unpacked(value, Pin)


def pin_state(value: bytes | None) -> PinState:
    """Raises CorruptRecord."""
    return PinState() if value is None else unpacked(value, PinState)


def bucket_job(value: bytes) -> BucketJob:
    """Raises CorruptRecord."""
    return unpacked(value, BucketJob)


R = TypeVar("R", bound=msgspec.Struct)


def unpacked(value: bytes, kind: type[R]) -> R:
    """A row of this kind. Raises CorruptRecord."""
    if value[:1] != FORMAT:
        raise CorruptRecord(f"{kind.__name__} of unknown format {value[:1].hex()}")
    try:
        return msgspec.msgpack.decode(memoryview(value)[1:], type=kind)
    except msgspec.MsgspecError as error:
        raise CorruptRecord(f"{kind.__name__}: {error}") from None


def sweep_job(value: bytes) -> SweepJob:
    """Raises CorruptRecord."""
    return unpacked(value, SweepJob)


def place_of(key: bytes, multihash: bytes) -> tuple[bytes, bytes]:
    """(uid or bucket id, four bytes that say what) of a block row."""
    suffix = key[len(multihash) :]
    return suffix[:ID_BYTES], suffix[ID_BYTES:SUFFIX_BYTES]
