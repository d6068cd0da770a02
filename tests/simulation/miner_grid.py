"""Many miners in one process, on the memory transport: what pool tests stand on."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.net.simulation import SimClock
from miner.client import MinerPeers
from miner.placement import MinerInfo
from miner.pool import PoolSettings, StoragePool
from miner.protocol import Missing
from miner.records import PoolRecords, PoolSpace, Row
from miner.repair import Claims, Repairer, RepairSettings
from miner.service import MinerService
from miner.store.memory import MemoryStore
from miner.survey import Survey, SurveySettings
from miner.writing import FragmentReceipt


class Directory:
    def __init__(self, miners: Sequence[MinerInfo]) -> None:
        self.miners = {miner.id: miner for miner in miners}

    def all(self) -> list[MinerInfo]:
        return list(self.miners.values())

    def get(self, miner: AccountId) -> MinerInfo | None:
        return self.miners.get(miner)

    def lose(self, miner: AccountId) -> None:
        self.miners[miner] = replace(self.miners[miner], lost=True)

    def set_away(self, miner: AccountId, away: bool = True) -> None:
        self.miners[miner] = replace(self.miners[miner], away=away)


class Rows:
    """PoolRecords in dictionaries."""

    def __init__(self) -> None:
        self.spaces: dict[PoolSpace, dict[bytes, bytes]] = {}

    def get(self, space: PoolSpace, key: bytes) -> bytes | None:
        return self.spaces.get(space, {}).get(key)

    def scan(self, space: PoolSpace, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        rows = self.spaces.get(space, {}).items()
        return sorted(row for row in rows if row[0] >= start)[:limit]

    async def apply(self, expected: Sequence[Row], changes: Sequence[Row]) -> bool:
        if any(self.get(row.space, row.key) != row.value for row in expected):
            return False
        for row in changes:
            rows = self.spaces.setdefault(row.space, {})
            if row.value is None:
                rows.pop(row.key, None)
            else:
                rows[row.key] = row.value
        return True


class Grid:
    """`count` miners, each its own failure domain, and a pool over them."""

    def __init__(
        self,
        seed: int = 1,
        settings: PoolSettings | None = None,
        records: PoolRecords | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.network = MemoryNetwork(random.Random(seed))
        self.clock = SimClock()
        self.records = Rows() if records is None else records
        self.reported = list[Missing]()
        self.claims: Claims = set()
        self.rebuilt = 0
        self.receipts = list[FragmentReceipt]()
        self.stores: dict[AccountId, MemoryStore] = {}
        self.identities: dict[AccountId, Identity] = {}
        self.directory = Directory([])
        self.transport = MemoryTransport(self.network, name="pool")
        self.peers = MinerPeers(self.transport, self.clock)
        self.pool = StoragePool(
            self.directory,
            self.peers,
            self.records,
            self.clock,
            self.random.randbytes,
            settings=settings,
            report=self.reported.append,
        )

    async def add_miners(self, count: int, pledge: int = 1 << 30) -> None:
        for _ in range(count):
            identity = Identity.generate(self.random.randbytes)
            name = f"miner{len(self.stores)}"
            store = MemoryStore(self.clock, pledge)
            transport = MemoryTransport(self.network, name=name)
            await transport.serve(f"memory://{name}", MinerService(store, identity).handlers())
            self.stores[identity.id] = store
            self.identities[identity.id] = identity
            info = MinerInfo(identity.id, f"memory://{name}", name, pledge)
            self.directory.miners[identity.id] = info

    async def commit(
        self,
        expected: Sequence[Row],
        changes: Sequence[Row],
        rebuilt: int,
        receipts: Sequence[FragmentReceipt],
    ) -> bool:
        """What a Repairer commits with; receipts and count in the same step."""
        if not await self.records.apply(expected, changes):
            return False
        self.rebuilt += rebuilt
        self.receipts += receipts
        return True

    def repairer(self, **settings: Any) -> Repairer:
        return Repairer(
            self.records,
            self.directory,
            self.peers,
            self.clock,
            commit=self.commit,
            report=self.reported.append,
            claims=self.claims,
            settings=RepairSettings(**settings),
        )

    def survey(self, **settings: float) -> Survey:
        return Survey(
            self.records,
            self.directory,
            self.peers,
            self.clock,
            claims=self.claims,
            settings=SurveySettings(**settings),
        )

    def name(self, miner: AccountId) -> str:
        return self.directory.miners[miner].domain

    def silence(self, miner: AccountId) -> None:
        self.network.silence(self.name(miner))
