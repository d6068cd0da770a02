"""Multipart uploads: every part is a stream of its own; completing composes their manifests."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import msgspec

from chain.net.transport import Buffer
from gateway.catalog.interface import Reader, Space
from gateway.contents import Contents
from gateway.digests import CRCS, combine, digester
from gateway.errors import (
    BadDigest,
    EntityTooSmall,
    InvalidArgument,
    InvalidPart,
    InvalidPartOrder,
    InvalidRequest,
    NoSuchUpload,
)
from gateway.ingest import LEAF, Ingest, Ingested, Wanted
from gateway.listing import after_prefix
from gateway.manifest import Manifest, fid
from gateway.model import (
    Algorithm,
    Attributes,
    Bucket,
    Checksum,
    CompletedPart,
    ObjectVersion,
    PartSummary,
    Upload,
    Verifier,
    WriteCondition,
)
from gateway.records import (
    OutboxRow,
    PartRow,
    StoredChecksum,
    StoredPart,
    UploadRow,
    VersionRow,
    decode,
    encode,
    escape,
    part_key,
    unescape,
    upload_key,
)
from gateway.seal import sealed_size
from gateway.store import Lease, Store, account_keys
from gateway.transaction import Transaction, commit
from gateway.versions import (
    NULL,
    bucket_row,
    insert,
    judge,
    live_row,
    object_key,
    publish,
    text_key,
    to_version,
)
from gateway.writing import (
    UID_BYTES,
    add_stream,
    etag_algorithm,
    etag_of,
    packed_receipts,
    stored_manifest,
)

PARTS_MAX = 10_000
PART_MIN = 5 << 20
UPLOAD_ID_BYTES = 16
Part = tuple[int, PartRow]


def upload_id_bytes(text: str) -> bytes:
    """Raises NoSuchUpload for what can be no upload id."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise NoSuchUpload from None
    if len(raw) != UPLOAD_ID_BYTES or raw.hex() != text:
        raise NoSuchUpload
    return raw


def uploads_after(key: str, upload_id: str = "") -> bytes:
    """The `start` of list_uploads behind a key's uploads, or behind one of them."""
    raw = object_key(key)
    if not upload_id:
        return upload_key(b"", raw, b"\xff" * (UPLOAD_ID_BYTES + 1))
    return upload_key(b"", raw, upload_id_bytes(upload_id)) + b"\x00"


