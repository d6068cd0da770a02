"""The row of one object version: as the model sees it, what it takes to put and to remove it.

LIVE holds the latest version of a key, and VERSIONS what LIVE does not: the others (history.py),
and the whole row of a latest version that is too long for LIVE.
"""

from collections.abc import AsyncIterator

import msgspec

from chain.net.transport import Buffer
from gateway.catalog.interface import Reader, Space
from gateway.errors import (
    KeyTooLong,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
)
from gateway.model import (
    Algorithm,
    Attributes,
    Bucket,
    Checksum,
    ObjectVersion,
    PartSummary,
    WriteCondition,
)
from gateway.records import (
    ESCAPED_MAX,
    BucketRow,
    OutboxRow,
    PublishJob,
    StoredChecksum,
    UploadRow,
    VersionRow,
    decode_kept,
    decode_version,
    encode,
    escape,
    live_key,
    version_key,
)
from gateway.retention import check_removal
from gateway.store import PackBody, Store, account_keys
from gateway.transaction import Transaction

KEY_BYTES_MAX = 1024
NULL = "null"
PUBLISH_JOBS = b"publish/"
CHANGED_KEYS = b"ipfs-changed/"
# A call of the enumeration costs 1 µs, and a listing asks 1,000 times.
_ALGORITHMS = {str(algorithm): algorithm for algorithm in Algorithm}
# More streams than this are left out of the LIVE row and read from VERSIONS.
LIVE_STREAMS = 8
_NS = 1_000_000_000


def object_key(key: str) -> bytes:
    """The key's bytes. Raises KeyTooLong."""
    raw = key.encode("utf-8", "surrogateescape")
    if not raw or len(raw) > KEY_BYTES_MAX or len(escape(raw)) > ESCAPED_MAX:
        raise KeyTooLong
    return raw


def text_key(raw: bytes) -> str:
    """The inverse of `object_key`."""
    return raw.decode("utf-8", "surrogateescape")


def bucket_row(reader: Reader, bucket: Bucket) -> bytes:
    """The bucket's row as it is now. Raises NoSuchBucket if it is gone, or another one."""
    raw = reader.get(Space.BUCKETS, bucket.name.encode())
    if raw is None or decode_kept(BucketRow, raw).id != bucket.id:
        raise NoSuchBucket
    return raw


def live_row(reader: Reader, bucket: Bucket, key: bytes) -> tuple[bytes | None, VersionRow | None]:
    """The LIVE row of a key, and the version in full."""
    raw = reader.get(Space.LIVE, live_key(bucket.id, key))
    if raw is None:
        return None, None
    row = decode_version(raw)
    return raw, _whole(reader, bucket, key, row)


def _whole(reader: Reader, bucket: Bucket, key: bytes, row: VersionRow) -> VersionRow:
    if row.streams:
        return row
    raw = reader.get(Space.VERSIONS, version_key(bucket.id, key, row.sequence))
    assert raw is not None, "what LIVE leaves out is in VERSIONS"
    return decode_version(raw)


def stored_version(bucket: Bucket, key: str, raw: bytes, row: VersionRow) -> ObjectVersion:
    """The model's view of what `live_row` gave."""
    return to_version(bucket, key, row, raw if decode_version(raw) is row else None)


def to_version(
    bucket: Bucket, key: str, row: VersionRow, raw: bytes | None = None
) -> ObjectVersion:
    """The model's view of a stored version; `raw` is the encoded row where it is at hand."""
    closed = row.extra is not None and is_closed(row)
    checksum = None if closed else to_checksum(row.checksum)
    attributes = attributes_of(row)
    return ObjectVersion(
        bucket=bucket,
        key=key,
        version_id=row.version,
        sequence=row.sequence,
        size=row.size,
        etag=row.etag,
        modified_ns=row.modified_ns,
        attributes=attributes,
        fid=row.fid,
        profile=row.profile,
        checksum=checksum,
        uid=row.uid,
        parts=part_summaries(row, checksum) if row.parts else (),
        # Switched off, a bucket shows no CID from that moment on; the rows follow by a job.
        cid=row.cid if row.cid and attributes.published(bucket) else None,
        complete=row.complete,
        record=raw or encode(row),
    )


def part_summaries(row: VersionRow, checksum: Checksum | None) -> tuple[PartSummary, ...]:
    """The parts of a version whose checksum is this."""
    return tuple(
        PartSummary(
            part.number,
            part.size,
            part.etag,
            part.modified_ns,
            Checksum(checksum.algorithm, part.digest) if checksum and part.digest else None,
        )
        for part in row.parts
    )


def is_closed(row: VersionRow | UploadRow) -> bool:
    """Whether it takes a client's key to see its checksums (closed_digests.py)."""
    return row.extra is not None and (
        row.extra.encryption is not None and row.extra.encryption.customer
    )


def attributes_of(row: VersionRow | UploadRow) -> Attributes:
    """What the client said about the object."""
    return Attributes(row.content_type, row.headers, row.metadata, row.tags, row.extra)


def to_checksum(stored: StoredChecksum | None) -> Checksum | None:
    """The model's view of a stored checksum."""
    if stored is None:
        return None
    return Checksum(_ALGORITHMS[stored.algorithm], stored.digest, stored.parts)


def version_row(version: ObjectVersion) -> VersionRow:
    """The stored form of a version that `head` gave."""
    return decode_version(version.record)


