"""Building one catalog batch from one snapshot, and trying again when it was overtaken."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from chain.ids import ID_BYTES, FragmentId
from gateway.catalog.interface import (
    Add,
    Append,
    Batch,
    Catalog,
    CatalogFull,
    CatalogUnavailable,
    Change,
    Condition,
    Conflict,
    Delete,
    Equals,
    Put,
    Reader,
    Space,
)
from gateway.errors import QuotaExceeded, ServiceUnavailable, SlowDown
from gateway.records import ReleaseJob, StreamRef, StreamRow, decode, encode, used_counter
from gateway.seal import CHUNK, sealed_size
from gateway.store import Lease, StoragePool, pool_space
from miner.records import Row
from miner.segments import PROFILES, Profile, Segment

# Overtaken so often, a key is written by more clients than one commit can serve.
ATTEMPTS = 64
# A commit takes 65,535 changes and 16 MiB; 5 TiB are 655,360 segments.
RELEASED_AT_ONCE = 1024
RELEASE_JOBS = b"release/"
BYTES_COUNTER = b"bytes/"  # of gateway/limits.py
_STREAMS_PER_JOB = 4096
T = TypeVar("T")


class Transaction:
    """Conditions and changes over one snapshot."""

    def __init__(self, reader: Reader, pool: StoragePool) -> None:
        self.reader = reader
        self._pool = pool
        self._conditions: list[Condition] = []
        self._changes: list[Change] = []
        self._once: list[Append] = []
        self._references: dict[bytes, int] = {}
        self._released = 0
        self._deferred: list[StreamRef] = []
        self._counts: dict[bytes, int] = {}
        self._ceilings: dict[bytes, int] = {}

    def expect(self, space: Space, key: bytes, value: bytes | None) -> None:
        """Fail (and try again) unless the row is still so."""
        self._conditions.append(Equals(space, key, value))

    def require(self, condition: Condition) -> None:
        """Fail unless this holds."""
        self._conditions.append(condition)

    def put(self, space: Space, key: bytes, value: bytes) -> None:
        """Set a row."""
        self._changes.append(Put(space, key, value))

    def delete(self, space: Space, key: bytes) -> None:
        """Remove a row."""
        self._changes.append(Delete(space, key))

    def append(self, space: Space, prefix: bytes, value: bytes) -> None:
        """Add a row to a queue."""
        self._changes.append(Append(space, prefix, value))

    def append_once(self, space: Space, prefix: bytes, value: bytes) -> None:
        """Add a row to a queue, unless this transaction has done so."""
        change = Append(space, prefix, value)
        if change not in self._once:
            self._once.append(change)
            self._changes.append(change)

    def add(self, changes: Iterable[Change]) -> None:
        """Take changes that others made."""
        self._changes.extend(changes)

    def pool_rows(self, rows: Iterable[Row]) -> None:
        """The storage pool's rows."""
        for row in rows:
            space = pool_space(row)
            if row.value is None:
                self.delete(space, row.key)
            else:
                self.put(space, row.key, row.value)

    def count(self, counter: bytes, by: int, ceiling: int | None = None) -> None:
        """Add to a row of COUNTERS; going up it stays under its ceiling."""
        self._counts[counter] = self._counts.get(counter, 0) + by
        if ceiling is not None:
            self._ceilings[counter] = ceiling

    def charge(self, lease: Lease, size: int) -> None:
        """Count `size` bytes more against a lease, under its ceiling."""
        self.count(used_counter(lease.id), size, lease.ceiling)

    def refund(self, lease: bytes, size: int) -> None:
        """Count `size` bytes less."""
        self.count(used_counter(lease), -size)

    def share(self, stream: StreamRef, by: int) -> None:
        """One version more (+1) or fewer (-1) uses the stream."""
        if by < 0:
            self._released += weight(stream)
            if self._released > RELEASED_AT_ONCE:
                self._deferred.append(stream)
                return
        if stream.inline:
            assert by < 0, "an inline stream has one user"
            self.delete(Space.BODIES, stream.id)
        else:
            self._references[stream.id] = self._references.get(stream.id, 0) + by

    def batch(self) -> Batch:
        """What to commit."""
        for stream_id, by in self._references.items():
            self._recount(stream_id, by)
        self._references.clear()
        for at in range(0, len(self._deferred), _STREAMS_PER_JOB):
            job = ReleaseJob(tuple(self._deferred[at : at + _STREAMS_PER_JOB]))
            self.append(Space.JOBS, RELEASE_JOBS, encode(job))
        self._deferred.clear()
        counters: list[Change] = []
        for counter, delta in self._counts.items():
            # Going down needs no room: a lease that shrank still lets its owner delete.
            ceiling = self._ceilings.get(counter) if delta > 0 else None
            if delta:
                counters.append(Add(counter, delta, ceiling=ceiling))
        return Batch(self._conditions, [*self._changes, *counters])

    def _recount(self, stream_id: bytes, by: int) -> None:
        raw = self.reader.get(Space.STREAMS, stream_id)
        if raw is None:
            # Released meanwhile: make the commit fail, so that all is judged again.
            self._conditions.append(Equals(Space.STREAMS, stream_id, b""))
            return
        self.expect(Space.STREAMS, stream_id, raw)
        row = decode(StreamRow, raw)
        left = row.references + by
        if left > 0:
            if by:
                changed = msgspec.structs.replace(row, references=left)
                self.put(Space.STREAMS, stream_id, encode(changed))
            return
        self.delete(Space.STREAMS, stream_id)
        for segment in segments_of(row):
            release = self._pool.release_rows(segment.id)
            for expected in release.expected:
                self.expect(pool_space(expected), expected.key, expected.value)
            self.pool_rows(release.changes)


