"""Whatever clients do and leave half done, disks hold what live objects need, and nothing else.

The whole object path on real stores: volumes of six miners, the catalog's log and index.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chain.ids import SegmentId
from chain.keys.identity import Identity
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.net.transport import Buffer, Handlers
from gateway.accounts import AccountService
from gateway.catalog.compaction import Compactor
from gateway.catalog.local import LocalCatalog
from gateway.catalog.pool_records import CatalogPoolRecords
from gateway.catalog.store import StoreSettings as CatalogSettings
from gateway.errors import IncompleteBody, NoSuchKey
from gateway.keys import KeyRing
from gateway.model import Attributes, CompletedPart
from gateway.objects import ObjectService
from gateway.store import Lease, StoreSettings
from miner.client import MinerPeers
from miner.fragment import fragment_key
from miner.owner import PoolOwner
from miner.placement import MinerInfo
from miner.pool import StoragePool
from miner.releaser import Releaser
from miner.service import MinerService
from miner.store.layout import BLOCK
from miner.store.volumes import VolumeStore
from miner.sweep import Sweeper
from tests.simulation.miner_grid import Directory
from tests.simulation.whole.checks import Rows, queues, references
from tests.unit.object_parts import FakeClock, MemoryOwners, stream

MIB = 1 << 20
MINERS = 6
STAGED_SECONDS = 3600.0
LOG_FILE, VOLUME = 16 << 10, 128 << 10
# Inline, one small segment, a pipeline of one segment, several segments.
SIZES = (1, 9_000, 9_000, 17_000, 40_000, 300_000, 2_500_000)
KEYS = [f"key {n}" for n in range(12)]


class OneLease:
    def lease(self, _account: str) -> Lease:
        return Lease(b"lease-1", 1 << 50)


async def vanishing(data: bytes) -> AsyncIterator[Buffer]:
    """A client that is gone before its body's end, when its first segments are stored."""
    for at in range(0, len(data), MIB):
        yield data[at : at + MIB]
        await asyncio.sleep(0.02)
    raise IncompleteBody


