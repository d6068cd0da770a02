"""The gateway's programs: catalog process, repair, workers that serve clients, and edges."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from cdn.client import EdgeClient
from cdn.segments import EdgeCache
from cdn.service import EdgeService, SegmentService
from chain.client import LedgerClient
from chain.genesis import Genesis
from chain.keys.identity import Identity
from chain.net.memory import MemoryNetwork, MemoryTransport
from gateway.accounts import AccountService
from gateway.catalog.interface import Batch, CatalogUnavailable, CommitUncertain, Put, Space
from gateway.catalog.memory import MemoryCatalog
from gateway.catalog.pool_records import CatalogPoolRecords
from gateway.keys import KeyRing
from gateway.ledger import NetworkWatch, pump
from gateway.objects import ObjectService
from gateway.outbox import Outbox
from gateway.repairs import CatalogRepairs
from gateway.store import Lease, StoreSettings
from gateway.view import CatalogLeases, CatalogMiners
from miner.client import MinerPeers
from miner.owner import PoolOwner, Reports
from miner.placement import Placement
from miner.pool import StoragePool
from miner.releaser import Releaser
from miner.repair import Claims, Repairer, RepairSettings
from miner.segments import SegmentSource
from miner.survey import Survey, SurveySettings
from tests.simulation.whole.model import Model
from tests.simulation.whole.processes import InlineExecutor, Process, nothing_compiled
from tests.simulation.whole.trace import Trace
from tests.unit.object_parts import MemoryOwners

if TYPE_CHECKING:
    from gateway.model import Bucket

MIB = 1 << 20
EDGE_BYTES = 4 * MIB
# Looks that the product takes every second or two; hours of them would cost a run its budget.
WATCH_SECONDS, QUEUE_SECONDS, REPORT_SECONDS = 90.0, 30.0, 20.0
# A miner that is silent at a look is away, as its last answer came one look before.
GRACE_SECONDS = 80.0
SURVEY = SurveySettings(cycle=600.0, poll=10.0)
REPAIR = RepairSettings(pause=10.0, pause_max=60.0)
T = TypeVar("T")


class Unanswered(Exception):
    """The worker died before it answered: what was asked for may or may not have been done."""


class SharedCatalog(MemoryCatalog):
    """One catalog that several processes write through one that may be away or lose an answer."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.up = False  # whether the catalog process runs
        self.broken = False  # its disk takes nothing
        self.losing = 0.0  # share of answers that are lost
        self.problems: list[str] = []
        self._random = random

    async def commit(self, batch: Batch) -> int:
        """See Catalog. Takes up to 4 ms, in which others commit."""
        await asyncio.sleep(self._random.uniform(0.0, 0.002))
        if not self.up or self.broken:
            raise CatalogUnavailable("the catalog process is away")
        fresh = self._fresh_placements(batch)
        sequence = await super().commit(batch)
        self.problems += [problem for raw in fresh for problem in below_quorum(raw)]
        await asyncio.sleep(self._random.uniform(0.0, 0.002))
        if not self.up or (self.losing and self._random.random() < self.losing):
            raise CommitUncertain("the answer was lost")
        return sequence

    def _fresh_placements(self, batch: Batch) -> list[bytes]:
        """Of segments that were not there before: what repair writes may be worse for a while."""
        with self.read() as reader:
            return [
                change.value
                for change in batch.changes
                if isinstance(change, Put)
                and change.space is Space.PLACEMENT
                and reader.get(Space.PLACEMENT, change.key) is None
            ]


def below_quorum(raw: bytes) -> Iterator[str]:
    """What is acknowledged lies on as many miners as its profile promises."""
    placement = Placement.parse(raw)
    profile, held = placement.segment.profile, placement.segment.profile.n - len(placement.missing)
    if held < profile.quorum:
        yield f"a write was committed with {held} fragments; {profile.name} needs {profile.quorum}"


