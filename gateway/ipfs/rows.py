"""Keys and values of the IPFS rows in the catalog: docs/specs/unixfs-index.md."""

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from chain import varint
from gateway.records import CorruptRecord

FORMAT = b"\x01"
LEAF, NODE, DIRECTORY, PACKED = b"\x01", b"\x02", b"\x03", b"\x04"
NODE_PLACE = b"\xff\xff\xff\xff"
DIRECTORY_PLACE = b"\xff\xff\xff\xfe"
PACK_PLACE = b"\xff\xff\xff\xfd"
LISTED_MAX = 1024  # multihashes of one row 01
ID_BYTES = 16
SUFFIX_BYTES = ID_BYTES + 4

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


class DirectoryRoot(msgspec.Struct, frozen=True, array_like=True):
    """Row 02 ‖ bucket id ‖ time: a directory that was handed out, and what its blocks are."""

    bucket: str
    prefix: str
    root: bytes
    multihashes: bytes  # of all its blocks, 34 bytes each


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


def packed(offset: int, length: int) -> bytes:
    """Where in its pack a block is."""
    return PACKED + offset.to_bytes(8, "big") + length.to_bytes(4, "big")


def packed_range(value: bytes) -> tuple[int, int]:
    """[start, end) of a block in its pack."""
    start = int.from_bytes(value[1:9], "big")
    return start, start + int.from_bytes(value[9:13], "big")


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


def directory_key(multihash: bytes, bucket_id: bytes) -> bytes:
    """A block of a directory of a bucket."""
    return multihash + bucket_id + DIRECTORY_PLACE


def version_key(uid: bytes) -> bytes:
    """The published version."""
    return b"\x00" + uid


def roots_prefix(bucket_id: bytes) -> bytes:
    """The directory roots of a bucket, oldest first."""
    return b"\x02" + bucket_id


def job_key(bucket_id: bytes) -> bytes:
    """The job of a whole bucket."""
    return BUCKET_JOBS + bucket_id


def after(prefix: bytes) -> bytes:
    """The first key behind all that start with `prefix` (which is not all FF)."""
    cut = prefix.rstrip(b"\xff")
    return cut[:-1] + bytes([cut[-1] + 1])


def pack(row: PublishedVersion | DirectoryRoot | BucketJob | SweepJob) -> bytes:
    """The value of a row."""
    return FORMAT + msgspec.msgpack.encode(row)


def published_version(value: bytes) -> PublishedVersion:
    """Raises CorruptRecord."""
    return _unpack(value, PublishedVersion)


def directory_root(value: bytes) -> DirectoryRoot:
    """Raises CorruptRecord."""
    return _unpack(value, DirectoryRoot)


def bucket_job(value: bytes) -> BucketJob:
    """Raises CorruptRecord."""
    return _unpack(value, BucketJob)


R = TypeVar("R", PublishedVersion, DirectoryRoot, BucketJob, SweepJob)


def _unpack(value: bytes, kind: type[R]) -> R:
    if value[:1] != FORMAT:
        raise CorruptRecord(f"{kind.__name__} of unknown format {value[:1].hex()}")
    try:
        return msgspec.msgpack.decode(memoryview(value)[1:], type=kind)
    except msgspec.MsgspecError as error:
        raise CorruptRecord(f"{kind.__name__}: {error}") from None


def sweep_job(value: bytes) -> SweepJob:
    """Raises CorruptRecord."""
    return _unpack(value, SweepJob)


def place_of(key: bytes, multihash: bytes) -> tuple[bytes, bytes]:
    """(uid or bucket id, four bytes that say what) of a block row."""
    suffix = key[len(multihash) :]
    return suffix[:ID_BYTES], suffix[ID_BYTES:]