class Disks:
    """Six miners and a catalog on the disk, and who looks after them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = FakeClock()
        self.folder = folder
        self.stores: list[VolumeStore] = []
        self.sweepers: list[Sweeper] = []
        self.catalog = LocalCatalog.open(
            folder / "catalog", settings=CatalogSettings(file_bytes=LOG_FILE, map_bytes=1 << 30)
        )
        self.records = CatalogPoolRecords(self.catalog)
        self.directory = Directory([])
        self.transport = MemoryTransport(MemoryNetwork())
        self.peers = MinerPeers(self.transport, self.clock)
        entropy = self.random.randbytes
        pool = StoragePool(self.directory, self.peers, self.records, self.clock, entropy)
        keys = KeyRing(MemoryOwners(entropy), entropy)
        self.accounts = AccountService(self.catalog, keys, clock=self.clock, entropy=entropy)
        self.objects = ObjectService(
            self.catalog, pool, pool, keys, OneLease(), clock=self.clock, entropy=entropy,
            settings=StoreSettings(segment_chunks=1, threads=2),
        )  # fmt: skip
        self.releaser = Releaser(self.records, self.directory, self.peers, self.clock)
        self.compactor = Compactor(self.catalog)

    async def start(self) -> None:
        owner = PoolOwner(self.records, self.directory).handlers(Handlers())
        await self.transport.serve("memory://owner", owner)
        to_owner = self.transport.connect("memory://owner")
        for number in range(MINERS):
            identity = Identity.generate(self.random.randbytes)
            store = VolumeStore.open(
                self.folder / f"miner{number}",
                pledge=1 << 30,
                clock=self.clock,
                entropy=self.random.randbytes,
                volume_bytes=VOLUME,
            )
            address = f"memory://miner{number}"
            await self.transport.serve(address, MinerService(store, identity).handlers())
            info = MinerInfo(identity.id, address, f"domain{number}", 1 << 30)
            self.directory.miners[identity.id] = info
            self.stores.append(store)
            self.sweepers.append(
                Sweeper(store, lambda _: to_owner, identity.id, self.clock, STAGED_SECONDS)
            )
        account = (await self.accounts.create("Ann", id="ann")).account
        self.bucket = await self.objects.create_bucket(account, "photos")

    async def close(self) -> None:
        for store in self.stores:
            await store.close()
        await self.catalog.close()
        await self.transport.close()
        self.objects.close()

    async def tidy(self) -> None:
        """Hours pass; everything that works in the background does so."""
        while await self.objects.release_some():
            pass
        while await self.releaser.step():
            pass
        self.clock.ns += int(2 * STAGED_SECONDS * 1e9)
        for sweeper in self.sweepers:
            await sweeper.sweep()
        for store in self.stores:
            await store.compact()
        for _ in range(2):  # a file is emptied in one round and may go in the next
            await self.compactor.work(force=True)

    def problems(self) -> list[str]:
        with self.catalog.read() as reader:
            rows = Rows(reader)
        found = [p for p in queues(rows) if "OUTBOX" not in p and "RELEASED" not in p]
        found += references(rows)
        for info, store in zip(self.directory.all(), self.stores, strict=True):
            named = {
                fragment_key(SegmentId(segment), index)
                for segment, placement in rows.placements.items()
                for index, holder in enumerate(placement.holders)
                if holder.miner == info.id
            }
            held = store.scan(b"", 1 << 20)
            if named != {key for key, _ in held}:
                found.append(f"{info.domain} holds other fragments than placements name")
            # With its head a fragment touches a block more at each end; half a volume may be dead,
            # and the one that is being written is let be.
            live = sum(entry.size + 2 * BLOCK for _, entry in held)
            if store.space().used > 2 * live + 2 * VOLUME:
                found.append(f"{info.domain} takes {store.space().used} bytes for {live}")
        bodies = sum(s.size for v in rows.versions for s in v.streams if s.inline)
        log = sum(path.stat().st_size for path in (self.folder / "catalog/log").iterdir())
        if log > 2 * bodies + 2 * LOG_FILE:
            found.append(f"the log takes {log} bytes for bodies of {bodies}")
        return found


@pytest.fixture
async def disks(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Disks]:
    disks = Disks(tmp_path, request.getfixturevalue("seed"))
    await disks.start()
    yield disks
    await disks.close()


class Clients:
    """Does one random thing after the other, and knows what must be there."""

    def __init__(self, disks: Disks) -> None:
        self.disks, self.random = disks, disks.random
        self.bodies: dict[str, bytes] = {}

    def body(self) -> bytes:
        return self.random.randbytes(self.random.choice(SIZES))

    async def act(self) -> None:
        act = self.random.choice(
            [self.put, self.put, self.delete, self.copy, self.vanish, self.upload, self.abort]
        )
        await act(self.random.choice(KEYS))

    async def put(self, key: str) -> None:
        data = self.body()
        objects, bucket = self.disks.objects, self.disks.bucket
        await objects.put(bucket, key, stream(data), Attributes(), length=len(data))
        self.bodies[key] = data

    async def delete(self, key: str) -> None:
        await self.disks.objects.delete(self.disks.bucket, key)
        self.bodies.pop(key, None)

    async def copy(self, key: str) -> None:
        objects, bucket = self.disks.objects, self.disks.bucket
        source = self.random.choice(KEYS)
        if source in self.bodies and source != key:
            await objects.copy(objects.head(bucket, source), bucket, key)
            self.bodies[key] = self.bodies[source]

    async def vanish(self, key: str) -> None:
        data = self.body()
        with pytest.raises(IncompleteBody):
            await self.disks.objects.put(
                self.disks.bucket, key, vanishing(data), Attributes(), length=2 * len(data)
            )

    async def upload(self, key: str) -> None:
        """Two parts, of which the first is sent twice, and a third that is left out."""
        objects, bucket = self.disks.objects, self.disks.bucket
        upload = await objects.create_upload(bucket, key, Attributes())
        first, last = self.random.randbytes(5 * MIB), self.body()
        parts = []
        for number, data in ((1, self.body()), (1, first), (2, last), (3, self.body())):
            part = await objects.put_part(upload, number, stream(data), length=len(data))
            parts.append(CompletedPart(number, part.etag))
        await objects.complete_upload(upload, parts[1:3])
        self.bodies[key] = first + last

    async def abort(self, key: str) -> None:
        objects = self.disks.objects
        upload = await objects.create_upload(self.disks.bucket, key, Attributes())
        data = self.body()
        await objects.put_part(upload, 1, stream(data), length=len(data))
        with pytest.raises(IncompleteBody):
            await objects.put_part(upload, 2, vanishing(data), length=2 * len(data))
        await objects.abort_upload(upload)

    async def check(self) -> None:
        objects, bucket = self.disks.objects, self.disks.bucket
        for key in KEYS:
            if key in self.bodies:
                version = objects.head(bucket, key)
                data = b"".join([bytes(piece) async for piece in objects.read(version)])
                assert data == self.bodies[key], key
            else:
                with pytest.raises(NoSuchKey):
                    objects.head(bucket, key)


@pytest.mark.parametrize("seed", range(3))
async def test_disks_hold_what_live_objects_need_and_nothing_else(disks: Disks, seed: int) -> None:
    del seed  # the fixture's
    clients = Clients(disks)
    for _ in range(3):
        for _ in range(16):
            await clients.act()
        await disks.tidy()
        assert not disks.problems()
        await clients.check()
    for key in KEYS:
        await clients.delete(key)
    await disks.tidy()
    assert not disks.problems()
    assert [store.space().fragments for store in disks.stores] == [0] * MINERS
    with disks.catalog.read() as reader:
        assert reader.counter(b"used/lease-1") == 0
