"""What the object path keeps in catalog rows: MessagePack arrays behind a format byte.

Fields are only ever added at the end. See docs/specs/catalog-records.md.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from gateway.catalog.interface import KEY_MAX
from gateway.model import Extra

FORMAT = b"\x01"
# Of a VersionRow as it is written now; those of FORMAT are read as they are.
VERSION_FORMAT = b"\x02"
_ID_CHANCE = 10  # random bytes of an ordered id
_MD5_TEXT = re.compile("[0-9a-f]{32}")
_VERSION_ID = re.compile("[0-9a-f]{32}")
# Longest escaped object key: 16 bytes of bucket id before it, 00 00 and 16 bytes of id behind it.
ESCAPED_MAX = KEY_MAX - 34
STORAGE_CLASS = "x-amz-storage-class"
_SEQUENCE_MAX = (1 << 64) - 1


class CorruptRecord(Exception):
    """A row of our own that cannot be read: the catalog is damaged or newer than this program."""


class Row(msgspec.Struct, frozen=True, array_like=True):
    """Base of every record here."""


class AccountRow(Row, frozen=True, array_like=True):
    """ACCOUNTS: account id -> this."""

    id: str
    name: str
    email: str
    created_ns: int
    owner: bytes  # public encryption key
    capsules: tuple[bytes, ...]  # of the key-encryption keys, generation 1 first


class AccessKeyRow(Row, frozen=True, array_like=True):
    """ACCESS_KEYS: access key -> this."""

    account: str
    secret: str
    created_ns: int
    user: str = ""  # the lower-case name of the user who has it; "": the account itself
    active: bool = True


class BucketRow(Row, frozen=True, array_like=True):
    """BUCKETS: name -> this."""

    id: bytes
    owner: str
    created_ns: int
    region: str
    public: bool
    publishes: bool
    profile: str
    settings: tuple[str, ...] = ()  # names of those that its SettingsRow has
    versioning: str = ""  # as gateway.model.Bucket has it


class SettingsRow(Row, frozen=True, array_like=True):
    """META: `settings/` and bucket id -> this. One row, so that it goes with the bucket."""

    values: dict[str, bytes]


class KmsKeyRow(Row, frozen=True, array_like=True):
    """META: `kms/` and account id, 00, key id -> this."""

    created_ns: int
    generation: int  # of the account's key-encryption key
    key: bytes  # wrapped under it
    disabled: bool = False


class StoredChecksum(Row, frozen=True, array_like=True):
    """A checksum: algorithm by S3's name, digest, parts (0: of the full object)."""

    algorithm: str
    digest: bytes
    parts: int


class StreamRef(Row, frozen=True, array_like=True):
    """A stream as a version uses it."""

    id: bytes  # as stored, empty for the version's uid
    size: int
    key: bytes  # stream key wrapped under the version key
    commitment: bytes
    inline: bool  # the sealed bytes are in BODIES; else segments are in STREAMS


class StoredPart(Row, frozen=True, array_like=True):
    """A part of a finished multipart object."""

    number: int
    size: int
    etag: str
    modified_ns: int
    digest: bytes  # of the object's checksum algorithm; empty if there is none


class HeadRow(Row, frozen=True, array_like=True):
    """HEADS: bucket id ‖ object key -> what LIVE does not say of a key's versions.

    Sequences, 0 for none. There is no row where both are 0.
    """

    null: int  # of the version called null where that is not the LIVE one
    marker: int  # of the latest version where that is a delete marker


class ListedRow(Row, frozen=True, array_like=True):
    """The first fields of a VersionRow: all that a listing decodes."""

    version: str
    sequence: int
    size: int
    stored_etag: Any  # str | bytes (msgspec has no such union): see pack_etag
    modified_ns: int
    profile: str
    checksum: StoredChecksum | None
    uid: bytes  # 16 bytes (see ordered_id): the version's name on the ledger and in IPFS rows
    cid: str | None  # IPFS root, once known, in a publishing bucket

    @property
    def deleted(self) -> bool:
        """Whether it is a delete marker: no version has an empty ETag."""
        return not self.stored_etag

    @property
    def etag(self) -> str:
        """The ETag as S3 says it, without quotes. Raises CorruptRecord."""
        stored = self.stored_etag
        if isinstance(stored, bytes):
            return stored.hex()
        if isinstance(stored, str):
            return stored
        raise CorruptRecord("a version's ETag is neither text nor bytes")


class ClassedRow(ListedRow, frozen=True, array_like=True):
    """And those that it decodes in a bucket whose objects may have storage classes."""

    fid: bytes
    content_type: str
    headers: dict[str, str]


