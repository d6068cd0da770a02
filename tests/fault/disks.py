"""The whole object path on real stores, in one process: volumes of six miners, log and index.

Processes speak by messages on a memory network, which notes each request.
"""

import random
from collections.abc import Callable
from pathlib import Path

from chain.ids import SegmentId
from chain.keys.identity import Identity
from chain.net.memory import MemoryNetwork, MemoryServer, MemoryTransport
from chain.net.transport import Buffer, Caller, Handlers
from gateway.accounts import AccountService
from gateway.catalog.client import CatalogClient
from gateway.catalog.compaction import Compactor
from gateway.catalog.interface import Space
from gateway.catalog.local import LocalCatalog
from gateway.catalog.pool_records import CatalogPoolRecords
from gateway.catalog.service import CatalogService
from gateway.catalog.store import StoreSettings as CatalogSettings
from gateway.keys import KeyRing
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
from tests.unit.object_parts import FakeClock, MemoryOwners

MINERS = 6
STAGED_SECONDS = 3600.0
LOG_FILE, VOLUME = 16 << 10, 128 << 10


class OneLease:
    def lease(self, _account: str) -> Lease:
        return Lease(b"lease-1", 1 << 50)


class NotingNetwork(MemoryNetwork):
    """Keeps every request: a wire tap."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, list[Buffer], Caller]] = []

    def serve(self, name: str, server: MemoryServer) -> None:
        receive = server.receive

        def noting(
            frames: list[Buffer], caller: Caller, answer: Callable[[list[Buffer]], None]
        ) -> None:
            self.requests.append((name, frames, caller))
            receive(frames, caller, answer)

        server.receive = noting  # type: ignore[method-assign]
        super().serve(name, server)


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
        self.directory = Directory([])
        self.network = NotingNetwork()
        self.transport = MemoryTransport(self.network)
        self.client = CatalogClient(
            folder / "catalog",
            self.transport.connect("memory://catalog"),
            index=self.catalog.store.index,
        )
        self.records = CatalogPoolRecords(self.client)
        self.peers = MinerPeers(self.transport, self.clock)
        entropy = self.random.randbytes
        pool = StoragePool(self.directory, self.peers, self.records, self.clock, entropy)
        keys = KeyRing(MemoryOwners(entropy), entropy)
        self.accounts = AccountService(self.client, keys, clock=self.clock, entropy=entropy)
        self.objects = ObjectService(
            self.client, pool, pool, keys, OneLease(), clock=self.clock, entropy=entropy,
            settings=StoreSettings(segment_chunks=1, threads=2),
        )  # fmt: skip
        self.releaser = Releaser(self.records, self.directory, self.peers, self.clock)
        self.compactor = Compactor(self.catalog)

    async def start(self) -> None:
        await self.transport.serve("memory://catalog", CatalogService(self.catalog).handlers())
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
        await self.client.close()
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

    def rows(self) -> dict[Space, list[tuple[bytes, bytes]]]:
        """The whole catalog."""
        with self.catalog.read() as reader:
            return {space: reader.scan(space, b"\x00", None, 1 << 20) for space in Space}

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