class Multipart:
    """Rows in UPLOADS and PARTS."""

    def __init__(self, store: Store, contents: Contents) -> None:
        self._store = store
        self._contents = contents
        self._ingest = Ingest(store.engine)

    # ------------------------------------------------------------------ uploads
    async def create(
        self,
        bucket: Bucket,
        key: str,
        attributes: Attributes,
        *,
        algorithm: Algorithm | None,
        composite: bool,
        profile: str,
    ) -> Upload:
        """Begin an upload; the finished object's key is made here."""
        if algorithm and not composite and algorithm not in CRCS:
            raise InvalidRequest("Only CRC checksums can be FULL_OBJECT")
        store, raw_key = self._store, object_key(key)
        store.lease(bucket)
        upload_id, version_key = store.entropy(UPLOAD_ID_BYTES), store.keys.new_key()

        def build(transaction: Transaction) -> UploadRow:
            reader = transaction.reader
            transaction.expect(Space.BUCKETS, bucket.name.encode(), bucket_row(reader, bucket))
            keys = account_keys(reader, bucket.owner.id)
            generation, wrapped = store.keys.wrap_for(keys, version_key)
            row = UploadRow(
                started_ns=store.clock.now_ns(),
                content_type=attributes.content_type,
                headers=dict(attributes.headers),
                metadata=dict(attributes.metadata),
                algorithm=algorithm.value if algorithm else "",
                composite=composite,
                profile=store.profile(bucket, profile).name,
                generation=generation,
                key=wrapped,
            )
            transaction.put(Space.UPLOADS, upload_key(bucket.id, raw_key, upload_id), encode(row))
            return row

        row = await commit(store.catalog, store.pool, build)
        return _to_upload(bucket, key, upload_id, row)

    def get(self, bucket: Bucket, key: str, upload_id: str) -> Upload:
        """An upload in progress, or the one that made the key's latest version."""
        raw_key, raw_id = object_key(key), upload_id_bytes(upload_id)
        with self._store.catalog.read() as reader:
            raw = reader.get(Space.UPLOADS, upload_key(bucket.id, raw_key, raw_id))
            if raw is not None:
                return _to_upload(bucket, key, raw_id, decode(UploadRow, raw))
            row = live_row(reader, bucket, raw_key)[1]
        if row is None or row.upload != raw_id:
            raise NoSuchUpload
        attributes = Attributes(row.content_type, row.headers, row.metadata)
        algorithm = Algorithm(row.checksum.algorithm) if row.checksum else None
        composite = bool(row.checksum and row.checksum.parts)
        return Upload(bucket, key, upload_id, row.modified_ns, attributes, algorithm, composite)

    def uploads(
        self, bucket: Bucket, *, prefix: str, start: bytes, limit: int
    ) -> tuple[list[Upload], bytes | None]:
        """`start` is what this returned, or `uploads_after(...)`."""
        first = bucket.id + _escaped(prefix)
        with self._store.catalog.read() as reader:
            rows = reader.scan(
                Space.UPLOADS, max(first, bucket.id + start), after_prefix(first), limit + 1
            )
        uploads = [
            _to_upload(
                bucket,
                text_key(unescape(key[16 : -UPLOAD_ID_BYTES - 2])),
                key[-UPLOAD_ID_BYTES:],
                decode(UploadRow, value),
            )
            for key, value in rows[:limit]
        ]
        return uploads, rows[limit][0][16:] if len(rows) > limit else None

    async def abort(self, upload: Upload) -> None:
        """Raises NoSuchUpload when it was completed or aborted."""
        place = _place(upload)

        def build(transaction: Transaction) -> None:
            raw = transaction.reader.get(Space.UPLOADS, place)
            if raw is None:
                raise NoSuchUpload
            transaction.expect(Space.UPLOADS, place, raw)
            transaction.delete(Space.UPLOADS, place)
            raw_id = upload_id_bytes(upload.upload_id)
            for number, part in _parts(transaction.reader, raw_id, 0, PARTS_MAX):
                _drop_part(transaction, raw_id, number, part)

        await commit(self._store.catalog, self._store.pool, build)

    async def abort_all(self, bucket: Bucket) -> None:
        """Abort every upload of an otherwise empty bucket."""
        if self._has_objects(bucket):
            return  # BucketNotEmpty is about to be said; uploads stay
        while True:
            uploads, _ = self.uploads(bucket, prefix="", start=b"", limit=1000)
            if not uploads:
                return
            for upload in uploads:
                try:
                    await self.abort(upload)
                except NoSuchUpload:
                    continue

    # ------------------------------------------------------------------ parts
    async def put_part(
        self,
        upload: Upload,
        number: int,
        body: AsyncIterator[Buffer],
        *,
        length: int | None,
        algorithms: frozenset[Algorithm],
        verify: Verifier | None,
    ) -> PartSummary:
        """Store or replace a part."""
        if not 1 <= number <= PARTS_MAX:
            raise InvalidArgument(f"Part number must be an integer between 1 and {PARTS_MAX}")
        store, bucket = self._store, upload.bucket
        with store.catalog.read() as reader:
            row = _upload_row(reader, upload)[1]
            keys = account_keys(reader, bucket.owner.id)
        lease = store.lease(bucket)
        wanted = Wanted(
            profile=store.profile(bucket, row.profile),
            algorithms=algorithms
            | {etag_algorithm(store.settings.etag)}
            | (frozenset({Algorithm(row.algorithm)}) if row.algorithm else frozenset()),
            inline_max=store.settings.inline_max,
            leaves=bucket.publishes and store.publisher is not None,
            length=length,
        )
        ingested = await self._ingest.take(
            body, wanted, store.keys.new_key(), store.entropy(UID_BYTES)
        )
        if verify:
            verify(ingested.digests)
        version_key = store.keys.unwrap_for(keys, row.generation, row.key)
        return await self._commit_part(upload, number, ingested, lease, version_key)

    async def _commit_part(
        self, upload: Upload, number: int, ingested: Ingested, lease: Lease, version_key: bytes
    ) -> PartSummary:
        store, raw_id = self._store, upload_id_bytes(upload.upload_id)

        def build(transaction: Transaction) -> PartRow:
            raw, row = _upload_row(transaction.reader, upload)
            transaction.expect(Space.UPLOADS, _place(upload), raw)
            changed = msgspec.structs.replace(row, revision=row.revision + 1)
            transaction.put(Space.UPLOADS, _place(upload), encode(changed))
            place = part_key(raw_id, number)
            old = transaction.reader.get(Space.PARTS, place)
            if old is not None:
                _drop_part(transaction, raw_id, number, decode(PartRow, old))
            stream = add_stream(transaction, ingested, store.settings.segment_chunks, version_key)
            digest = ingested.digests.values[Algorithm(row.algorithm)] if row.algorithm else b""
            part = PartRow(
                size=ingested.size,
                etag=etag_of(ingested.digests, store.settings.etag),
                modified_ns=store.clock.now_ns(),
                digest=digest,
                stream=stream,
                lease=lease.id,
                charged=sealed_size(ingested.size),
                complete=ingested.complete,
                leaves=ingested.leaves,
            )
            transaction.put(Space.PARTS, place, encode(part))
            transaction.charge(lease, part.charged)
            receipts = packed_receipts(ingested)
            if receipts:
                owner = account_keys(transaction.reader, upload.bucket.owner.id).owner
                told = OutboxRow("store", b"", b"", owner, lease.id, 0, part.modified_ns, receipts)
                transaction.append(Space.OUTBOX, b"", encode(told))
            return part

        part = await commit(store.catalog, store.pool, build)
        return _to_summary(number, part, upload.algorithm)

    async def copy_part(
        self, upload: Upload, number: int, source: ObjectVersion, start: int, end: int
    ) -> PartSummary:
        """Always a new stream: a part's bytes are sealed under a key of their own."""
        if not 0 <= start < end <= source.size and not start == end == source.size == 0:
            raise InvalidArgument("The range of the copy source is not valid")
        body = self._contents.read(source, start, end)
        return await self.put_part(
            upload, number, body, length=end - start, algorithms=frozenset(), verify=None
        )

    def list_parts(
        self, upload: Upload, *, after: int, limit: int
    ) -> tuple[list[PartSummary], bool]:
        """Parts in order, and whether there are more."""
        with self._store.catalog.read() as reader:
            _upload_row(reader, upload)
            found = _parts(reader, upload_id_bytes(upload.upload_id), after, limit + 1)
        summaries = [_to_summary(number, part, upload.algorithm) for number, part in found[:limit]]
        return summaries, len(found) > limit

    # ------------------------------------------------------------------ complete
    async def complete(
        self,
        upload: Upload,
        named: Sequence[CompletedPart],
        *,
        checksum: Checksum | None,
        condition: WriteCondition,
        size: int | None,
    ) -> ObjectVersion:
        """Make the object; again, after it was made, answer the same."""
        store, bucket, raw_key = self._store, upload.bucket, object_key(upload.key)
        raw_id, uid = upload_id_bytes(upload.upload_id), store.entropy(UID_BYTES)
        lease = store.lease(bucket)

        def build(transaction: Transaction) -> VersionRow:
            reader = transaction.reader
            raw = reader.get(Space.UPLOADS, _place(upload))
            if raw is None:
                return _made_by(live_row(reader, bucket, raw_key)[1], raw_id)
            stored = dict(_parts(reader, raw_id, 0, PARTS_MAX))
            chosen = choose(stored, named)
            kept = _check(upload, [part for _, part in chosen], checksum, size)
            judge(condition, live_row(reader, bucket, raw_key)[1])
            transaction.expect(Space.UPLOADS, _place(upload), raw)
            transaction.delete(Space.UPLOADS, _place(upload))
            numbers = {number for number, _ in chosen}
            for number, part in stored.items():
                place = part_key(raw_id, number)
                if number in numbers:
                    transaction.delete(Space.PARTS, place)
                    transaction.refund(part.lease, part.charged)
                else:
                    _drop_part(transaction, raw_id, number, part)
            row = _composed(store, transaction, upload, decode(UploadRow, raw), chosen, lease)
            row = msgspec.structs.replace(row, uid=uid, checksum=kept, upload=raw_id)
            transaction.charge(lease, row.charged)
            leaves = packed_leaves([part for _, part in chosen])
            row = publish(store, transaction, bucket, upload.key, row, leaves)
            return insert(store, transaction, bucket, raw_key, row, condition)

        row = await commit(store.catalog, store.pool, build)
        return to_version(bucket, upload.key, row)

    def _has_objects(self, bucket: Bucket) -> bool:
        with self._store.catalog.read() as reader:
            return bool(reader.scan(Space.LIVE, bucket.id, after_prefix(bucket.id), 1))