class VersionRow(ClassedRow, frozen=True, array_like=True):
    """LIVE and VERSIONS: one stored version."""

    metadata: dict[str, str]
    generation: int  # of the account's key-encryption key
    key: bytes  # version key wrapped under it
    lease: bytes
    charged: int
    complete: bool
    upload: bytes  # the upload that made it; empty for a PUT
    streams: tuple[StreamRef, ...]
    parts: tuple[StoredPart, ...]
    tags: dict[str, str] = {}
    extra: Extra | None = None


class StreamRow(Row, frozen=True, array_like=True):
    """STREAMS: stream id -> this."""

    references: int
    size: int
    profile: str
    k: int
    m: int
    segment_chunks: int
    fragments: bytes  # n ids of 32 bytes for each segment, in order


class UploadRow(Row, frozen=True, array_like=True):
    """UPLOADS: bucket id ‖ escaped key ‖ 00 00 ‖ upload id -> this."""

    started_ns: int
    content_type: str
    headers: dict[str, str]
    metadata: dict[str, str]
    algorithm: str
    composite: bool
    profile: str
    generation: int
    key: bytes  # version key of the object to be
    # Counts changes of the parts: who holds on this row holds on all of them.
    revision: int = 0
    tags: dict[str, str] = {}
    extra: Extra | None = None


class PartRow(Row, frozen=True, array_like=True):
    """PARTS: upload id ‖ number (u16) -> this."""

    size: int
    etag: str
    modified_ns: int
    digest: bytes  # of the upload's algorithm; empty if it has none
    stream: StreamRef
    lease: bytes
    charged: int
    complete: bool
    leaves: bytes  # SHA-256 of each MiB in a publishing bucket, else empty


class OutboxRow(Row, frozen=True, array_like=True):
    """OUTBOX: what the next object batch tells the ledger."""

    operation: str  # put | delete | store (receipts of a part)
    fid: bytes
    uid: bytes
    owner: bytes  # public encryption key
    lease: bytes
    size: int  # charged bytes
    time_ns: int
    receipts: tuple[bytes, ...]


class PublishJob(Row, frozen=True, array_like=True):
    """JOBS under `publish/`: a version to be read again for its IPFS leaves."""

    bucket: str
    bucket_id: bytes
    key: str
    uid: bytes


class JobRow(Row, frozen=True, array_like=True):
    """JOBS under `job/` and a job's name: how far it is (gateway/jobs.py)."""

    position: bytes = b""  # where the pass goes on; empty: between passes
    began_ns: int = 0  # of the present or the last pass
    ended_ns: int = 0  # of the last one that ended
    done: int = 0  # things ever done
    failures: int = 0  # steps that failed one after the other
    error: str = ""  # of the last of them


class ReleaseJob(Row, frozen=True, array_like=True):
    """JOBS under `release/`: the job is the last user of these streams."""

    streams: tuple[StreamRef, ...]


class QueuedRow(Row, frozen=True, array_like=True):
    """JOBS under `notify/` and `replicate/`, and the name of a queue: something to tell others."""

    event: str  # s3:ObjectCreated:Put …; of a replication what there is to do
    bucket: str
    key: str
    time_ns: int


class EventRow(QueuedRow, frozen=True, array_like=True):
    """A notification that waits to be delivered."""

    sequence: int = 0
    size: int | None = None  # None: the event does not tell
    etag: str = ""
    version: str = "null"
    region: str = ""
    owner: str = ""  # of the bucket
    rule: str = ""  # the configuration's id
    principal: str = ""  # account id
    address: str = ""
    request_id: str = ""
    host_id: str = ""


class ReplicaRow(QueuedRow, frozen=True, array_like=True):
    """A change that waits to be made at an endpoint. `event`: put, marker, tags."""

    bucket_id: bytes = b""
    version: str = "null"
    target: str = ""  # the bucket there
    storage_class: str = ""  # "": the version's own
    kms_key: str = ""


R = TypeVar("R", bound=Row)

_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


class _Decoders(dict[type[Row], Callable[[Any], Any]]):
    """A decoder for each kind of record, made when it is first asked for."""

    def __missing__(self, kind: type[Row]) -> Callable[[Any], Any]:
        decoder = self[kind] = msgspec.msgpack.Decoder(kind).decode
        return decoder


_decoders = _Decoders()


def encode(row: Row) -> bytes:
    """The row's bytes."""
    if not isinstance(row, ListedRow):
        return FORMAT + _encode(row)
    if isinstance(row, VersionRow) and len(row.streams) == 1 and row.streams[0].id == row.uid:
        own = msgspec.structs.replace(row.streams[0], id=b"")
        row = msgspec.structs.replace(row, streams=(own,))
    return VERSION_FORMAT + _encode(row)