@dataclass(frozen=True, slots=True)
class Site:
    """What every program of a gateway is given: its disk, its keys, its surroundings.

    `among_others`: it joined a ledger with other gateways, and miners know it by its key.
    """

    suffix: str  # of its programs' names
    among_others: bool
    network: MemoryNetwork
    genesis: Genesis
    catalog: SharedCatalog
    owners: MemoryOwners
    operator: Identity
    gateway: Identity
    random: Random
    settings: StoreSettings

    @property
    def address(self) -> str:
        """Where the catalog process listens."""
        return f"memory://catalog{self.suffix}"

    def lines(self, name: str) -> tuple[MemoryTransport, MemoryTransport]:
        """A program's ends of its connections: on its machine, and to other nodes."""
        identity = self.gateway.id if self.among_others else None
        within = MemoryTransport(self.network, name=name)
        return within, MemoryTransport(self.network, name=name, identity=identity)

    def objects(self, pool: StoragePool, source: SegmentSource, clock: Any) -> ObjectService:
        """As gateway/node.py puts it together."""
        entropy = self.random.randbytes
        return ObjectService(
            self.catalog,
            pool,
            source,
            KeyRing(self.owners, entropy),
            CatalogLeases(self.catalog),
            clock=clock,
            entropy=entropy,
            settings=self.settings,
            executor=InlineExecutor(),
            compile_hashes=nothing_compiled,
        )


class CatalogProcess(Process):
    """Hosts the catalog's writer, the pool's records, and everything that runs behind."""

    def __init__(self, site: Site, trace: Trace) -> None:
        super().__init__(f"catalog{site.suffix}", trace)
        self._site = site

    async def run(self) -> None:
        """See Process; compare `_catalog` in gateway/node.py."""
        site, clock = self._site, self.clock
        _, transport = site.lines(self.name)
        miners, peers = CatalogMiners(site.catalog), MinerPeers(transport, clock)
        try:
            ledger = LedgerClient(transport.connect("memory://chain"), site.genesis)
            records = CatalogPoolRecords(site.catalog)
            reports = Reports(peers, miners)
            pool = StoragePool(
                miners, peers, records, clock, site.random.randbytes, report=reports.note
            )
            objects = site.objects(pool, pool, clock)
            outbox = Outbox(site.catalog, ledger, site.gateway)
            watch = NetworkWatch(
                site.catalog, ledger, peers, clock,
                operator=site.operator, gateway=site.gateway, address=site.address,
                grace=GRACE_SECONDS,
            )  # fmt: skip
            face = PoolOwner(records, miners).handlers(SegmentService(pool).handlers())
            await transport.serve(site.address, face)
            site.catalog.up = True
            async with asyncio.TaskGroup() as group:
                for work in (
                    lambda: watch.run(every=WATCH_SECONDS),
                    lambda: pump(outbox, clock, every=QUEUE_SECONDS),
                    lambda: self._let_go(objects),
                ):
                    group.create_task(self.steadily(work))
        finally:
            site.catalog.up = False
            peers.close()
            await transport.close()

    async def _let_go(self, objects: ObjectService) -> None:
        while True:
            if not await objects.release_some():
                await self.clock.sleep(QUEUE_SECONDS)


class RepairProcess(Process):
    """Finds what is missing, rebuilds it, and has deletions carried out."""

    def __init__(self, site: Site, trace: Trace) -> None:
        super().__init__(f"repair{site.suffix}", trace)
        self._site = site

    async def run(self) -> None:
        """See Process; compare gateway/nodes/repair.py."""
        site, clock = self._site, self.clock
        within, transport = site.lines(self.name)
        miners, peers = CatalogMiners(site.catalog), MinerPeers(transport, clock)
        try:
            owner = within.connect(site.address)
            records, reports = CatalogPoolRecords(site.catalog), Reports(peers, miners)
            claims: Claims = set()

            def repairer() -> Repairer:
                commit = CatalogRepairs(site.catalog, clock).commit
                return Repairer(
                    records, miners, peers, clock,
                    commit=commit, report=reports.note, claims=claims, settings=REPAIR,
                )  # fmt: skip

            def survey() -> Survey:
                return Survey(records, miners, peers, clock, claims=claims, settings=SURVEY)

            async with asyncio.TaskGroup() as group:
                for work in (
                    lambda: survey().run(),
                    lambda: repairer().run(),
                    lambda: reports.run(owner, clock, every=REPORT_SECONDS),
                    lambda: Releaser(records, miners, peers, clock).run(every=QUEUE_SECONDS),
                ):
                    group.create_task(self.steadily(work))
        finally:
            peers.close()
            await transport.close()
            await within.close()


