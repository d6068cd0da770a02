"""What a network is like now: for `cumulus status`, readiness and metrics."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from chain.client import LedgerClient
from chain.net.transport import RemoteError, Unreachable
from gateway.catalog.interface import Catalog, Space
from gateway.console.app import Metric
from gateway.events import queues
from gateway.jobs import job_states
from gateway.network import Network
from gateway.protocol import JobState, NetworkState, NodeState, QueueState
from gateway.records import JobRow
from gateway.view import CatalogMiners
from miner.client import MinerPeers
from miner.hedging import ReadCounts
from miner.placement import CROWDED_LEVEL, MinerInfo
from miner.protocol import SpaceFigures, SpaceReport

_ANSWER_SECONDS = 1.0
# Repair rows that are counted; beyond it `status` says "at least".
_REPAIRS_MAX = 100_000
Samples = list[tuple[Mapping[str, str], float]]
REBUILT = b"repair/rebuilt"


class RepairFigures(NamedTuple):
    """Fragments that wait to be rebuilt; that share a failure domain; that were rebuilt so far."""

    pending: int
    crowded: int
    rebuilt: int


_REPAIR_METRICS = (
    ("pending_fragments", "gauge", "Fragments that wait to be rebuilt"),
    ("crowded_fragments", "gauge", "Fragments that share a failure domain with another"),
    ("rebuilt_fragments_total", "counter", "Fragments that were rebuilt"),
)


def repair_figures(catalog: Catalog) -> RepairFigures:
    """From the queue and the counter; more than 100,000 rows are not counted."""
    crowded = bytes([CROWDED_LEVEL])
    with catalog.read() as reader:
        rows = reader.scan(Space.REPAIRS, b"\x00", crowded, _REPAIRS_MAX)
        alone = reader.scan(Space.REPAIRS, crowded, None, _REPAIRS_MAX)
        rebuilt = reader.counter(REBUILT)
    return RepairFigures(_indices(rows), _indices(alone), rebuilt)


def _indices(rows: Sequence[tuple[bytes, bytes]]) -> int:
    return sum(len(value) for _, value in rows)


async def space_of(
    miners: CatalogMiners, peers: MinerPeers
) -> list[tuple[MinerInfo, SpaceFigures | None]]:
    """Every known miner and what it says of its space; None when it does not answer."""

    async def ask(miner: MinerInfo) -> SpaceFigures | None:
        try:
            return await peers.ask(miner, SpaceReport(), timeout=_ANSWER_SECONDS, timed=False)
        except (RemoteError, Unreachable):
            return None

    known = miners.all()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(miner)) for miner in known]
    return [(miner, task.result()) for miner, task in zip(known, asked, strict=True)]


class NetworkStatus:
    """Probes of the catalog process."""

    def __init__(
        self,
        catalog: Catalog,
        ledger: LedgerClient,
        network: Network,
        miners: CatalogMiners,
        peers: MinerPeers,
    ) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._miners = miners
        self._peers = peers
        self._names = {place.address: place.name for place in network.miners}

    async def state(self) -> NetworkState:
        """See gateway/protocol.py."""
        try:
            status = await self._ledger.status()
            height, price, up = status.height, status.price, True
        except (RemoteError, Unreachable):
            height, price, up = 0, 0, False
        nodes = [NodeState("chain", "chain", up)]
        seen = await space_of(self._miners, self._peers)
        succeeded = {miner.address for miner, _ in seen if not miner.lost}
        for miner, space in seen:
            if miner.lost and miner.address in succeeded:
                continue  # an emptied miner's old identity: another lives in its place
            name = self._names.get(miner.address, miner.id.hex()[:16])
            if space is None:
                nodes.append(NodeState("miner", name, up=False))
            else:
                nodes.append(
                    NodeState(
                        "miner",
                        name,
                        True,
                        space.pledged,
                        space.used,
                        space.scrubbed_ns,
                        space.damaged,
                    )
                )
        repair = repair_figures(self._catalog)
        with self._catalog.read() as reader:
            jobs = [
                JobState(name, job.began_ns, job.ended_ns, job.done, job.failures, job.error)
                for name, job in job_states(reader)
            ]
            waiting = [QueueState(*queue, *each) for queue, each in queues.figures(reader).items()]
        return NetworkState(
            height, price, nodes, repair.pending, repair.rebuilt, repair.crowded, jobs, waiting
        )


_JOB_METRICS: tuple[tuple[str, str, str, Callable[[JobRow], float]], ...] = (
    ("done_total", "counter", "Things that the job ever did", lambda job: job.done),
    ("failures", "gauge", "Steps that failed one after the other", lambda job: job.failures),
    (
        "ended_seconds",
        "gauge",
        "When its last pass ended, since 1970; 0: never",
        lambda job: job.ended_ns / 1e9,
    ),
)


def _job_metrics(catalog: Catalog) -> Iterable[Metric]:
    with catalog.read() as reader:
        states = job_states(reader)
    for name, kind, help, figure in _JOB_METRICS:
        samples: Samples = [({"job": job}, float(figure(state))) for job, state in states]
        yield Metric(f"cumulus_job_{name}", kind, help, samples)


def _queue_metrics(catalog: Catalog) -> Iterable[Metric]:
    with catalog.read() as reader:
        found = queues.figures(reader)
    labels = [({"kind": kind, "name": name}, each) for (kind, name), each in found.items()]
    waiting: Samples = [(label, float(each.waiting)) for label, each in labels]
    done: Samples = [(label, float(each.done)) for label, each in labels]
    dropped: Samples = [(label, float(each.dropped)) for label, each in labels]
    yield Metric("cumulus_queue_waiting", "gauge", "Rows that wait for a place outside", waiting)
    yield Metric("cumulus_queue_done_total", "counter", "Rows that it got", done)
    yield Metric("cumulus_queue_dropped_total", "counter", "Rows that it will not get", dropped)


class WorkerMetrics:
    """Figures of one worker process for /metrics."""

    def __init__(
        self,
        worker: str,
        catalog: Catalog,
        miners: CatalogMiners,
        peers: MinerPeers,
        reads: ReadCounts,
    ) -> None:
        """`worker` tells this process from the others, whoever of them answers a scrape."""
        self._worker = {"worker": worker}
        self._catalog = catalog
        self._miners = miners
        self._peers = peers
        self._reads = reads

    def __call__(self) -> Iterable[Metric]:
        known = self._miners.all()
        up: Samples = [({"miner": m.id.hex()}, float(self._peers.is_up(m))) for m in known]
        free: Samples = [({"miner": m.id.hex()}, float(m.free_bytes)) for m in known]
        health = self._peers.health
        latency: Samples = [({"miner": m.id.hex()}, health(m.id).latency) for m in known]
        yield Metric("cumulus_miner_up", "gauge", "Whether this worker asks the miner", up)
        yield Metric("cumulus_miner_free_bytes", "gauge", "Pledged space that is free", free)
        yield Metric("cumulus_miner_latency_seconds", "gauge", "Smoothed answer time", latency)
        reads = self._reads
        for name, text, value in (
            ("asks", "Data shards asked of miners", reads.asks),
            ("hedges", "Shards asked beside them because an answer was late", reads.hedges),
            ("parity", "Shards asked in place of what cannot be had", reads.parity),
        ):
            samples: Samples = [(self._worker, float(value))]
            yield Metric(f"cumulus_read_{name}_total", "counter", text, samples)
        yield from _queue_metrics(self._catalog)
        yield from _job_metrics(self._catalog)
        figures = repair_figures(self._catalog)
        for (name, kind, help), value in zip(_REPAIR_METRICS, figures, strict=True):
            yield Metric(f"cumulus_repair_{name}", kind, help, [({}, float(value))])
