"""ObjectService: the only way in which objects are put, read, copied and deleted."""

from collections.abc import AsyncIterator

from chain.net.transport import Buffer
from gateway.model import (
    Account,
    Algorithm,
    Attributes,
    Bucket,
    Checksum,
    CompletedPart,
    Listing,
    ObjectVersion,
    PartSummary,
    Upload,
    Verifier,
    WriteCondition,
)

ANY = WriteCondition()


class ObjectService:
    """Buckets, objects and uploads over the catalog and the storage pool.

    Every method raises gateway.errors; none checks who asks.
    """

    # ------------------------------------------------------------------ buckets
    async def create_bucket(
        self, account: Account, name: str, *, region: str = "", public: bool = False
    ) -> Bucket:
        """Make a bucket. Raises InvalidBucketName, BucketAlreadyExists, BucketAlreadyOwnedByYou."""
        raise NotImplementedError

    async def delete_bucket(self, bucket: Bucket) -> None:
        """Remove an empty bucket (no objects; uploads in progress are aborted)."""
        raise NotImplementedError

    def bucket(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""
        raise NotImplementedError

    def buckets(self, account: Account) -> list[Bucket]:
        """An account's buckets by name."""
        raise NotImplementedError

    async def configure_bucket(
        self, name: str, *, public: bool | None = None, publishes: bool | None = None
    ) -> Bucket:
        """Change a bucket's settings."""
        raise NotImplementedError

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
    ) -> ObjectVersion:
        """Store a body as the latest version of `key`.

        `algorithms` are computed beside the ETag and handed to `verify`; `keep` (one of them) is
        stored with the object. Durable and visible when this returns; after an exception nothing is
        stored. Raises IncompleteBody when the body ends before `length`.
        """
        raise NotImplementedError

    def head(self, bucket: Bucket, key: str, version_id: str | None = None) -> ObjectVersion:
        """The latest (or the named) version. Raises NoSuchKey, NoSuchVersion."""
        raise NotImplementedError

    def read(
        self, version: ObjectVersion, start: int = 0, end: int | None = None
    ) -> AsyncIterator[Buffer]:
        """The bytes [start, end) of a version. Raises SlowDown before the first byte."""
        raise NotImplementedError

    async def delete(
        self, bucket: Bucket, key: str, *, condition: WriteCondition = ANY
    ) -> ObjectVersion | None:
        """Remove a key; returns what was removed, None if there was nothing."""
        raise NotImplementedError

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
    ) -> ObjectVersion:
        """Store the source's content under another key, sharing its sealed segments.

        `attributes` None keeps the source's. The bytes are read again only when another checksum
        or profile is asked for.
        """
        raise NotImplementedError

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
        raise NotImplementedError

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
    ) -> Upload:
        """Begin a multipart upload."""
        raise NotImplementedError

    def upload(self, bucket: Bucket, key: str, upload_id: str) -> Upload:
        """Raises NoSuchUpload."""
        raise NotImplementedError

    def list_uploads(
        self, bucket: Bucket, *, prefix: str = "", start: bytes = b"", limit: int = 1000
    ) -> tuple[list[Upload], bytes | None]:
        """Uploads in progress by key, then upload id; and where to go on."""
        raise NotImplementedError

    async def put_part(
        self,
        upload: Upload,
        number: int,
        body: AsyncIterator[Buffer],
        *,
        length: int | None = None,
        algorithms: frozenset[Algorithm] = frozenset(),
        verify: Verifier | None = None,
    ) -> PartSummary:
        """Store or replace part `number` (1..10,000); the upload's algorithm is always kept."""
        raise NotImplementedError

    async def copy_part(
        self, upload: Upload, number: int, source: ObjectVersion, start: int, end: int
    ) -> PartSummary:
        """Store the source's bytes [start, end) as a part."""
        raise NotImplementedError

    def list_parts(
        self, upload: Upload, *, after: int = 0, limit: int = 1000
    ) -> tuple[list[PartSummary], bool]:
        """Parts with number > `after`, and whether there are more."""
        raise NotImplementedError

    async def complete_upload(
        self,
        upload: Upload,
        parts: list[CompletedPart],
        *,
        checksum: Checksum | None = None,
        condition: WriteCondition = ANY,
        size: int | None = None,
    ) -> ObjectVersion:
        """Make the object of the named parts. Idempotent for the same upload.

        Raises InvalidPart, InvalidPartOrder, EntityTooSmall, BadDigest (`checksum`),
        InvalidRequest (`size`).
        """
        raise NotImplementedError

    async def abort_upload(self, upload: Upload) -> None:
        """Drop the upload and release its parts; never touches a finished object."""
        raise NotImplementedError
