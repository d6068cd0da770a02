"""Multipart uploads: every part is a stream of its own (completing them: completion.py)."""

from collections.abc import AsyncIterator

import msgspec

from chain.net.transport import Buffer
from gateway.catalog.interface import Reader, Space
from gateway.closed_digests import closed_part
from gateway.contents import Contents
from gateway.digests import CRCS
from gateway.errors import CustomerKeyWrong, InvalidArgument, InvalidRequest, NoSuchUpload
from gateway.etags import etag_algorithms, etag_of, tells
from gateway.ingest import Ingest, Ingested, Wanted
from gateway.limits import weigh_parts
from gateway.listing import after_prefix
from gateway.model import (
    Algorithm,
    Attributes,
    Bucket,
    ObjectVersion,
    PartSummary,
    Upload,
    Verifier,
)
from gateway.protection import CustomerKey, unwrap_version_key, wrap_version_key
from gateway.records import (
    OutboxRow,
    PartRow,
    UploadRow,
    decode,
    encode,
    escape,
    part_key,
    unescape,
    upload_key,
)
from gateway.store import Lease, Store, account_keys
from gateway.transaction import Transaction, commit
from gateway.upload_rows import (
    PARTS_MAX,
    UPLOAD_ID_BYTES,
    drop_part,
    parts_of,
    place_of,
    to_summary,
    to_upload,
    upload_id_bytes,
    upload_row,
)
from gateway.versions import (
    attributes_of,
    bucket_row,
    is_closed,
    live_row,
    object_key,
    text_key,
    wants_leaves,
)
from gateway.writing import add_stream, packed_receipts


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
        customer: CustomerKey | None,
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
            generation, wrapped = wrap_version_key(
                store, reader, bucket, version_key, attributes.extra, customer
            )
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
                tags=dict(attributes.tags),
                extra=attributes.extra,
            )
            transaction.put(Space.UPLOADS, upload_key(bucket.id, raw_key, upload_id), encode(row))
            return row

        row = await commit(store.catalog, store.pool, build)
        return to_upload(bucket, key, upload_id, row)

    def get(self, bucket: Bucket, key: str, upload_id: str) -> Upload:
        """An upload in progress, or the one that made the key's latest version."""
        raw_key, raw_id = object_key(key), upload_id_bytes(upload_id)
        with self._store.catalog.read() as reader:
            raw = reader.get(Space.UPLOADS, upload_key(bucket.id, raw_key, raw_id))
            if raw is not None:
                return to_upload(bucket, key, raw_id, decode(UploadRow, raw))
            row = live_row(reader, bucket, raw_key)[1]
        if row is None or row.upload != raw_id:
            raise NoSuchUpload
        attributes = attributes_of(row)
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
            to_upload(
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
        place = place_of(upload)

        def build(transaction: Transaction) -> None:
            raw = transaction.reader.get(Space.UPLOADS, place)
            if raw is None:
                raise NoSuchUpload
            transaction.expect(Space.UPLOADS, place, raw)
            transaction.delete(Space.UPLOADS, place)
            raw_id = upload_id_bytes(upload.upload_id)
            parts = parts_of(transaction.reader, raw_id, 0, PARTS_MAX)
            for number, part in parts:
                drop_part(transaction, raw_id, number, part)
            weigh_parts(transaction, upload.bucket, -sum(part.size for _, part in parts))

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
        customer: CustomerKey | None = None,
    ) -> PartSummary:
        """Store or replace a part."""
        if not 1 <= number <= PARTS_MAX:
            raise InvalidArgument(f"Part number must be an integer between 1 and {PARTS_MAX}")
        store, bucket = self._store, upload.bucket
        with store.catalog.read() as reader:
            row = upload_row(reader, upload)[1]
            version_key = self._version_key(reader, bucket, row, customer)
        attributes = attributes_of(row)
        lease = store.lease(bucket)
        wanted = Wanted(
            profile=store.profile(bucket, row.profile),
            algorithms=algorithms
            | etag_algorithms(store.settings.etag, told=tells(attributes))
            | (frozenset({Algorithm(row.algorithm)}) if row.algorithm else frozenset()),
            inline_max=store.settings.inline_max,
            leaves=wants_leaves(store, bucket, attributes),
            length=length,
        )
        ingested = await self._ingest.take(body, wanted, store.keys.new_key(), store.new_id())
        if verify:
            verify(ingested.digests)
        return await self._commit_part(upload, number, ingested, lease, version_key)

    async def _commit_part(
        self, upload: Upload, number: int, ingested: Ingested, lease: Lease, version_key: bytes
    ) -> PartSummary:
        store, raw_id = self._store, upload_id_bytes(upload.upload_id)

        def build(transaction: Transaction) -> PartRow:
            raw, row = upload_row(transaction.reader, upload)
            transaction.expect(Space.UPLOADS, place_of(upload), raw)
            changed = msgspec.structs.replace(row, revision=row.revision + 1)
            transaction.put(Space.UPLOADS, place_of(upload), encode(changed))
            place = part_key(raw_id, number)
            old = transaction.reader.get(Space.PARTS, place)
            more = ingested.size
            if old is not None:
                before = decode(PartRow, old)
                drop_part(transaction, raw_id, number, before)
                more -= before.size
            weigh_parts(transaction, upload.bucket, more)
            stream = add_stream(store, transaction, ingested, version_key)
            digest = ingested.digests.values[Algorithm(row.algorithm)] if row.algorithm else b""
            part = PartRow(
                size=ingested.size,
                etag=etag_of(ingested, store.settings.etag, told=tells(attributes_of(row))),
                modified_ns=store.clock.now_ns(),
                digest=digest,
                stream=stream,
                lease=lease.id,
                charged=ingested.charged,
                complete=ingested.complete,
                leaves=ingested.leaves,
            )
            stored = closed_part(part, version_key) if is_closed(row) else part
            transaction.put(Space.PARTS, place, encode(stored))
            transaction.charge(lease, part.charged)
            receipts = packed_receipts(ingested.receipts)
            if receipts:
                owner = account_keys(transaction.reader, upload.bucket.owner.id).owner
                told = OutboxRow("store", b"", b"", owner, lease.id, 0, part.modified_ns, receipts)
                transaction.append(Space.OUTBOX, b"", encode(told))
            return part

        part = await commit(store.catalog, store.pool, build)
        return to_summary(number, part, upload.algorithm)

    async def copy_part(  # noqa: PLR0917 - one caller
        self,
        upload: Upload,
        number: int,
        source: ObjectVersion,
        start: int,
        end: int,
        source_key: CustomerKey | None,
        customer: CustomerKey | None,
    ) -> PartSummary:
        """Always a new stream: a part's bytes are sealed under a key of their own."""
        if not 0 <= start < end <= source.size and not start == end == source.size == 0:
            raise InvalidArgument("The range of the copy source is not valid")
        body = self._contents.read(source, start, end, source_key)
        return await self.put_part(
            upload,
            number,
            body,
            length=end - start,
            algorithms=frozenset(),
            verify=None,
            customer=customer,
        )

    def check_key(self, upload: Upload, customer: CustomerKey) -> None:
        """Raises InvalidRequest unless the upload, if it is still there, began with this key."""
        with self._store.catalog.read() as reader:
            raw = reader.get(Space.UPLOADS, place_of(upload))
            if raw is not None:
                self._version_key(reader, upload.bucket, decode(UploadRow, raw), customer)

    def _version_key(
        self, reader: Reader, bucket: Bucket, row: UploadRow, customer: CustomerKey | None
    ) -> bytes:
        try:
            return unwrap_version_key(self._store, reader, bucket, row, customer)
        except CustomerKeyWrong:
            raise InvalidRequest(
                "The provided encryption parameters did not match the ones used originally."
            ) from None

    def list_parts(
        self, upload: Upload, *, after: int, limit: int
    ) -> tuple[list[PartSummary], bool]:
        """Parts in order, and whether there are more."""
        with self._store.catalog.read() as reader:
            upload_row(reader, upload)
            found = parts_of(reader, upload_id_bytes(upload.upload_id), after, limit + 1)
        # The checksums of parts that a client's key closes are not listed.
        algorithm = None if upload.closed else upload.algorithm
        summaries = [to_summary(number, part, algorithm) for number, part in found[:limit]]
        return summaries, len(found) > limit

    def _has_objects(self, bucket: Bucket) -> bool:
        with self._store.catalog.read() as reader:
            return any(
                reader.scan(space, bucket.id, after_prefix(bucket.id), 1)
                for space in (Space.LIVE, Space.VERSIONS)
            )


def _escaped(prefix: str) -> bytes:
    return escape(prefix.encode("utf-8", "surrogateescape"))
