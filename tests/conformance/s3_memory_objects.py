"""An ObjectService in a dictionary, for tests of the S3 front end alone."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from hashlib import md5
from itertools import count

from chain.net.transport import Buffer
from gateway import errors
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
from gateway.s3.checksums import digests_of

ANY = WriteCondition()
NOW_NS = 1_790_000_000 * 10**9


@dataclass
class _Pending:
    upload: Upload
    parts: dict[int, tuple[PartSummary, bytes]] = field(default_factory=dict)
    done: ObjectVersion | None = None


class MemoryObjects:
    """The face of gateway.objects.ObjectService; enough rules to test a front end against."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._rows: dict[str, dict[str, tuple[ObjectVersion, bytes]]] = {}
        self._uploads: dict[str, _Pending] = {}
        self._ids = count(1)

    # ------------------------------------------------------------------ buckets
    async def create_bucket(
        self, account: Account, name: str, *, region: str = "", public: bool = False
    ) -> Bucket:
        if not 3 <= len(name) <= 63:
            raise errors.InvalidBucketName
        if name in self._buckets:
            mine = self._buckets[name].owner.id == account.id
            raise errors.BucketAlreadyOwnedByYou if mine else errors.BucketAlreadyExists
        bucket = Bucket(name, next(self._ids).to_bytes(16, "big"), account, NOW_NS, region, public)
        self._buckets[name], self._rows[name] = bucket, {}
        return bucket

    async def delete_bucket(self, bucket: Bucket) -> None:
        if self._rows[bucket.name]:
            raise errors.BucketNotEmpty
        del self._buckets[bucket.name]

    def bucket(self, name: str) -> Bucket:
        if name not in self._buckets:
            raise errors.NoSuchBucket(BucketName=name)
        return self._buckets[name]

    def buckets(self, account: Account) -> list[Bucket]:
        mine = [b for b in self._buckets.values() if b.owner.id == account.id]
        return sorted(mine, key=lambda b: b.name)

    async def configure_bucket(
        self, name: str, *, public: bool | None = None, publishes: bool | None = None
    ) -> Bucket:
        bucket = self.bucket(name)
        if public is not None:
            bucket = replace(bucket, public=public)
        if publishes is not None:
            bucket = replace(bucket, publishes=publishes)
        self._buckets[name] = bucket
        return bucket

    # ------------------------------------------------------------------ objects
    async def _body(
        self,
        body: AsyncIterator[Buffer],
        length: int | None,
        algorithms: frozenset[Algorithm],
        verify: Verifier | None,
    ) -> tuple[bytes, dict[Algorithm, bytes]]:
        data = b"".join([bytes(piece) async for piece in body])
        if length is not None and len(data) != length:
            raise errors.IncompleteBody
        digests = digests_of(data, algorithms)
        if verify is not None:
            verify(digests)
        return data, dict(digests.values)

    def _check(self, bucket: Bucket, key: str, condition: WriteCondition) -> None:
        row = self._rows[bucket.name].get(key)
        if condition.if_none_match == "*" and row is not None:
            raise errors.PreconditionFailed
        if condition.if_match is not None:
            if row is None:
                raise errors.NoSuchKey
            if condition.if_match not in ("*", row[0].etag):
                raise errors.PreconditionFailed

    def _store(
        self,
        bucket: Bucket,
        key: str,
        data: bytes,
        attributes: Attributes,
        profile: str,
        checksum: Checksum | None,
        etag: str = "",
        parts: tuple[PartSummary, ...] = (),
    ) -> ObjectVersion:
        version = ObjectVersion(
            bucket, key, "null", next(self._ids), len(data), etag or md5(data).hexdigest(),
            NOW_NS + 123, attributes, b"", profile, checksum, parts,
        )  # fmt: skip
        self._rows[bucket.name][key] = (version, data)
        return version

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
        data, values = await self._body(body, length, algorithms, verify)
        self._check(bucket, key, condition)
        checksum = None if keep is None else Checksum(keep, values[keep])
        return self._store(bucket, key, data, attributes, profile, checksum)

    def head(self, bucket: Bucket, key: str, version_id: str | None = None) -> ObjectVersion:
        if version_id not in (None, "", "null"):
            raise errors.NoSuchVersion
        if key not in self._rows[bucket.name]:
            raise errors.NoSuchKey(Key=key)
        return self._rows[bucket.name][key][0]

    async def read(
        self, version: ObjectVersion, start: int = 0, end: int | None = None
    ) -> AsyncIterator[Buffer]:
        data = memoryview(self._rows[version.bucket.name][version.key][1])[start:end]
        for at in range(0, len(data), 100_000):
            yield data[at : at + 100_000]

    async def delete(
        self, bucket: Bucket, key: str, *, condition: WriteCondition = ANY
    ) -> ObjectVersion | None:
        self._check(bucket, key, condition)
        row = self._rows[bucket.name].pop(key, None)
        return None if row is None else row[0]

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
        self._check(bucket, key, condition)
        data = self._rows[source.bucket.name][source.key][1]
        checksum = source.checksum
        if algorithm is not None:
            digests = digests_of(data, frozenset({algorithm}))
            checksum = Checksum(algorithm, digests.values[algorithm])
        return self._store(bucket, key, data, attributes or source.attributes, profile, checksum)

    def list_objects(
        self,
        bucket: Bucket,
        *,
        prefix: str = "",
        delimiter: str = "",
        start: bytes = b"",
        limit: int = 1000,
    ) -> Listing:
        objects: list[ObjectVersion] = []
        groups: list[str] = []
        for key in sorted(self._rows[bucket.name], key=str.encode):
            if key.encode() < start or not key.startswith(prefix):
                continue
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            group = key[: at + len(delimiter)] if at >= 0 else ""
            if group and group in groups:
                continue
            if len(objects) + len(groups) == limit:
                return Listing(objects, groups, key.encode())
            if group:
                groups.append(group)
            else:
                objects.append(self._rows[bucket.name][key][0])
        return Listing(objects, groups, None)

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
        name = f"upload-{next(self._ids):08d}"
        upload = Upload(bucket, key, name, NOW_NS, attributes, algorithm, composite)
        self._uploads[name] = _Pending(upload)
        return upload

    def upload(self, bucket: Bucket, key: str, upload_id: str) -> Upload:
        pending = self._uploads.get(upload_id)
        if pending is None or pending.upload.key != key:
            raise errors.NoSuchUpload
        return pending.upload

    def list_uploads(
        self, bucket: Bucket, *, prefix: str = "", start: bytes = b"", limit: int = 1000
    ) -> tuple[list[Upload], bytes | None]:
        found = sorted(
            (p.upload for p in self._uploads.values() if p.done is None),
            key=lambda u: (u.key.encode(), u.upload_id),
        )
        return [
            u for u in found
            if u.bucket.id == bucket.id and u.key.startswith(prefix) and u.key.encode() >= start
        ], None  # fmt: skip

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
        kept = {upload.algorithm} if upload.algorithm else set()
        data, values = await self._body(body, length, algorithms | kept, verify)
        checksum = (
            Checksum(upload.algorithm, values[upload.algorithm]) if upload.algorithm else None
        )
        part = PartSummary(number, len(data), md5(data).hexdigest(), NOW_NS, checksum)
        self._uploads[upload.upload_id].parts[number] = (part, data)
        return part

    async def copy_part(
        self, upload: Upload, number: int, source: ObjectVersion, start: int, end: int
    ) -> PartSummary:
        data = self._rows[source.bucket.name][source.key][1][start:end]

        async def once() -> AsyncIterator[Buffer]:
            yield data

        return await self.put_part(upload, number, once())

    def list_parts(
        self, upload: Upload, *, after: int = 0, limit: int = 1000
    ) -> tuple[list[PartSummary], bool]:
        parts = self._uploads[upload.upload_id].parts
        found = [parts[n][0] for n in sorted(parts) if n > after]
        return found[:limit], len(found) > limit

    async def complete_upload(
        self,
        upload: Upload,
        parts: list[CompletedPart],
        *,
        checksum: Checksum | None = None,
        condition: WriteCondition = ANY,
        size: int | None = None,
    ) -> ObjectVersion:
        pending = self._uploads[upload.upload_id]
        if pending.done is not None:
            return pending.done
        numbers = [part.number for part in parts]
        if numbers != sorted(set(numbers)):
            raise errors.InvalidPartOrder
        chosen = []
        for part in parts:
            row = pending.parts.get(part.number)
            if row is None or row[0].etag != part.etag:
                raise errors.InvalidPart
            chosen.append(row)
        if any(summary.size < 5 << 20 for summary, _ in chosen[:-1]):
            raise errors.EntityTooSmall
        data = b"".join(piece for _, piece in chosen)
        if size not in (None, len(data)):
            raise errors.InvalidRequest
        self._check(upload.bucket, upload.key, condition)
        etag = f"{md5(b''.join(bytes.fromhex(s.etag) for s, _ in chosen)).hexdigest()}-{len(parts)}"
        pending.done = self._store(
            upload.bucket, upload.key, data, upload.attributes, "",
            self._whole(upload, [s for s, _ in chosen], data, checksum), etag,
            tuple(summary for summary, _ in chosen),
        )  # fmt: skip
        return pending.done

    def _whole(
        self, upload: Upload, parts: list[PartSummary], data: bytes, claimed: Checksum | None
    ) -> Checksum | None:
        algorithm = upload.algorithm
        if algorithm is None:
            return None
        if upload.composite:
            joined = b"".join(p.checksum.digest for p in parts if p.checksum)
            digest = digests_of(joined, frozenset({algorithm})).values[algorithm]
            whole = Checksum(algorithm, digest, len(parts))
        else:
            whole = Checksum(algorithm, digests_of(data, frozenset({algorithm})).values[algorithm])
        if claimed is not None and claimed != whole:
            raise errors.BadDigest
        return whole

    async def abort_upload(self, upload: Upload) -> None:
        del self._uploads[upload.upload_id]
