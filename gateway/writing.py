"""PUT, DELETE and COPY of whole objects."""

from collections.abc import AsyncIterator, Callable, Iterable

import msgspec
from blake3 import blake3

from chain.net.transport import Buffer
from gateway import history
from gateway.bodies import STREAM_MAX
from gateway.catalog.interface import Reader, Space
from gateway.closed_digests import closed_row, opened_row, opened_version
from gateway.contents import Contents
from gateway.errors import InvalidRequest, NoSuchKey, SlowDown
from gateway.etags import etag_algorithms, etag_of, tells
from gateway.ingest import Ingest, Ingested, Wanted
from gateway.keys import unwrap, wrap
from gateway.manifest import Manifest, StreamManifest, fid
from gateway.model import (
    Algorithm,
    Attributes,
    Bucket,
    Deletion,
    ObjectVersion,
    Standing,
    Verifier,
    WriteCondition,
)
from gateway.protection import (
    CustomerKey,
    EncryptionChange,
    rewrapped,
    shares_streams,
    wrap_version_key,
)
from gateway.records import (
    StoredChecksum,
    StreamRef,
    StreamRow,
    VersionRow,
    decode,
    encode,
    pack_etag,
)
from gateway.store import Lease, PackBody, Store, account_keys
from gateway.transaction import Transaction, commit, segments_of
from gateway.versions import NULL, object_key, pack_of, publish, version_row, wants_leaves
from miner.writing import FragmentReceipt

_RECEIPTS = msgspec.msgpack.Encoder()


def stream_manifest(ingested: Ingested) -> StreamManifest:
    """The manifest's entry of a fresh stream."""
    body = blake3(ingested.body).digest() if ingested.body is not None else None
    return StreamManifest(ingested.size, ingested.commitment, body, ingested.segments)


def stored_manifest(reader: Reader, stream: StreamRef) -> StreamManifest:
    """The manifest's entry of a stored stream. Raises NoSuchKey if it was released meanwhile."""
    space = Space.BODIES if stream.inline else Space.STREAMS
    raw = reader.get(space, stream.id)
    if raw is None:
        raise NoSuchKey
    if stream.inline:
        return StreamManifest(stream.size, stream.commitment, blake3(raw).digest())
    segments = tuple(segments_of(decode(StreamRow, raw)))
    return StreamManifest(stream.size, stream.commitment, None, segments)


def add_stream(
    store: Store, transaction: Transaction, ingested: Ingested, version_key: bytes
) -> StreamRef:
    """The rows of a fresh stream with one user.

    Raises SlowDown when it took so long (or the clock was set forward) that miners may have asked
    about its first fragments, and were told that they belong to nothing.
    """
    if ingested.deadline.has_passed(store.clock):
        raise SlowDown("The body took too long to store.")
    if ingested.body is not None:
        transaction.put(Space.BODIES, ingested.id, ingested.body)
    else:
        profile = ingested.segments[0].profile
        row = StreamRow(
            references=1,
            size=ingested.size,
            profile=profile.name,
            k=profile.k,
            m=profile.m,
            segment_chunks=ingested.segment_chunks,
            fragments=b"".join(b"".join(s.fragments) for s in ingested.segments),
        )
        transaction.put(Space.STREAMS, ingested.id, encode(row))
        transaction.pool_rows(ingested.rows)
    return StreamRef(
        ingested.id,
        ingested.size,
        wrap(ingested.key, version_key),
        ingested.commitment,
        ingested.body is not None,
    )


def packed_receipts(receipts: Iterable[FragmentReceipt]) -> tuple[bytes, ...]:
    """The miners' signed receipts as the outbox keeps them, each once.

    The paths from fragments to a receipt's root were checked when they came and are not kept.
    """
    signed = dict.fromkeys(receipt.stored.receipt for receipt in receipts)
    return tuple(_RECEIPTS.encode(receipt) for receipt in signed)