def weight(stream: StreamRef) -> int:
    """About how many rows it takes to let go of a stream."""
    return 1 + stream.size // (8 * CHUNK)


def release_some(transaction: Transaction) -> bool:
    """Work off a part of the oldest release job; False if there is none."""
    rows = transaction.reader.scan(Space.JOBS, RELEASE_JOBS, RELEASE_JOBS + b"\xff", 1)
    if not rows:
        return False
    key, raw = rows[0]
    streams = decode(ReleaseJob, raw).streams
    taken, total = 0, 0
    while taken < len(streams) and total + weight(streams[taken]) <= RELEASED_AT_ONCE:
        total += weight(streams[taken])
        taken += 1
    for stream in streams[:taken]:
        transaction.share(stream, -1)
    transaction.expect(Space.JOBS, key, raw)
    if taken < len(streams):
        transaction.put(Space.JOBS, key, encode(ReleaseJob(streams[taken:])))
    else:
        transaction.delete(Space.JOBS, key)
    return True


def segments_of(row: StreamRow) -> list[Segment]:
    """All segments of a stored stream."""
    return [segment_of(row, i) for i in range(-(-row.size // (row.segment_chunks * CHUNK)) or 1)]


def segment_of(row: StreamRow, number: int) -> Segment:
    """One segment, without building the others."""
    profile = PROFILES.get(row.profile)
    if profile is None or (profile.k, profile.m) != (row.k, row.m):
        profile = Profile(row.profile, row.k, row.m)
    step = row.segment_chunks * CHUNK
    plain = min(step, row.size - number * step)
    width = ID_BYTES * profile.n
    ids = row.fragments[number * width : (number + 1) * width]
    return Segment(
        profile,
        sealed_size(plain),
        tuple(FragmentId(ids[i : i + ID_BYTES]) for i in range(0, width, ID_BYTES)),
    )


def unavailable(error: CatalogUnavailable) -> ServiceUnavailable:
    """What a user is told."""
    if isinstance(error, CatalogFull):
        return ServiceUnavailable("No space is left where the catalog is kept. Reading goes on.")
    return ServiceUnavailable()


async def commit(catalog: Catalog, pool: StoragePool, build: Callable[[Transaction], T]) -> T:
    """Run `build` on a fresh snapshot and commit what it made; again if it was overtaken.

    Raises what `build` raises, QuotaExceeded, ServiceUnavailable, SlowDown.
    """
    for _ in range(ATTEMPTS):
        with catalog.read() as reader:
            transaction = Transaction(reader, pool)
            result = build(transaction)
            batch = transaction.batch()
        if not batch.changes:
            return result
        try:
            await catalog.commit(batch)
        except Conflict as conflict:
            if isinstance(conflict.failed, Add):
                if conflict.failed.key.startswith(BYTES_COUNTER):
                    raise QuotaExceeded(
                        "The bucket or its owner's account may not hold so many bytes."
                    ) from conflict
                raise QuotaExceeded from conflict
        except CatalogUnavailable as error:
            raise unavailable(error) from error
        else:
            return result
    raise SlowDown
