"""A whole object path in memory: catalog, pool, keys, clock."""

import asyncio
import gc
import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chain.clock import NEVER, Deadline, Entropy
from chain.ids import SegmentId
from chain.keys.capsule import EncryptionKey
from chain.net.transport import Buffer
from gateway.accounts import AccountService
from gateway.catalog.interface import Change, Delete, Put, Reader, Space
from gateway.catalog.memory import MemoryCatalog
from gateway.keys import KeyMissing, KeyRing
from gateway.model import Account, Attributes, Bucket, ObjectVersion
from gateway.objects import ObjectService
from gateway.seal import sealed_size
from gateway.store import Lease, PackBody, Publisher, StoreSettings
from miner.pool import Release
from miner.records import Row
from miner.segments import Arrived, Segment, SegmentUnavailable

MIB = 1 << 20


class FakeClock:
    """Time stands still unless it is moved."""

    def __init__(self) -> None:
        self.ns = 1_800_000_000 * 10**9
        self.set_by = 0  # ns that the wall clock was set forward by, or back

    def now_ns(self) -> int:
        return self.ns + self.set_by

    def monotonic(self) -> float:
        return self.ns / 1e9

    async def sleep(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


class MemoryOwners:
    """Owner keys in a dictionary."""

    def __init__(self, entropy: Entropy) -> None:
        self.entropy = entropy
        self.pairs: dict[bytes, EncryptionKey] = {}

    def create(self) -> bytes:
        pair = EncryptionKey.generate(self.entropy)
        self.pairs[pair.public] = pair
        return pair.public

    def load(self, public: bytes) -> EncryptionKey:
        if public not in self.pairs:
            raise KeyMissing(public.hex())
        return self.pairs[public]


@dataclass
class FakePlaced:
    rows: list[Row]
    receipts: list = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    deadline: Deadline = NEVER


class MemoryPool:
    """Keeps data shards by segment id; counts what is read; can be told to fail."""

    def __init__(self) -> None:
        self.segments: dict[bytes, bytes] = {}
        self.fail_writes: Exception | None = None
        self.corrupt_unless_verified = False
        self.reads: list[tuple[list[tuple[int, int]], bool]] = []
        self.missing: list[int] = []
        self.deadline = NEVER

    async def write(self, segment: Segment, shards: Sequence[Buffer]) -> FakePlaced:
        if self.fail_writes:
            raise type(self.fail_writes)(*self.fail_writes.args)
        assert len(shards) == segment.profile.n
        assert {len(shard) for shard in shards} == {segment.shard_bytes}
        joined = b"".join(shards[: segment.profile.k])[: segment.length]
        self.segments[segment.id] = joined
        return FakePlaced([Row("placement", segment.id, b"here")], [], self.missing, self.deadline)

    async def read(
        self,
        segment: Segment,
        ranges: Sequence[tuple[int, int]],
        *,
        verify: bool = False,
        arrived: Arrived | None = None,
    ) -> list[Buffer]:
        del arrived
        self.reads.append((list(ranges), verify))
        sealed = self.segments.get(segment.id)
        if sealed is None:
            raise SegmentUnavailable(segment.id.hex())
        if self.corrupt_unless_verified and not verify:
            sealed = bytes(len(sealed))
        return [memoryview(sealed)[start:end] for start, end in ranges]

    def release_rows(self, segment: SegmentId) -> Release:
        return Release(
            [Row("placement", segment, b"here")],
            [Row("releases", segment, b"go"), Row("placement", segment, None)],
        )


class FakeLeases:
    def __init__(self) -> None:
        self.ceiling = 1 << 50
        self.none = False

    def lease(self, _account: str) -> Lease | None:
        return None if self.none else Lease(b"lease-1", self.ceiling)


class FakePublisher:
    """The CID is a hash over the leaves; one BLOCKS row for each version."""

    def rows(
        self, _bucket: Bucket, _key: str, uid: bytes, size: int, leaves: bytes
    ) -> tuple[str, list[Change]]:
        cid = hashlib.sha256(leaves + size.to_bytes(8, "big")).hexdigest()
        return cid, [Put(Space.BLOCKS, uid, leaves or b"-")]

    def pack(self, body: AsyncIterator[Buffer]) -> PackBody:
        raise NotImplementedError

    def unpublish_rows(self, _reader: Reader, _version: ObjectVersion, uid: bytes) -> list[Change]:
        return [Delete(Space.BLOCKS, uid)]

    def switched_on(self, _bucket_id: bytes) -> list[Change]:
        return []


class World:
    """One gateway process without HTTP."""

    def __init__(
        self, *, seed: int = 1, publisher: Publisher | None = None, **settings: Any
    ) -> None:
        entropy = random.Random(seed).randbytes
        self.catalog = MemoryCatalog()
        self.pool = MemoryPool()
        self.leases = FakeLeases()
        self.clock = FakeClock()
        self.keys = KeyRing(MemoryOwners(entropy), entropy)
        self.accounts = AccountService(self.catalog, self.keys, clock=self.clock, entropy=entropy)
        self.objects = ObjectService(
            self.catalog,
            self.pool,
            self.pool,
            self.keys,
            self.leases,
            clock=self.clock,
            entropy=entropy,
            # short segments: several in few bytes
            settings=StoreSettings(**{"segment_chunks": 8, **settings}),
            publisher=publisher,
        )

    async def start(self) -> "World":
        self.account: Account = (await self.accounts.create("Ann", id="ann")).account
        self.bucket: Bucket = await self.objects.create_bucket(self.account, "photos")
        return self

    async def read(self, version: ObjectVersion, start: int = 0, end: int | None = None) -> bytes:
        return b"".join([bytes(p) async for p in self.objects.read(version, start, end)])

    def rows(self, space: Space) -> list[tuple[bytes, bytes]]:
        with self.catalog.read() as reader:
            return reader.scan(space, b"\x00", None, 100_000)

    def used(self) -> int:
        with self.catalog.read() as reader:
            return reader.counter(b"used/lease-1")


def lease_bytes(size: int) -> int:
    """What a body of `size` takes of a lease with the default settings: inline, or 4 + 2 shards."""
    if size <= StoreSettings().inline_max:
        return sealed_size(size)
    whole = 8 * MIB
    plain = [min(whole, size - at) for at in range(0, size, whole)]
    return sum(6 * -(-sealed_size(each) // 4) for each in plain)


async def stream(data: bytes, piece: int = 100_000) -> AsyncIterator[Buffer]:
    for at in range(0, len(data), piece):
        yield data[at : at + piece]


A = Attributes("text/plain", {"cache-control": "no-cache"}, {"colour": "red"})


def data_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def put(world: World, key: str, data: bytes, **options: Any) -> ObjectVersion:
    return await world.objects.put(world.bucket, key, stream(data), A, **options)


async def all_buffers_come_back(world: World) -> bool:
    """The event loop lets go of a result one turn later, a thread when its chunk is done."""
    store = world.objects._store
    pools = (store.engine.rings, store.engine.frames, store.reads)
    for _ in range(400):
        gc.collect()
        if not any(pool.in_use for pool in pools):
            return True
        await asyncio.sleep(0.005)
    return False