def choose(stored: dict[int, PartRow], named: Sequence[CompletedPart]) -> list[Part]:
    """The named parts. Raises InvalidPartOrder, InvalidPart, EntityTooSmall, InvalidRequest."""
    if not named:
        raise InvalidRequest("You must specify at least one part")
    if any(later.number <= before.number for before, later in pairwise(named)):
        raise InvalidPartOrder
    chosen: list[Part] = []
    for want in named:
        part = stored.get(want.number)
        if part is None or part.etag != want.etag:
            raise InvalidPart
        if want.checksum is not None and want.checksum != part.digest:
            raise InvalidPart
        chosen.append((want.number, part))
    if any(part.size < PART_MIN for _, part in chosen[:-1]):
        raise EntityTooSmall
    return chosen


def object_etag(parts: Sequence[PartRow]) -> str:
    """MD5 over the parts' binary tags, a hyphen and their number: what every client expects."""
    joined = b"".join(bytes.fromhex(part.etag.partition("-")[0]) for part in parts)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"


def object_checksum(
    algorithm: Algorithm | None, parts: Sequence[PartRow], *, composite: bool
) -> StoredChecksum | None:
    """COMPOSITE: the digest of the parts' digests. FULL_OBJECT: their CRCs combined."""
    if algorithm is None:
        return None
    if composite:
        total = digester(algorithm)
        total.update(b"".join(part.digest for part in parts))
        return StoredChecksum(algorithm.value, total.digest(), len(parts))
    crc = combine(algorithm, [(part.digest, part.size) for part in parts])
    return StoredChecksum(algorithm.value, crc, 0)


