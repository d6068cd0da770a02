"""Indexer: brings the block index in line with the buckets' switches, in the background.

Runs in the process that hosts the catalog's jobs. Durable: all progress is in rows
(docs/specs/unixfs-index.md); a repeated step changes nothing, so it may be killed at any moment.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import msgspec

from chain.cids import Cid
from chain.clock import Clock
from gateway.catalog.interface import (
    Append,
    Batch,
    Catalog,
    CatalogUnavailable,
    Change,
    Condition,
    Conflict,
    Delete,
    Equals,
    Put,
    Space,
)
from gateway.errors import InvalidCar, NoSuchBucket, NoSuchKey, StoreError
from gateway.ipfs.codecs import unixfs
from gateway.ipfs.codecs.unixfs import LEAF_BYTES
from gateway.ipfs.index import rows
from gateway.ipfs.index.directories import begin, sweep_legacy
from gateway.ipfs.index.packing import BLOCKS_MAX, PackBody, pack_row, pack_rows
from gateway.ipfs.index.publish import (
    IpfsPublisher,
    block_keys,
    block_rows,
    pack_keys,
    sweep_of_pack,
    version_row,
)
from gateway.model import ObjectVersion
from gateway.objects import ObjectService
from gateway.records import (
    BucketRow,
    CorruptRecord,
    PublishJob,
    VersionRow,
    decode,
    encode,
    live_key,
    version_key,
)
from gateway.versions import PUBLISH_JOBS, attributes_of, object_key, version_uid

log = logging.getLogger(__name__)

_PAGE = 64  # objects of one step
_BATCH = 8192  # rows of one commit
_BUCKETS = 1000
_IDLE_SECONDS = 2.0


class Indexer:
    """Publishes what should be, unpublishes what should not. One per network."""

    def __init__(self, objects: ObjectService, catalog: Catalog, clock: Clock) -> None:
        self._objects = objects
        self._catalog = catalog
        self._clock = clock
        self._publisher = IpfsPublisher()
        self._after = b""  # the last version job that could not be done now

    async def run(self) -> None:
        """Step until cancelled; pauses when there is nothing to do or nothing works."""
        while True:
            try:
                busy = await self.step()
            except (StoreError, CatalogUnavailable, CorruptRecord) as error:
                log.warning("IPFS index: %s", error)
                busy = False
            if not busy:
                await self._clock.sleep(_IDLE_SECONDS)

    async def step(self) -> bool:
        """Do one piece of work; False if there was none. Raises StoreError, CatalogUnavailable."""
        if await self._step_sweep() or await self._step_version():
            return True
        for bucket_id, name, publishes in self._buckets():
            if await self._step_bucket(bucket_id, name, publishes):
                return True
        return False

    # ------------------------------------------------------------------ one version
    async def _step_sweep(self) -> bool:
        """Remove some rows of a large version that was unpublished: leaves first, then nodes."""
        end = rows.after(rows.SWEEP_JOBS)
        with self._catalog.read() as reader:
            found = reader.scan(Space.JOBS, rows.SWEEP_JOBS, end, 1)
            if not found:
                return False
            [(key, value)] = found
            job = rows.sweep_job(value)
            uid = key[len(rows.SWEEP_JOBS) :]
            if not job.root:
                return await self._sweep_pack(key, value)
            leaves, nodes = block_keys(reader, Cid(job.root), uid)
        gone = leaves[job.gone : job.gone + _BATCH]
        change: Change = Put(
            Space.JOBS, key, rows.pack(rows.SweepJob(job.root, job.gone + len(gone)))
        )
        if not gone:
            gone, change = nodes, Delete(Space.JOBS, key)
        deletes = [Delete(Space.BLOCKS, each) for each in gone]
        await self._commit(Batch([Equals(Space.JOBS, key, value)], [*deletes, change]))
        return True

    async def _sweep_pack(self, key: bytes, value: bytes) -> bool:
        """Remove some rows of a pack, and its job with the last."""
        uid = key[len(rows.SWEEP_JOBS) :]
        with self._catalog.read() as reader:
            gone, left = pack_keys(reader, uid, _BATCH // rows.LISTED_MAX)
        changes: list[Change] = [Delete(Space.BLOCKS, each) for each in gone]
        if not left:
            changes.append(Delete(Space.JOBS, key))
        await self._commit(Batch([Equals(Space.JOBS, key, value)], changes))
        return True

    async def _step_version(self) -> bool:
        end = rows.after(PUBLISH_JOBS)
        with self._catalog.read() as reader:
            found = reader.scan(Space.JOBS, self._after or PUBLISH_JOBS, end, 1)
        if not found:
            self._after = b""
            return False
        [(key, value)] = found
        job = decode(PublishJob, value)
        done = Batch([Equals(Space.JOBS, key, value)], [Delete(Space.JOBS, key)])
        try:
            version = self._version(job)
            if version is not None:
                await self._publish(version)
            else:
                await self._forget_pack(job.uid)
            await self._commit(done)
        except (StoreError, NoSuchKey):
            self._after = key + b"\x00"  # the next job's turn; this one comes round again
            raise
        return True

    def _version(self, job: PublishJob) -> ObjectVersion | None:
        """The version a job is about, if it is still there to be published."""
        try:
            bucket = self._objects.bucket(job.bucket)
            if bucket.id != job.bucket_id:
                return None
            version = self._objects.head(bucket, job.key)
        except (NoSuchBucket, NoSuchKey):
            return None
        return version if version_uid(version) == job.uid else None

    async def _publish(self, version: ObjectVersion) -> None:
        """Read a version, commit its blocks' rows, then its own row and its CID."""
        if not version.attributes.published(version.bucket):
            log.info("IPFS index: %s/%s is not published", version.bucket.name, version.key)
            return
        uid = version_uid(version)
        with self._catalog.read() as reader:
            if reader.get(Space.BLOCKS, rows.version_key(uid)) is not None:
                return
        if version.attributes.packed and await self._publish_pack(version, uid):
            return
        leaves = await self._leaves(version)
        dag = await asyncio.to_thread(unixfs.build_file, version.size, leaves)
        put = list[Change](block_rows(dag, uid, leaves))
        small = put if len(put) <= _BATCH else []
        if not small:
            for batch in _batches(put):
                await self._catalog.commit(Batch(changes=batch))
        row = version_row(version.bucket, version.key, uid, dag)
        if await self._commit(self._final(version, uid, str(dag.root), [*small, row])):
            return
        if not small:  # replaced or deleted while it was read: take back what was put
            for batch in _batches([Delete(p.space, p.key) for p in put if isinstance(p, Put)]):
                await self._catalog.commit(Batch(changes=batch))

    async def _publish_pack(self, version: ObjectVersion, uid: bytes) -> bool:
        """Read a CAR, commit its blocks' rows, then its own row and its CID; False if it is none.

        Steps are numbered, so a repeated one puts the same rows. Rows of a version that went
        meanwhile are removed here, or by its job when that comes round again.
        """
        body = PackBody(self._objects.read(version))
        number = total = 0
        try:
            async for places in body.steps():
                put = list[Change](pack_rows(uid, places, number))
                number += BLOCKS_MAX // rows.LISTED_MAX
                total += sum(length for _, length in places.values())
                for batch in _batches(put):
                    await self._catalog.commit(Batch(changes=batch))
        except InvalidCar as error:
            log.info("IPFS index: %s/%s: %s", version.bucket.name, version.key, error)
            await self._forget_pack(uid)
            return False
        row = pack_row(version.bucket, version.key, uid, version.size, total)
        if not await self._commit(self._final(version, uid, body.cid, [row])):
            await self._forget_pack(uid)
        return True

    async def _forget_pack(self, uid: bytes) -> None:
        """Have the rows of a pack removed that is not published."""
        with self._catalog.read() as reader:
            place = rows.version_key(uid)
            if reader.get(Space.BLOCKS, place) is not None or not pack_keys(reader, uid, 1)[0]:
                return
        await self._commit(Batch([Equals(Space.BLOCKS, place, None)], [sweep_of_pack(uid)]))

    def _final(
        self, version: ObjectVersion, uid: bytes, cid: str, changes: list[Change]
    ) -> Batch | None:
        """The commit that makes it public, on condition that nothing has changed."""
        conditions, own = self._with_cid(version, uid, cid)
        if not conditions:
            return None
        told = [_changed(version)] if version.bucket.publishes else []
        return Batch(conditions, [*changes, *own, *told])

    def _with_cid(
        self, version: ObjectVersion, uid: bytes, cid: str | None
    ) -> tuple[list[Condition], list[Change]]:
        """The version's own rows with another CID; nothing if it is gone, or is not (None: is) to
        be published any more."""
        bucket, key = version.bucket, object_key(version.key)
        places = [
            (Space.LIVE, live_key(bucket.id, key)),
            (Space.VERSIONS, version_key(bucket.id, key, version.sequence)),
        ]
        conditions: list[Condition] = []
        changes: list[Change] = []
        with self._catalog.read() as reader:
            switch = reader.get(Space.BUCKETS, bucket.name.encode())
            if switch is None:
                return [], []
            row = decode(BucketRow, switch)
            if row.id != bucket.id:
                return [], []
            bucket = replace(bucket, publishes=row.publishes)
            conditions.append(Equals(Space.BUCKETS, bucket.name.encode(), switch))
            for space, place in places:
                value = reader.get(space, place)
                if value is None:
                    if space == Space.LIVE:
                        return [], []
                    continue  # LIVE holds all of it
                stored = decode(VersionRow, value)
                wanted = attributes_of(stored).published(bucket)
                if stored.uid != uid or wanted is (cid is None):
                    return [], []
                conditions.append(Equals(space, place, value))
                changed = msgspec.structs.replace(stored, cid=cid)
                changes.append(Put(space, place, encode(changed)))
        return conditions, changes

    async def _leaves(self, version: ObjectVersion) -> bytes:
        """Packed SHA2-256 digests of each MiB; holds one MiB."""
        digests: list[bytes] = []
        pending = bytearray()
        async for part in self._objects.read(version):
            pending += part
            while len(pending) >= LEAF_BYTES:
                leaf = bytes(pending[:LEAF_BYTES])
                del pending[:LEAF_BYTES]
                digests.append(await asyncio.to_thread(_sha256, leaf))
        if pending or not digests:
            digests.append(_sha256(bytes(pending)))
        return b"".join(digests)

    # ------------------------------------------------------------------ a whole bucket
    def _buckets(self) -> Iterator[tuple[bytes, str, bool]]:
        """(id, name, publishes) of every bucket, and of gone ones that left a job."""
        seen: set[bytes] = set()
        start = b""
        while True:
            with self._catalog.read() as reader:
                page = reader.scan(Space.BUCKETS, start or b"\x00", None, _BUCKETS)
            for name, value in page:
                row = decode(BucketRow, value)
                seen.add(row.id)
                yield row.id, name.decode(), row.publishes
            if len(page) < _BUCKETS:
                break
            start = page[-1][0] + b"\x00"
        end = rows.after(rows.BUCKET_JOBS)
        with self._catalog.read() as reader:
            jobs = reader.scan(Space.JOBS, rows.BUCKET_JOBS, end, 1_000_000)
        for key, value in jobs:
            bucket_id = key[len(rows.BUCKET_JOBS) :]
            if bucket_id not in seen:
                yield bucket_id, rows.bucket_job(value).bucket, False

    async def _step_bucket(self, bucket_id: bytes, name: str, publishes: bool) -> bool:
        """One page of a bucket whose row is not done; False when there is nothing to do."""
        key = rows.job_key(bucket_id)
        with self._catalog.read() as reader:
            value = reader.get(Space.JOBS, key)
            tree = reader.get(Space.BLOCKS, rows.tree_key(bucket_id)) if publishes else None
        if value is None and not publishes:
            return False
        job = rows.bucket_job(value) if value is not None else None
        if publishes and tree is None:
            return await self._begin(bucket_id, name, value)
        if job is None or job.on != publishes:
            job = rows.BucketJob(name, publishes, b"", done=False)
        elif job.done:
            return False
        start = await self._page(bucket_id, name, job)
        ends = start is None and not publishes
        if ends and (await self._sweep(bucket_id) or await self._sweep_gone(bucket_id, name)):
            return True
        change: Change = Put(Space.JOBS, key, rows.pack(_advanced(job, start)))
        if ends:
            change = Delete(Space.JOBS, key)
        await self._commit(Batch([Equals(Space.JOBS, key, value)], [change]))
        return True

    async def _begin(self, bucket_id: bytes, name: str, value: bytes | None) -> bool:
        """An empty directory, and all keys from the first one on."""
        key, tree = rows.job_key(bucket_id), rows.tree_key(bucket_id)
        job = rows.BucketJob(name, on=True, start=b"", done=False)
        conditions = [Equals(Space.JOBS, key, value), Equals(Space.BLOCKS, tree, None)]
        changes = [Put(Space.JOBS, key, rows.pack(job)), *begin(bucket_id, name)]
        return await self._commit(Batch(conditions, changes))

    async def _page(self, bucket_id: bytes, name: str, job: rows.BucketJob) -> bytes | None:
        """Work on one page of objects; the key to go on from, None at the end."""
        try:
            bucket = self._objects.bucket(name)
        except NoSuchBucket:
            return None
        if bucket.id != bucket_id or bucket.publishes != job.on:
            return None if bucket.id != bucket_id else job.start
        listing = self._objects.list_objects(bucket, start=job.start, limit=_PAGE)
        known = [_changed(found) for found in listing.objects if found.cid is not None]
        if job.on and known:
            await self._commit(Batch(changes=known))
        for found in listing.objects:
            try:
                version = self._objects.head(bucket, found.key)
            except NoSuchKey:
                continue
            if not job.on:
                await self._unpublish(version)
                continue
            try:
                await self._publish(version)
            except StoreError as error:  # one object must not hold up the bucket
                log.warning("IPFS index: %s/%s: %s", name, found.key, error)
                again = PublishJob(name, bucket_id, found.key, version_uid(version))
                await self._commit(Batch(changes=[Append(Space.JOBS, PUBLISH_JOBS, encode(again))]))
        return listing.next_start

    async def _unpublish(self, version: ObjectVersion) -> None:
        uid = version_uid(version)
        with self._catalog.read() as reader:
            gone = self._publisher.unpublish_rows(reader, version, uid)
        conditions, changes = self._with_cid(version, uid, None)
        if conditions:
            await self._commit(Batch(conditions, [*gone, *changes]))

    async def _sweep(self, bucket_id: bytes) -> bool:
        """Forget one directory of an old release; False when there is none left."""
        with self._catalog.read() as reader:
            batch = sweep_legacy(reader, bucket_id)
        if batch is None:
            return False
        await self._commit(batch)
        return True

    async def _sweep_gone(self, bucket_id: bytes, name: str) -> bool:
        """Forget some of what a bucket that is gone had pinned and named; False if nothing was."""
        with suppress(NoSuchBucket):
            if self._objects.bucket(name).id == bucket_id:
                return False
        left: list[Change] = []
        with self._catalog.read() as reader:
            for prefix in rows.owned_prefixes(bucket_id):
                found = reader.scan(Space.BLOCKS, prefix, rows.after(prefix), _BATCH - len(left))
                left += [Delete(Space.BLOCKS, key) for key, _ in found]
                if len(left) == _BATCH:
                    break
        if left:
            await self._commit(Batch(changes=left))
        return bool(left)

    async def _commit(self, batch: Batch | None) -> bool:
        """Whether it was committed; False if it was overtaken."""
        if batch is None:
            return False
        try:
            await self._catalog.commit(batch)
        except Conflict:
            return False
        return True


def _advanced(job: rows.BucketJob, start: bytes | None) -> rows.BucketJob:
    return rows.BucketJob(job.bucket, job.on, start or b"", done=start is None)


def _changed(version: ObjectVersion) -> Append:
    """The row by which the directories follow."""
    prefix = rows.changed_prefix(version.bucket.id)
    return Append(Space.JOBS, prefix, object_key(version.key))


def _batches(changes: list[Change]) -> Iterator[list[Change]]:
    for at in range(0, len(changes), _BATCH):
        yield changes[at : at + _BATCH]


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
