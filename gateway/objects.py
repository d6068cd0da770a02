"""ObjectService: the only way in which objects are put, read, copied and deleted."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from types import MappingProxyType

from chain.clock import Clock, Entropy
from chain.net.shared import Arena
from chain.net.transport import Buffer
from gateway import directory
from gateway.buckets import Buckets
from gateway.buffers import BufferPool
from gateway.catalog.interface import Catalog
from gateway.closed_digests import opened_version
from gateway.completion import Completion
from gateway.contents import Contents
from gateway.errors import InvalidRange
from gateway.finding import find
from gateway.hashing.side_by_side import Compile, SideBySide, compiled_hashes
from gateway.keys import KeyRing
from gateway.kms import KmsKeys
from gateway.limits import LimitBook
from gateway.listing import list_page
from gateway.model import (
    CLASSED,
    Account,
    Algorithm,
    Attributes,
    Bucket,
    Checksum,
    CompletedPart,
    Deletion,
    Listing,
    ObjectVersion,
    PartSummary,
    Position,
    Standing,
    Upload,
    Verifier,
    VersionListing,
    WriteCondition,
)
from gateway.multipart import Multipart
from gateway.protection import CustomerKey, EncryptionChange
from gateway.segments import Cutting, Engine
from gateway.store import Leases, Publisher, StoragePool, Store, StoreSettings
from gateway.transaction import Transaction, commit, release_some
from gateway.transition import Transition, release_retired
from gateway.version_listing import list_versions_page, position_behind
from gateway.writing import Writing
from miner.segments import SegmentSource

ANY = WriteCondition()
FIRST = Position(b"")


class ObjectService:
    """Buckets, objects and uploads over the catalog and the storage pool.

    Every method raises gateway.errors; none checks who asks. One event loop.
    """

    def __init__(
        self,
        catalog: Catalog,
        pool: StoragePool,
        source: SegmentSource,
        keys: KeyRing,
        leases: Leases,
        *,
        clock: Clock,
        entropy: Entropy,
        settings: StoreSettings | None = None,
        publisher: Publisher | None = None,
        executor: Executor | None = None,
        compile_hashes: Compile = compiled_hashes,
        arena: Arena | None = None,
    ) -> None:
        """`source` reads what `pool` wrote: the pool itself, or an edge's cache before it.

        `arena`: memory shared with miners, for sealed segments.
        """
        settings = settings or StoreSettings()
        self._executor = executor or ThreadPoolExecutor(settings.threads, "objects")
        engine = Engine(
            pool,
            self._executor,
            SideBySide(self._executor, compile_hashes),
            BufferPool(settings.ring_bytes),
            BufferPool(settings.frame_bytes, arena),
            Cutting(settings.frame_bytes, settings.segment_chunks),
        )
        self._store = Store(
            catalog=catalog,
            pool=pool,
            source=source,
            keys=keys,
            leases=leases,
            publisher=publisher,
            clock=clock,
            entropy=entropy,
            settings=settings,
            engine=engine,
            reads=BufferPool(settings.read_bytes),
        )
        self._buckets = Buckets(self._store)
        self._contents = Contents(self._store)
        self._writing = Writing(self._store, self._contents)
        self._multipart = Multipart(self._store, self._contents)
        self._completion = Completion(self._store)
        self._transition = Transition(self._store)
        self.kms = KmsKeys(self._store)
        self.limits = LimitBook(self._store, self._buckets.owned, self._buckets.change_setting)

    async def release_some(self) -> bool:
        """Let go of up to 1,024 segments of deleted objects too large for one commit.

        False when nothing is left to do. For the process that runs background jobs.
        """
        return await commit(self._store.catalog, self._store.pool, release_some)

    def close(self) -> None:
        """Stop the threads; call when no request runs any more."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    # ------------------------------------------------------------------ buckets
    async def create_bucket(
        self,
        account: Account,
        name: str,
        *,
        region: str = "",
        public: bool = False,
        settings: Mapping[str, bytes] = MappingProxyType({}),
    ) -> Bucket:
        """Make a bucket with settings (see `set_setting`); with OBJECT_LOCK it has versioning.

        Raises InvalidBucketName, BucketAlreadyExists, BucketAlreadyOwnedByYou.
        """
        return await self._buckets.create(
            account, name, region=region, public=public, settings=settings
        )

    async def delete_bucket(self, bucket: Bucket) -> None:
        """Remove an empty bucket (no objects; uploads in progress are aborted)."""
        await self._multipart.abort_all(bucket)
        await self._buckets.delete(bucket)

    def bucket(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""
        return self._buckets.get(name)

    def buckets(self, account: Account) -> list[Bucket]:
        """An account's buckets by name."""
        return self._buckets.owned(account)

    async def configure_bucket(
        self,
        name: str,
        *,
        public: bool | None = None,
        publishes: bool | None = None,
        versioning: str | None = None,
    ) -> Bucket:
        """Change what a bucket's row says; None leaves it as it is.

        Raises InvalidBucketState: versioning that objects' locks rest on is not suspended.
        """
        return await self._buckets.configure(
            name, public=public, publishes=publishes, versioning=versioning
        )

    def setting(self, bucket: Bucket, name: str) -> bytes | None:
        """A setting of the bucket as `set_setting` got it; None without it."""
        return self._buckets.setting(bucket, name)

    def settings(self, bucket: Bucket) -> Mapping[str, bytes]:
        """All settings of the bucket by name, in one read."""
        return self._buckets.settings(bucket)

    async def set_setting(self, bucket: Bucket, name: str, value: bytes | None) -> None:
        """Keep what a front end knows of the bucket (rules, tags); None removes it."""
        await self._buckets.change_setting(bucket, name, lambda _: value)

    async def change_setting(
        self, bucket: Bucket, name: str, change: Callable[[bytes | None], bytes | None]
    ) -> None:
        """Keep what `change` makes of the setting; it may be called more than once.

        What it raises gets out.
        """
        await self._buckets.change_setting(bucket, name, change)

    # ------------------------------------------------------------------ accounts
    def accounts(self, ids: Iterable[str]) -> dict[str, Account]:
        """The accounts of these ids, as far as there are any."""
        with self._store.catalog.read() as reader:
            return directory.named(reader, ids)

    def accounts_with_emails(self, emails: Iterable[str]) -> dict[str, list[Account]]:
        """The accounts of each of these emails, which are lower-case in the answer."""
        with self._store.catalog.read() as reader:
            return directory.with_emails(reader, emails)

    # ------------------------------------------------------------------ objects
    async def put(
        self,
        bucket: Bucket,
        key: str,
        body: AsyncIterator[Buffer],
        attributes: Attributes,
        *,
        length: int | None = None,
        algorithms: frozenset[Algorithm] = frozenset(),
        keep: Algorithm | None = None,
        verify: Verifier | None = None,
        condition: WriteCondition = ANY,
        profile: str = "",
        customer: CustomerKey | None = None,
    ) -> ObjectVersion:
        """Store a body as the latest version of `key`.

        `algorithms` are computed beside the ETag and handed to `verify`; `keep` (one of them) is
        stored with the object. `customer` goes with `attributes` whose encryption is SSE-C; a KMS
        key that they name was made usable before (`kms`). Durable and visible when this returns;
        after an exception nothing is stored. Raises IncompleteBody when the body ends before
        `length`.
        """
        return await self._writing.put(
            bucket,
            key,
            body,
            attributes,
            length=length,
            algorithms=algorithms,
            keep=keep,
            verify=verify,
            condition=condition,
            profile=profile,
            customer=customer,
        )

    def head(self, bucket: Bucket, key: str, version_id: str | None = None) -> ObjectVersion:
        """The latest (or the named) version.

        Raises NoSuchKey, KeyDeleted (a NoSuchKey: the latest is a delete marker), NoSuchVersion,
        MarkerNamed (the named one is), InvalidArgument (no version has such a name).
        """
        with self._store.catalog.read() as reader:
            return find(reader, bucket, key, version_id)

    def read(
        self,
        version: ObjectVersion,
        start: int = 0,
        end: int | None = None,
        customer: CustomerKey | None = None,
    ) -> AsyncIterator[Buffer]:
        """The bytes [start, end) of a version.

        Raises SlowDown, CustomerKeyMissing (of SSE-C; it is wrong to retry), CustomerKeyWrong,
        KmsKeyNotFound, KmsKeyDisabled before the first byte.
        """
        if end is None:
            end = version.size
        if not 0 <= start <= end <= version.size:
            raise InvalidRange
        return self._contents.read(version, start, end, customer)

    def opened(self, version: ObjectVersion, customer: CustomerKey | None) -> ObjectVersion:
        """The version with its checksums, which `head` leaves out where it takes a client's key.

        Raises CustomerKeyMissing, CustomerKeyWrong, CustomerKeyNotNeeded.
        """
        return opened_version(self._store, version, customer)

    async def delete(
        self,
        bucket: Bucket,
        key: str,
        version_id: str | None = None,
        *,
        condition: WriteCondition = ANY,
        bypass: bool = False,
        guard: Callable[[Transaction], None] | None = None,
    ) -> Deletion | None:
        """Delete a key, or one version of it for good; None if there was nothing to do.

        Without `version_id` the object goes in a bucket without versioning; else a delete marker
        comes (also where there is no object). With it that version or delete marker goes, and what
        was before it is the latest again if it was. `condition` is judged against the latest
        version: one that was never there fulfils it, a delete marker does not. `bypass`: also in
        spite of a retention in governance mode. `guard` makes the commit hold on rows of others, or
        raises. Raises PreconditionFailed, InvalidArgument (no version has such a name),
        AccessDenied (locked).
        """
        return await self._writing.delete(
            bucket, key, version_id, condition, bypass=bypass, guard=guard
        )

    async def expire(self, version: ObjectVersion, standing: Standing) -> Deletion | None:
        """Delete a version that `list_versions` or `list_objects` gave if it still stands so.

        LATEST: its key is deleted as by `delete` without a version id, if it is still the latest
        version and no delete marker. NONCURRENT: it goes for good, if a newer one is there. ALONE:
        it goes for good, if it is the key's only version: for delete markers that hide nothing.
        Judged in the commit; None if it is gone or stands otherwise. Raises AccessDenied (locked).
        """
        return await self._writing.expire(version, standing)

    async def transition(self, version: ObjectVersion, storage_class: str, profile: str) -> bool:
        """Give a version another storage class, and its bytes the erasure profile of that class.

        All else of it stays; reads go on meanwhile. `profile` is a name, "" for the bucket's.
        False if the version is gone. Raises QuotaExceeded; what was done before stays done.
        """
        if CLASSED not in version.bucket.settings:
            await self.set_setting(version.bucket, CLASSED, b"\x01")
        return await self._transition.move(version, storage_class, profile)

    async def release_retired(self) -> bool:
        """Let go of some of the bytes that a transition left hours ago; False if there are none."""
        now = self._store.clock.now_ns()
        return await commit(
            self._store.catalog, self._store.pool, lambda t: release_retired(t, now)
        )

    async def amend(
        self,
        bucket: Bucket,
        key: str,
        version_id: str | None,
        change: Callable[[Attributes], Attributes],
    ) -> ObjectVersion:
        """Give the latest or the named version the tags and extras that `change` makes of its own.

        All else of it stays. `change` may be called more than once, and what it raises gets out;
        so does what `head` raises.
        """
        return await self._writing.amend(bucket, key, version_id, change)

    async def encrypt(
        self, bucket: Bucket, key: str, version_id: str | None, change: EncryptionChange
    ) -> ObjectVersion:
        """Wrap a version's key as `change` says of its encryption; the bytes stay where they are.

        Neither its encryption nor the new one is SSE-C. Raises what `change` and `head` raise,
        KmsKeyNotFound, KmsKeyDisabled.
        """
        return await self._writing.encrypt(bucket, key, version_id, change)

    async def rename(
        self, source: ObjectVersion, key: str, *, condition: WriteCondition = ANY
    ) -> ObjectVersion:
        """Give the latest version of an object another key, in one commit; its date stays.

        With versioning the old key gets a delete marker. Raises PreconditionFailed, also when the
        source is not the latest any more, CustomerKeyWrong for one under a client's key.
        """
        return await self._writing.rename(source, key, condition)

    async def copy(
        self,
        source: ObjectVersion,
        bucket: Bucket,
        key: str,
        *,
        attributes: Attributes | None = None,
        algorithm: Algorithm | None = None,
        condition: WriteCondition = ANY,
        profile: str = "",
        source_key: CustomerKey | None = None,
        customer: CustomerKey | None = None,
    ) -> ObjectVersion:
        """Store the source's content under another key, sharing its sealed segments.

        `attributes` None keeps the source's without extras. The bytes are read again only when
        another checksum, profile or client's key is asked for.
        """
        return await self._writing.copy(
            source,
            bucket,
            key,
            attributes=attributes,
            algorithm=algorithm,
            condition=condition,
            profile=profile,
            source_key=source_key,
            customer=customer,
        )

    def list_objects(
        self,
        bucket: Bucket,
        *,
        prefix: str = "",
        delimiter: str = "",
        start: bytes = b"",
        limit: int = 1000,
    ) -> Listing:
        """One page of latest versions with key >= `start`; cost follows what is returned."""
        with self._store.catalog.read() as reader:
            return list_page(
                reader,
                bucket,
                prefix.encode("utf-8", "surrogateescape"),
                delimiter.encode("utf-8", "surrogateescape"),
                start,
                limit,
            )

    def list_versions(
        self,
        bucket: Bucket,
        *,
        prefix: str = "",
        delimiter: str = "",
        start: Position = FIRST,
        limit: int = 1000,
    ) -> VersionListing:
        """One page of all versions and delete markers from `start` on (the last page's next_start).

        By key, of each key the newest first; what is filled in of them: see ObjectVersion. Cost
        follows what is returned. One snapshot for each page.
        """
        with self._store.catalog.read() as reader:
            return list_versions_page(
                reader,
                bucket,
                prefix.encode("utf-8", "surrogateescape"),
                delimiter.encode("utf-8", "surrogateescape"),
                start,
                limit,
            )

    def behind(self, bucket: Bucket, key: str, version_id: str | None = None) -> Position:
        """The position behind one version of a key, or behind all. Raises InvalidArgument."""
        with self._store.catalog.read() as reader:
            raw = key.encode("utf-8", "surrogateescape")
            return position_behind(reader, bucket, raw, version_id)

    # ------------------------------------------------------------------ multipart
    async def create_upload(
        self,
        bucket: Bucket,
        key: str,
        attributes: Attributes,
        *,
        algorithm: Algorithm | None = None,
        composite: bool = True,
        profile: str = "",
        customer: CustomerKey | None = None,
    ) -> Upload:
        """Begin a multipart upload. With `customer`, each part needs it."""
        return await self._multipart.create(
            bucket,
            key,
            attributes,
            algorithm=algorithm,
            composite=composite,
            profile=profile,
            customer=customer,
        )

    def upload(self, bucket: Bucket, key: str, upload_id: str) -> Upload:
        """Raises NoSuchUpload."""
        return self._multipart.get(bucket, key, upload_id)

    def list_uploads(
        self, bucket: Bucket, *, prefix: str = "", start: bytes = b"", limit: int = 1000
    ) -> tuple[list[Upload], bytes | None]:
        """Uploads in progress by key, then upload id; and where to go on."""
        return self._multipart.uploads(bucket, prefix=prefix, start=start, limit=limit)

    async def put_part(
        self,
        upload: Upload,
        number: int,
        body: AsyncIterator[Buffer],
        *,
        length: int | None = None,
        algorithms: frozenset[Algorithm] = frozenset(),
        verify: Verifier | None = None,
        customer: CustomerKey | None = None,
    ) -> PartSummary:
        """Store or replace part `number` (1..10,000); the upload's algorithm is always kept.

        Raises InvalidRequest for another `customer` than the upload's.
        """
        return await self._multipart.put_part(
            upload,
            number,
            body,
            length=length,
            algorithms=algorithms,
            verify=verify,
            customer=customer,
        )

    async def copy_part(
        self,
        upload: Upload,
        number: int,
        source: ObjectVersion,
        start: int,
        end: int,
        *,
        source_key: CustomerKey | None = None,
        customer: CustomerKey | None = None,
    ) -> PartSummary:
        """Store the source's bytes [start, end) as a part."""
        return await self._multipart.copy_part(
            upload, number, source, start, end, source_key, customer
        )

    def check_upload_key(self, upload: Upload, customer: CustomerKey) -> None:
        """Raises InvalidRequest for another key than the upload's."""
        self._multipart.check_key(upload, customer)

    def list_parts(
        self, upload: Upload, *, after: int = 0, limit: int = 1000
    ) -> tuple[list[PartSummary], bool]:
        """Parts with number > `after`, and whether there are more."""
        return self._multipart.list_parts(upload, after=after, limit=limit)

    async def complete_upload(
        self,
        upload: Upload,
        parts: list[CompletedPart],
        *,
        checksum: Checksum | None = None,
        condition: WriteCondition = ANY,
        size: int | None = None,
        customer: CustomerKey | None = None,
    ) -> ObjectVersion:
        """Make the object of the named parts. Idempotent for the same upload.

        An upload that began with a client's key has no checksum of the whole without it.

        Raises InvalidPart, InvalidPartOrder, EntityTooSmall, BadDigest (`checksum`),
        InvalidRequest (`size`).
        """
        return await self._completion.complete(
            upload, parts, checksum=checksum, condition=condition, size=size, customer=customer
        )

    async def abort_upload(self, upload: Upload) -> None:
        """Drop the upload and release its parts; never touches a finished object."""
        await self._multipart.abort(upload)