class Writing:
    """See ObjectService for what each method promises."""

    def __init__(self, store: Store, contents: Contents) -> None:
        self._store = store
        self._contents = contents
        self._ingest = Ingest(store.engine)

    async def put(
        self,
        bucket: Bucket,
        key: str,
        body: AsyncIterator[Buffer],
        attributes: Attributes,
        *,
        length: int | None,
        algorithms: frozenset[Algorithm],
        keep: Algorithm | None,
        verify: Verifier | None,
        condition: WriteCondition,
        profile: str,
        customer: CustomerKey | None = None,
    ) -> ObjectVersion:
        """Store a body."""
        store = self._store
        object_key(key)  # refused before the body is read
        lease = store.lease(bucket)
        pack = pack_of(store, bucket, attributes, body)
        wanted = Wanted(
            profile=store.profile(bucket, profile),
            algorithms=algorithms
            | etag_algorithms(store.settings.etag, told=tells(attributes))
            | (frozenset({keep}) if keep else frozenset()),
            inline_max=store.settings.inline_max,
            leaves=pack is None and wants_leaves(store, bucket, attributes),
            length=length,
        )
        ingested = await self._ingest.take(pack or body, wanted, store.keys.new_key(), b"")
        if verify:
            verify(ingested.digests)
        version = await self._commit_put(
            bucket, key, attributes, wanted, ingested, lease, keep, condition, customer, pack
        )
        return version if customer is None else opened_version(store, version, customer)

    async def _commit_put(  # noqa: PLR0917 - one caller
        self,
        bucket: Bucket,
        key: str,
        attributes: Attributes,
        wanted: Wanted,
        ingested: Ingested,
        lease: Lease,
        keep: Algorithm | None,
        condition: WriteCondition,
        customer: CustomerKey | None,
        pack: PackBody | None,
    ) -> ObjectVersion:
        store = self._store
        version_key = store.keys.new_key()
        # Named only now: rows that are committed in the order of their names fill their pages.
        ingested = msgspec.structs.replace(ingested, id=store.new_id())
        manifest = stream_manifest(ingested)
        charged = ingested.charged
        digests = ingested.digests

        def build(transaction: Transaction) -> ObjectVersion:
            keys = account_keys(transaction.reader, bucket.owner.id)
            generation, wrapped = wrap_version_key(
                store, transaction.reader, bucket, version_key, attributes.extra, customer
            )
            stream = add_stream(store, transaction, ingested, version_key)
            row = VersionRow(
                version=NULL,
                sequence=0,
                size=ingested.size,
                stored_etag=pack_etag(
                    etag_of(ingested, store.settings.etag, told=tells(attributes))
                ),
                modified_ns=store.clock.now_ns(),
                profile=wanted.profile.name,
                checksum=StoredChecksum(keep.value, digests.values[keep], 0) if keep else None,
                uid=ingested.id,  # it is the stream's first version
                fid=fid(Manifest(keys.owner, (manifest,))),
                content_type=attributes.content_type,
                headers=dict(attributes.headers),
                metadata=dict(attributes.metadata),
                generation=generation,
                key=wrapped,
                lease=lease.id,
                charged=charged,
                complete=ingested.complete,
                cid=None,
                upload=b"",
                streams=(stream,),
                parts=(),
                tags=dict(attributes.tags),
                extra=attributes.extra,
            )
            if customer is not None:
                row = closed_row(row, version_key)
            transaction.charge(lease, charged)
            leaves = ingested.leaves if wanted.leaves else None
            row = publish(store, transaction, bucket, key, row, leaves, pack=pack)
            receipts = packed_receipts(ingested.receipts)
            return history.insert(
                store, transaction, bucket, object_key(key), row, condition, receipts
            )

        return await commit(store.catalog, store.pool, build)

    async def delete(
        self,
        bucket: Bucket,
        key: str,
        version_id: str | None,
        condition: WriteCondition,
        *,
        bypass: bool,
        guard: Callable[[Transaction], None] | None,
    ) -> Deletion | None:
        """See ObjectService.delete."""
        raw_key = object_key(key)

        def build(transaction: Transaction) -> Deletion | None:
            if guard is not None:
                guard(transaction)
            return history.delete(
                self._store, transaction, bucket, raw_key, version_id, condition, bypass=bypass
            )

        return await commit(self._store.catalog, self._store.pool, build)

    async def expire(self, version: ObjectVersion, standing: Standing) -> Deletion | None:
        """See ObjectService.expire."""

        def build(transaction: Transaction) -> Deletion | None:
            return history.expire(self._store, transaction, version, standing)

        return await commit(self._store.catalog, self._store.pool, build)

    async def amend(
        self,
        bucket: Bucket,
        key: str,
        version_id: str | None,
        change: Callable[[Attributes], Attributes],
    ) -> ObjectVersion:
        """See ObjectService.amend."""
        raw_key = object_key(key)

        def build(transaction: Transaction) -> ObjectVersion:
            return history.amend(self._store, transaction, bucket, raw_key, version_id, change)

        return await commit(self._store.catalog, self._store.pool, build)

    async def encrypt(
        self, bucket: Bucket, key: str, version_id: str | None, change: EncryptionChange
    ) -> ObjectVersion:
        """See ObjectService.encrypt."""
        store, raw_key = self._store, object_key(key)

        def build(transaction: Transaction) -> ObjectVersion:
            def changed(row: VersionRow) -> VersionRow:
                return rewrapped(store, transaction.reader, bucket, row, change)

            return history.rewrite(store, transaction, bucket, raw_key, version_id, changed)

        return await commit(store.catalog, store.pool, build)

    async def copy(
        self,
        source: ObjectVersion,
        bucket: Bucket,
        key: str,
        *,
        attributes: Attributes | None,
        algorithm: Algorithm | None,
        condition: WriteCondition,
        profile: str,
        source_key: CustomerKey | None = None,
        customer: CustomerKey | None = None,
    ) -> ObjectVersion:
        """Share the source's streams under keys of the copy's own, or store the bytes anew."""
        if source.size > STREAM_MAX:
            raise InvalidRequest(
                "The specified copy source is larger than the maximum allowable size for a copy "
                f"source: {STREAM_MAX}"
            )
        attributes = attributes or msgspec.structs.replace(source.attributes, extra=None)
        row = version_row(source)
        inline = all(stream.inline for stream in row.streams)
        target = self._store.profile(bucket, profile) if profile else None
        anew = target is not None and target.name != row.profile and not inline
        anew = anew or not shares_streams(
            source.attributes.encryption, source_key, attributes.encryption, customer
        )
        if anew or (algorithm and not _has_checksum(row, algorithm)):
            return await self.put(
                bucket,
                key,
                self._contents.read(source, 0, source.size, source_key),
                attributes,
                length=source.size,
                algorithms=frozenset(),
                keep=algorithm or (Algorithm(row.checksum.algorithm) if row.checksum else None),
                verify=None,
                condition=condition,
                profile=profile or row.profile,
                customer=customer,
            )
        lease = self._store.lease(bucket)
        copier = _Copy(self._store, self._contents, source, row, bucket, key, customer)

        def build(transaction: Transaction) -> ObjectVersion:
            copied = copier.row(transaction, attributes, lease, target.name if target else "")
            return history.insert(
                self._store, transaction, bucket, object_key(key), copied, condition
            )

        version = await commit(self._store.catalog, self._store.pool, build)
        return version if customer is None else opened_version(self._store, version, customer)

    async def rename(
        self, source: ObjectVersion, key: str, condition: WriteCondition
    ) -> ObjectVersion:
        """See ObjectService.rename."""
        store, bucket = self._store, source.bucket
        lease = store.lease(bucket)
        copier = _Copy(store, self._contents, source, version_row(source), bucket, key, None)
        unchanged = WriteCondition(if_match=source.etag)

        def build(transaction: Transaction) -> ObjectVersion:
            row = copier.row(transaction, source.attributes, lease, "")
            row = msgspec.structs.replace(row, modified_ns=source.modified_ns)
            made = history.insert(store, transaction, bucket, object_key(key), row, condition)
            old = object_key(source.key)
            history.delete(store, transaction, bucket, old, None, unchanged, bypass=False)
            return made

        return await commit(store.catalog, store.pool, build)


