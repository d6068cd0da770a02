"""Another storage class for a version that stays what it is: same id, ETag, dates, tags, keys.

The sealed bytes are cut and coded anew and never opened, so it takes no key: versions that only
their clients can read move too. Streams go over in groups, each in one commit that lets the version
point to the new ones; the old ones stay for RETIRED_SECONDS, for reads that are under way.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec

from gateway.catalog.interface import Space
from gateway.errors import SlowDown
from gateway.events.noting import note
from gateway.events.rules import Change
from gateway.finding import Found, named
from gateway.manifest import Manifest, StreamManifest, fid
from gateway.model import ObjectVersion
from gateway.records import (
    STORAGE_CLASS,
    ReleaseJob,
    StreamRef,
    StreamRow,
    VersionRow,
    decode,
    encode,
)
from gateway.seal import CHUNK, plain_size, sealed_size
from gateway.segments import Frame, Stored, longest_segment
from gateway.store import Store, account_keys
from gateway.transaction import Transaction, commit, segments_of
from gateway.versions import object_key, put_live, report
from gateway.writing import packed_receipts, stored_manifest
from miner.segments import Profile, SegmentUnavailable
from miner.writing import BelowQuorum

RETIRED = b"retired/"
RETIRED_SECONDS = 6 * 3600
# Streams of one commit: what a crash lets be done again, against rows of 10,000 parts each.
_GROUP_BYTES = 1 << 30


class Recoded(NamedTuple):
    """A stream in another code, stored and not committed yet."""

    old: StreamRef
    id: bytes
    row: StreamRow
    stored: Stored


class Transition:
    """Moves one version after the other. Raises SlowDown, QuotaExceeded, ServiceUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def move(self, version: ObjectVersion, storage_class: str, profile: str) -> bool:
        """Give the version a class and its bytes that class's profile; False if it is gone.

        `profile` is a name, "" for the bucket's. What was done before a failure stays done.
        """
        target = self._store.profile(version.bucket, profile)
        while True:
            row = self._row(version)
            if row is None:
                return False
            group, more = self._group(row, target)
            recoded = [await self._recode(stream, target) for stream in group]
            label = None if more else storage_class
            if not await self._swap(version, recoded, target, label):
                return False
            if not more:
                return True

    def _row(self, version: ObjectVersion) -> VersionRow | None:
        with self._store.catalog.read() as reader:
            found = named(reader, version.bucket, object_key(version.key), version.version_id)
        return found.row if found is not None and _same(found, version) else None

    def _group(self, row: VersionRow, target: Profile) -> tuple[list[StreamRef], bool]:
        """The next streams that are coded otherwise, and whether there are more behind them."""
        group: list[StreamRef] = []
        size = 0
        with self._store.catalog.read() as reader:
            for stream in row.streams:
                raw = None if stream.inline else reader.get(Space.STREAMS, stream.id)
                if raw is None or decode(StreamRow, raw).profile == target.name:
                    continue
                if group and size + stream.size > _GROUP_BYTES:
                    return group, True
                group.append(stream)
                size += stream.size
        return group, False

    # ------------------------------------------------------------------ one stream
    async def _recode(self, stream: StreamRef, target: Profile) -> Recoded:
        """Store a stream's sealed bytes in another code."""
        store = self._store
        with store.catalog.read() as reader:
            raw = reader.get(Space.STREAMS, stream.id)
        if raw is None:
            raise SlowDown  # removed just now: the row that is read next says so
        old = decode(StreamRow, raw)
        chunks = longest_segment(target)
        stored = Stored()
        loop = asyncio.get_running_loop()
        try:
            async for frame, length in self._frames(old, target, chunks):
                segment, shards = await loop.run_in_executor(
                    store.engine.executor, frame.encode, length
                )
                stored.add(segment, await store.engine.sink.write(segment, shards))
        except (BelowQuorum, SegmentUnavailable) as error:
            raise SlowDown from error
        row = StreamRow(
            references=1,
            size=old.size,
            profile=target.name,
            k=target.k,
            m=target.m,
            segment_chunks=chunks,
            fragments=b"".join(b"".join(each.fragments) for each in stored.segments),
        )
        return Recoded(stream, store.new_id(), row, stored)

    async def _frames(
        self, old: StreamRow, target: Profile, chunks: int
    ) -> AsyncIterator[tuple[Frame, int]]:
        """The sealed chunks in segments of the target's length, one at a time.

        A segment is its chunks' ciphertext and then their tags (docs/specs/sealing.md).
        """
        left = old.size
        sealed = self._sealed(old)
        cipher, tags = memoryview(b""), bytearray()
        while left:
            plain, filled = min(left, chunks * CHUNK), 0
            memory = memoryview(bytearray(Frame.size(plain, target)))
            while filled < plain:
                if not cipher:
                    cipher, more = await anext(sealed)
                    tags += more
                taken = min(len(cipher), plain - filled)
                memory[filled : filled + taken] = cipher[:taken]
                cipher, filled = cipher[taken:], filled + taken
            length = sealed_size(plain)
            memory[plain:length] = tags[: length - plain]
            del tags[: length - plain]
            yield Frame(memory, target), length
            left -= plain

    async def _sealed(self, old: StreamRow) -> AsyncIterator[tuple[memoryview, memoryview]]:
        """Ciphertext and tags of a segment at a time, checked against its fragments' ids."""
        for segment in segments_of(old):
            [data] = await self._store.source.read(segment, [(0, segment.length)], verify=True)
            whole = memoryview(data).cast("B")
            plain = plain_size(segment.length)
            yield whole[:plain], whole[plain:]

    # ------------------------------------------------------------------ the commit
    async def _swap(
        self,
        version: ObjectVersion,
        recoded: Sequence[Recoded],
        target: Profile,
        storage_class: str | None,
    ) -> bool:
        """Let the version point to the new streams; with the last of them it gets its class."""
        store = self._store

        def build(transaction: Transaction) -> bool:
            reader, bucket, key = transaction.reader, version.bucket, object_key(version.key)
            found = named(reader, bucket, key, version.version_id)
            if found is None or not _same(found, version):
                return False
            here = {stream.id for stream in found.row.streams}
            if any(each.old.id not in here for each in recoded):
                return False
            transaction.expect(found.space, found.place, found.raw)
            row = self._pointed(transaction, version, found.row, recoded)
            if storage_class is not None:
                row = _labelled(row, target, storage_class)
                if bucket.watched:
                    row = note(store, transaction, bucket, version.key, row, Change.AMENDED)
            if found.space is Space.LIVE:
                put_live(transaction, bucket, key, row)
            else:
                transaction.put(found.space, found.place, encode(row))
            return True

        return await commit(store.catalog, store.pool, build)

    def _pointed(
        self,
        transaction: Transaction,
        version: ObjectVersion,
        row: VersionRow,
        recoded: Sequence[Recoded],
    ) -> VersionRow:
        """The row with the new streams, whose rows and charge go to the transaction."""
        if not recoded:
            return row
        store, bucket = self._store, version.bucket
        if any(each.stored.deadline.has_passed(store.clock) for each in recoded):
            raise SlowDown("The body took too long to store.")
        new: dict[bytes, Recoded] = {each.old.id: each for each in recoded}
        charged = row.charged
        manifests: list[StreamManifest] = []
        streams: list[StreamRef] = []
        for stream in row.streams:
            each = new.get(stream.id)
            if each is None:
                manifests.append(stored_manifest(transaction.reader, stream))
                streams.append(stream)
                continue
            raw = transaction.reader.get(Space.STREAMS, stream.id)
            if raw is None:
                raise SlowDown
            segments = tuple(each.stored.segments)
            charged += sum(segment.stored_bytes for segment in segments)
            charged -= sum(segment.stored_bytes for segment in segments_of(decode(StreamRow, raw)))
            manifests.append(StreamManifest(stream.size, stream.commitment, None, segments))
            streams.append(msgspec.structs.replace(stream, id=each.id))
            transaction.put(Space.STREAMS, each.id, encode(each.row))
            transaction.pool_rows(each.stored.rows)
        due = store.clock.now_ns() + RETIRED_SECONDS * 10**9
        retired = ReleaseJob(tuple(each.old for each in recoded))
        transaction.append(Space.JOBS, RETIRED + due.to_bytes(8, "big"), encode(retired))
        lease = store.lease(bucket)
        transaction.charge(lease, charged)
        transaction.refund(row.lease, row.charged)
        owner = account_keys(transaction.reader, bucket.owner.id).owner
        moved = msgspec.structs.replace(
            row,
            streams=tuple(streams),
            fid=fid(Manifest(owner, tuple(manifests))),
            lease=lease.id,
            charged=charged,
            complete=row.complete and all(each.stored.complete for each in recoded),
        )
        receipts = packed_receipts(r for each in recoded for r in each.stored.receipts)
        report(store, transaction, bucket, row, "delete", ())
        report(store, transaction, bucket, moved, "put", receipts)
        return moved


def _same(found: Found, version: ObjectVersion) -> bool:
    return found.row.uid == version.uid and not found.row.deleted


def _labelled(row: VersionRow, target: Profile, storage_class: str) -> VersionRow:
    headers = {name: value for name, value in row.headers.items() if name != STORAGE_CLASS}
    if storage_class != "STANDARD":
        headers[STORAGE_CLASS] = storage_class
    return msgspec.structs.replace(row, headers=headers, profile=target.name)


def release_retired(transaction: Transaction, now_ns: int) -> bool:
    """Let go of the oldest streams that a transition left and nobody reads; False if none."""
    rows = transaction.reader.scan(Space.JOBS, RETIRED, RETIRED + b"\xff", 1)
    if not rows:
        return False
    key, raw = rows[0]
    if int.from_bytes(key[len(RETIRED) : len(RETIRED) + 8], "big") > now_ns:
        return False
    for stream in decode(ReleaseJob, raw).streams:
        transaction.share(stream, -1)
    transaction.expect(Space.JOBS, key, raw)
    transaction.delete(Space.JOBS, key)
    return True