def packed_leaves(parts: Sequence[PartRow]) -> bytes | None:
    """The object's leaf digests if the parts' leaves are its leaves: whole MiBs, known for all."""
    whole = all(part.size % LEAF == 0 for part in parts[:-1])
    if not whole or not all(part.leaves for part in parts):
        return None
    return b"".join(part.leaves for part in parts)


def _check(
    upload: Upload, parts: Sequence[PartRow], checksum: Checksum | None, size: int | None
) -> StoredChecksum | None:
    if size is not None and size != sum(part.size for part in parts):
        raise InvalidRequest("The object's size is not the size that was specified")
    kept = object_checksum(upload.algorithm, parts, composite=upload.composite)
    if checksum is not None:
        if kept is None or checksum.algorithm.value != kept.algorithm:
            raise InvalidRequest("The upload was created with another checksum algorithm")
        if (checksum.digest, checksum.composite_parts) != (kept.digest, kept.parts):
            raise BadDigest
    return kept


def _composed(
    store: Store,
    transaction: Transaction,
    upload: Upload,
    row: UploadRow,
    chosen: Sequence[Part],
    lease: Lease,
) -> VersionRow:
    parts = [part for _, part in chosen]
    streams = tuple(part.stream for part in parts)
    owner = account_keys(transaction.reader, upload.bucket.owner.id).owner
    manifest = Manifest(owner, tuple(stored_manifest(transaction, stream) for stream in streams))
    return VersionRow(
        version=NULL,
        sequence=0,
        size=manifest.size,
        etag=object_etag(parts),
        modified_ns=store.clock.now_ns(),
        profile=row.profile,
        checksum=None,
        uid=b"",
        fid=fid(manifest),
        content_type=row.content_type,
        headers=row.headers,
        metadata=row.metadata,
        generation=row.generation,
        key=row.key,
        lease=lease.id,
        charged=sum(part.charged for part in parts),
        complete=all(part.complete for part in parts),
        cid=None,
        upload=b"",
        streams=streams,
        parts=tuple(
            StoredPart(number, part.size, part.etag, part.modified_ns, part.digest)
            for number, part in chosen
        ),
    )


def _made_by(row: VersionRow | None, upload_id: bytes) -> VersionRow:
    if row is None or row.upload != upload_id:
        raise NoSuchUpload
    return row


def _place(upload: Upload) -> bytes:
    raw_id = upload_id_bytes(upload.upload_id)
    return upload_key(upload.bucket.id, object_key(upload.key), raw_id)


def _upload_row(reader: Reader, upload: Upload) -> tuple[bytes, UploadRow]:
    raw = reader.get(Space.UPLOADS, _place(upload))
    if raw is None:
        raise NoSuchUpload
    return raw, decode(UploadRow, raw)


def _parts(reader: Reader, upload_id: bytes, after: int, limit: int) -> list[Part]:
    start = part_key(upload_id, min(after, PARTS_MAX) + 1)
    rows = reader.scan(Space.PARTS, start, upload_id + b"\xff\xff", limit)
    return [(int.from_bytes(key[-2:], "big"), decode(PartRow, value)) for key, value in rows]


def _drop_part(transaction: Transaction, upload_id: bytes, number: int, part: PartRow) -> None:
    transaction.delete(Space.PARTS, part_key(upload_id, number))
    transaction.share(part.stream, -1)
    transaction.refund(part.lease, part.charged)


def _to_upload(bucket: Bucket, key: str, upload_id: bytes, row: UploadRow) -> Upload:
    return Upload(
        bucket,
        key,
        upload_id.hex(),
        row.started_ns,
        Attributes(row.content_type, row.headers, row.metadata),
        Algorithm(row.algorithm) if row.algorithm else None,
        row.composite,
    )


def _to_summary(number: int, part: PartRow, algorithm: Algorithm | None) -> PartSummary:
    checksum = Checksum(algorithm, part.digest) if algorithm and part.digest else None
    return PartSummary(number, part.size, part.etag, part.modified_ns, checksum)


def _escaped(prefix: str) -> bytes:
    return escape(prefix.encode("utf-8", "surrogateescape"))