class _Copy:
    """The rows of a copy that shares what is sealed."""

    def __init__(  # noqa: PLR0917 - one caller
        self,
        store: Store,
        contents: Contents,
        source: ObjectVersion,
        row: VersionRow,
        bucket: Bucket,
        key: str,
        customer: CustomerKey | None,
    ) -> None:
        self._store = store
        self._contents = contents
        self._source = source
        self._row = row
        self._bucket = bucket
        self._key = key
        self._customer = customer  # the source's too, or it is none
        self._uid = store.new_id()
        self._version_key = store.keys.new_key()

    def row(
        self, transaction: Transaction, attributes: Attributes, lease: Lease, profile: str
    ) -> VersionRow:
        """The copy's version row; its streams' rows go to the transaction."""
        store, old = self._store, self._row
        source_key = self._contents.version_key(
            transaction.reader, self._source, old, self._customer
        )
        keys = account_keys(transaction.reader, self._bucket.owner.id)
        generation, wrapped = wrap_version_key(
            store,
            transaction.reader,
            self._bucket,
            self._version_key,
            attributes.extra,
            self._customer,
        )
        manifest = Manifest(
            keys.owner, tuple(stored_manifest(transaction.reader, stream) for stream in old.streams)
        )
        streams = tuple(self._share(transaction, s, source_key) for s in old.streams)
        transaction.charge(lease, old.charged)
        row = msgspec.structs.replace(
            old,
            version=NULL,
            modified_ns=store.clock.now_ns(),
            profile=profile or old.profile,
            uid=self._uid,
            fid=fid(manifest),
            content_type=attributes.content_type,
            headers=dict(attributes.headers),
            metadata=dict(attributes.metadata),
            tags=dict(attributes.tags),
            extra=attributes.extra,
            generation=generation,
            key=wrapped,
            lease=lease.id,
            cid=None,
            upload=b"",
            streams=streams,
        )
        if self._customer is not None:
            row = closed_row(opened_row(row, source_key), self._version_key)
        return publish(store, transaction, self._bucket, self._key, row, None)

    def _share(self, transaction: Transaction, stream: StreamRef, source_key: bytes) -> StreamRef:
        wrapped = wrap(unwrap(stream.key, source_key), self._version_key)
        if not stream.inline:
            transaction.share(stream, 1)
            return msgspec.structs.replace(stream, key=wrapped)
        # A few KiB: a second row of the same sealed bytes is cheaper than counting users.
        body = self._contents.inline_body(transaction.reader, stream)
        copied = msgspec.structs.replace(stream, key=wrapped, id=self._own_id())
        transaction.put(Space.BODIES, copied.id, body)
        return copied

    def _own_id(self) -> bytes:
        """For a stream of the copy's own: the version's name, if it is the only one."""
        return self._uid if len(self._row.streams) == 1 else self._store.new_id()


def _has_checksum(row: VersionRow, algorithm: Algorithm) -> bool:
    stored = row.checksum
    return stored is not None and stored.algorithm == algorithm and not stored.parts