class Worker(Process):
    """Serves clients. `edge` names the edge that it reads through; empty: the miners."""

    def __init__(self, name: str, site: Site, trace: Trace, edge: str = "") -> None:
        super().__init__(name, trace)
        self._site = site
        self._edge = edge
        self._group: asyncio.TaskGroup | None = None
        self._requests: list[asyncio.Task[None]] = []
        self.objects: ObjectService

    async def run(self) -> None:
        """See Process; compare `_worker` in gateway/node.py."""
        site, clock = self._site, self.clock
        within, transport = site.lines(self.name)
        miners, peers = CatalogMiners(site.catalog), MinerPeers(transport, clock)
        try:
            reports = Reports(peers, miners)
            pool = StoragePool(
                miners, peers, CatalogPoolRecords(site.catalog), clock, site.random.randbytes,
                report=reports.note,
            )  # fmt: skip
            source: SegmentSource = pool
            if self._edge:
                source = EdgeClient(transport.connect(f"memory://{self._edge}"), pool, clock)
            cached = EdgeCache(source, ram_bytes=EDGE_BYTES)
            self.objects = site.objects(pool, cached, clock)
            owner = within.connect(site.address)
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(
                    self.steadily(lambda: reports.run(owner, clock, every=REPORT_SECONDS))
                )
        finally:
            self._group = None
            peers.close()
            await transport.close()
            await within.close()

    async def kill(self) -> None:
        """See Process; requests end in the order in which they came."""
        self._group = None
        for request in list(self._requests):
            request.cancel()
            await asyncio.wait([request])
        await super().kill()

    async def request(self, work: Callable[[ObjectService], Awaitable[T]]) -> T:
        """Have one request served. Raises Unanswered, and what `work` raises."""
        if self._group is None:
            raise Unanswered
        outcome: list[T] = []
        failure: list[Exception] = []

        async def serve() -> None:
            try:
                outcome.append(await work(self.objects))
            except Exception as error:  # noqa: BLE001 - the client's to judge
                failure.append(error)

        task = self._group.create_task(serve())
        self._requests.append(task)
        await asyncio.wait([task])
        self._requests.remove(task)
        if failure:
            raise failure[0]
        if not outcome:
            raise Unanswered
        return outcome[0]

    def accounts(self) -> AccountService:
        """Accounts as `cumulus account` makes them."""
        site = self._site
        keys = KeyRing(site.owners, site.random.randbytes)
        return AccountService(site.catalog, keys, clock=self.clock, entropy=site.random.randbytes)


class Edge(Process):
    """An edge in front of a catalog process's pool."""

    def __init__(self, name: str, site: Site, trace: Trace) -> None:
        super().__init__(name, trace)
        self._network, self._origin = site.network, site.address

    async def run(self) -> None:
        """See Process; compare cdn/node.py, which adds a disk."""
        transport = MemoryTransport(self._network, name=self.name)
        try:
            origin = EdgeClient(transport.connect(self._origin), None, self.clock)
            cache = EdgeCache(origin, ram_bytes=EDGE_BYTES)
            await transport.serve(f"memory://{self.name}", EdgeService(cache).handlers())
            await asyncio.Event().wait()
        finally:
            await transport.close()


class Gateway:
    """All programs around one catalog; its clients' buckets, and what these may hold."""

    def __init__(self, site: Site, trace: Trace, *, workers: int, edges: int) -> None:
        self.site = site
        self.catalog = site.catalog
        self.process = CatalogProcess(site, trace)
        self.repair = RepairProcess(site, trace)
        self.edges = [Edge(f"edge{n}{site.suffix}", site, trace) for n in range(edges)]
        # The last worker reads from the miners.
        reads = [edge.name for edge in self.edges][: workers - 1] + [""] * workers
        self.workers = [
            Worker(f"worker{n}{site.suffix}", site, trace, edge=reads[n]) for n in range(workers)
        ]
        self.buckets: list[Bucket] = []
        self.model = Model(self.process.clock)

    @property
    def processes(self) -> list[Process]:
        """Everything that runs."""
        return [self.process, self.repair, *self.edges, *self.workers]

    def lease(self) -> Lease:
        """The lease that its clients draw on."""
        lease = CatalogLeases(self.catalog).lease("")
        assert lease is not None
        return lease

    def is_ready(self, miners: int) -> bool:
        """Whether clients can store: it knows so many miners and holds a lease."""
        found = CatalogMiners(self.catalog), CatalogLeases(self.catalog)
        return len(found[0].all()) >= miners and found[1].lease("") is not None

    async def open_buckets(self) -> None:
        """Two accounts with a bucket each; other gateways have the same names."""
        worker = self.workers[0]
        for name in ("ann", "bob"):
            account = (await worker.accounts().create(name, id=name)).account
            self.buckets.append(
                await worker.request(
                    lambda objects, account=account: objects.create_bucket(  # type: ignore[misc]
                        account, f"{account.id}-things"
                    )
                )
            )