def decode(kind: type[R], data: bytes) -> R:
    """Read a row back. Raises CorruptRecord."""
    versions = issubclass(kind, ListedRow)
    if data[:1] != FORMAT and not (versions and data[:1] == VERSION_FORMAT):
        raise CorruptRecord(f"{kind.__name__} of unknown format {data[:1].hex()}")
    try:
        row: R = _decoders[kind](memoryview(data)[1:])
    except msgspec.MsgspecError as error:
        raise CorruptRecord(f"{kind.__name__}: {error}") from None
    if isinstance(row, VersionRow) and len(row.streams) == 1 and not row.streams[0].id:
        msgspec.structs.force_setattr(row.streams[0], "id", row.uid)  # nobody has the row yet
    return row


@lru_cache(maxsize=4096)
def decode_kept(kind: type[R], data: bytes) -> R:
    """`decode` of rows that hardly ever change and are read at every request, by their bytes."""
    return decode(kind, data)


@lru_cache(maxsize=256)
def decode_version(data: bytes) -> VersionRow:
    """`decode` of a version; a GET finds it and then reads it."""
    return decode(VersionRow, data)


def decode_listed(data: bytes, decoder: Callable[[bytes], Any] = _decoders[ListedRow]) -> ListedRow:
    """`decode(ListedRow, data)` in half the time: a listing does it 1,000 times."""
    if data[0] not in (1, 2):
        raise CorruptRecord(f"ListedRow of unknown format {data[:1].hex()}")
    try:
        row: ListedRow = decoder(data[1:])
    except msgspec.MsgspecError as error:
        raise CorruptRecord(f"ListedRow: {error}") from None
    return row


def pack_etag(etag: str) -> str | bytes:
    """An MD5 in hex as its 16 bytes; any other ETag as it is."""
    return bytes.fromhex(etag) if _MD5_TEXT.fullmatch(etag) else etag


# ---------------------------------------------------------------- catalog keys
def ordered_id(now_ns: int, entropy: Callable[[int], bytes]) -> bytes:
    """16 bytes: the time in steps of 65 µs (u48 big-endian), then 10 random bytes.

    Rows of versions made one after the other lie side by side and fill their pages.
    """
    return now_ns.to_bytes(8, "big")[:6] + entropy(_ID_CHANCE)


def live_key(bucket_id: bytes, key: bytes) -> bytes:
    """LIVE and HEADS: bucket id ‖ object key."""
    return bucket_id + key


def settings_key(bucket: bytes) -> bytes:
    """Where the settings of a bucket are, in META."""
    return b"settings/" + bucket


def kms_prefix(account: str) -> bytes:
    """META: an account's KMS keys; the key's id follows."""
    return b"kms/" + account.encode() + b"\x00"


def owned_prefix(account: str) -> bytes:
    """OWNED: account id ‖ 00, then bucket names."""
    return account.encode() + b"\x00"


def escape(key: bytes) -> bytes:
    """00 becomes 00 FF, so that 00 00 ends a key and order stays byte order."""
    return key.replace(b"\x00", b"\x00\xff")


def unescape(escaped: bytes) -> bytes:
    """The inverse of `escape`."""
    return escaped.replace(b"\x00\xff", b"\x00")


def versions_prefix(bucket_id: bytes, key: bytes) -> bytes:
    """VERSIONS and UPLOADS: all rows of one object key."""
    return bucket_id + escape(key) + b"\x00\x00"


def version_key(bucket_id: bytes, key: bytes, sequence: int) -> bytes:
    """VERSIONS: newest first within a key."""
    return versions_prefix(bucket_id, key) + (_SEQUENCE_MAX - sequence).to_bytes(8, "big")


def parse_version_key(place: bytes) -> tuple[bytes, int]:
    """(object key, sequence) of a key in VERSIONS."""
    return unescape(place[16:-10]), _SEQUENCE_MAX - int.from_bytes(place[-8:], "big")


def version_id(sequence: int, uid: bytes) -> str:
    """The name of a version in a bucket with versioning: 32 hex digits.

    The first 16 are its sequence, so that its row is found with one look; the others cannot be
    guessed.
    """
    return f"{sequence:016x}{uid[8:].hex()}"


def sequence_of(version: str) -> int | None:
    """The sequence in a version's name; None if it can be no name of a version but `null`."""
    return int(version[:16], 16) if _VERSION_ID.fullmatch(version) else None


def upload_key(bucket_id: bytes, key: bytes, upload_id: bytes) -> bytes:
    """UPLOADS: by key, then upload id."""
    return versions_prefix(bucket_id, key) + upload_id


def part_key(upload_id: bytes, number: int) -> bytes:
    """PARTS: by number."""
    return upload_id + number.to_bytes(2, "big")


def used_counter(lease: bytes) -> bytes:
    """COUNTERS: bytes charged to a lease."""
    return b"used/" + lease