def version_uid(version: ObjectVersion) -> bytes:
    """The version's 16-byte name on the ledger and in IPFS rows."""
    return version.uid


def judge(condition: WriteCondition, row: VersionRow | None) -> None:
    """A write's condition against what is there now.

    Raises PreconditionFailed; NoSuchKey where If-Match names something that is not there.
    """
    if row is not None and condition.if_none_match in {"*", row.etag}:
        raise PreconditionFailed
    if condition.if_match is not None:
        if row is None:
            raise NoSuchKey
        if condition.if_match not in {"*", row.etag}:
            raise PreconditionFailed
    if row is not None:
        if condition.size not in {None, row.size}:
            raise PreconditionFailed
        if condition.modified not in {None, row.modified_ns // _NS}:
            raise PreconditionFailed


def put_live(transaction: Transaction, bucket: Bucket, key: bytes, row: VersionRow) -> bytes:
    """The rows of the latest version; its whole encoding."""
    live = whole = encode(row)
    if len(row.streams) > LIVE_STREAMS:
        transaction.put(Space.VERSIONS, version_key(bucket.id, key, row.sequence), whole)
        live = encode(msgspec.structs.replace(row, streams=(), parts=()))
    transaction.put(Space.LIVE, live_key(bucket.id, key), live)
    return whole


def remove(
    store: Store,
    transaction: Transaction,
    bucket: Bucket,
    key: bytes,
    row: VersionRow,
    *,
    bypass: bool = False,
) -> None:
    """Drop a version: its VERSIONS row, its streams' references, its charge, its IPFS rows.

    The one way in which a version goes. Raises AccessDenied while it is locked; `bypass`: in spite
    of a retention in governance mode.
    """
    if row.extra is not None:
        check_removal(row.extra.lock, store.clock.now_ns(), bypass=bypass)
    own = version_key(bucket.id, key, row.sequence)
    if transaction.reader.get(Space.VERSIONS, own) is not None:
        transaction.delete(Space.VERSIONS, own)
    if row.deleted:
        return
    for stream in row.streams:
        transaction.share(stream, -1)
    transaction.refund(row.lease, row.charged)
    unpublish(store, transaction, bucket, key, row)
    report(store, transaction, bucket, row, "delete", ())


def unpublish(
    store: Store, transaction: Transaction, bucket: Bucket, key: bytes, row: VersionRow
) -> None:
    """Take a version's blocks from IPFS."""
    if row.cid and store.publisher:
        version = to_version(bucket, text_key(key), row)
        transaction.add(store.publisher.unpublish_rows(transaction.reader, version, row.uid))
        tell_directories(transaction, bucket, key)


def report(
    store: Store,
    transaction: Transaction,
    bucket: Bucket,
    row: VersionRow,
    operation: str,
    receipts: tuple[bytes, ...],
) -> None:
    """A row for the next object batch on the ledger."""
    owner = account_keys(transaction.reader, bucket.owner.id).owner
    leaf = OutboxRow(
        operation,
        row.fid,
        row.uid,
        owner,
        row.lease,
        row.charged,
        store.clock.now_ns(),
        receipts,
    )
    transaction.append(Space.OUTBOX, b"", encode(leaf))


def wants_leaves(store: Store, bucket: Bucket, attributes: Attributes) -> bool:
    """Whether the bytes are to be published on IPFS."""
    return attributes.published(bucket) and store.publisher is not None


def pack_of(
    store: Store, bucket: Bucket, attributes: Attributes, body: AsyncIterator[Buffer]
) -> PackBody | None:
    """The body of an object whose blocks are to be published, to be read in its stead."""
    if not attributes.packed or not wants_leaves(store, bucket, attributes):
        return None
    return store.publisher.pack(body) if store.publisher else None


def publish(
    store: Store,
    transaction: Transaction,
    bucket: Bucket,
    key: str,
    row: VersionRow,
    leaves: bytes | None,
    *,
    pack: PackBody | None = None,
) -> VersionRow:
    """Of what is to be published: IPFS rows and the CID.

    A job gets them where it takes reading: without leaf digests, or without the pack's body.
    """
    attributes = attributes_of(row)
    if store.publisher is None or not wants_leaves(store, bucket, attributes):
        return row
    if pack is not None:
        cid, changes = pack.rows(bucket, key, row.uid, row.size)
    elif leaves is None or attributes.packed:
        publish_later(transaction, bucket, key, row)
        return row
    else:
        cid, changes = store.publisher.rows(bucket, key, row.uid, row.size, leaves)
    transaction.add(changes)
    if bucket.publishes:
        tell_directories(transaction, bucket, object_key(key))
    return msgspec.structs.replace(row, cid=cid)


def tell_directories(transaction: Transaction, bucket: Bucket, key: bytes) -> None:
    """The IPFS directories follow what the keys lead to (gateway/ipfs/index/directories.py).

    Where the bucket has none the row is dropped there.
    """
    transaction.append_once(Space.JOBS, CHANGED_KEYS + bucket.id + b"/", key)


def publish_later(transaction: Transaction, bucket: Bucket, key: str, row: VersionRow) -> None:
    """Have a version read again, for its IPFS rows and CID."""
    job = PublishJob(bucket.name, bucket.id, key, row.uid)
    transaction.append(Space.JOBS, PUBLISH_JOBS, encode(job))
