"""The jobs process: what buckets are configured to have done, beside all requests.

Like a worker it reads the catalog by mmap, commits by message and stores through the pool, with the
smallest share of buffers. There is one in a network, and none with `--background off`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

from chain.clock import Clock, SystemClock, system_entropy
from chain.process import run_node
from gateway.access_log import ACCESS_DIR, AccessLogDelivery
from gateway.catalog.interface import Catalog
from gateway.events.couriers import notify
from gateway.inventory.job import InventoryJob
from gateway.ipfs.blocks import BlockIndex
from gateway.ipfs.collect import Collector
from gateway.ipfs.collection_job import CollectionJob
from gateway.ipfs.directories import Directories
from gateway.ipfs.ipns.following import roots
from gateway.ipfs.ipns.renewal import IpnsRenewal
from gateway.ipfs.packs import Packs
from gateway.ipfs.pinning.fetching import Foreign
from gateway.ipfs.pinning.requests import Requests
from gateway.ipfs.pinning.trustless import TrustlessGateway
from gateway.ipfs.pinning.worker import PinWorker
from gateway.ipfs.pins import Pins
from gateway.jobs import Job, JobRunner
from gateway.lifecycle.rules import Calendar
from gateway.lifecycle.sweep import Sweep
from gateway.network import Network
from gateway.nodes.parts import (
    Work,
    key_book,
    keystore,
    linked,
    object_service,
    process_options,
    running_network,
    steadily,
    storage_pool,
    work_until,
)
from gateway.objects import ObjectService
from gateway.replication.replicator import replicate

_RATE, _FULL_RATE = 500.0, 5000.0  # objects that expire a second, at most
_FETCHES = 16  # waits for gateways that blocks are fetched from, at once
_SHARES = 64  # of the machine's buffers it takes one: the least that serves


def run(arguments: list[str]) -> int:
    """`python -m gateway jobs`; the exit code."""
    options = process_options("jobs", arguments)

    async def main(stop: asyncio.Event) -> None:
        await _jobs(running_network(options.network), stop)

    return run_node(main, name="jobs", lifeline=options.lifeline)


class _Ipfs:
    """What is done in the background for the blocks of the API."""

    def __init__(self, objects: ObjectService, catalog: Catalog, clock: Clock) -> None:
        index = BlockIndex(objects, catalog)
        packs = Packs(objects, index, clock, system_entropy)
        pins = Pins(catalog, index, packs, clock, system_entropy)
        self._parts = objects, catalog, clock
        self._index, self._packs, self._pins = index, packs, pins
        self._requests = Requests(catalog, pins, clock, system_entropy)

    def collection(self, day_seconds: float) -> CollectionJob:
        """Drops what nothing pins."""
        objects, catalog, clock = self._parts
        collector = Collector(objects, catalog, self._index, self._packs, clock, system_entropy)
        return CollectionJob(collector, catalog, clock, day_seconds)

    def pinning(self, gateways: Sequence[str], threads: Executor) -> PinWorker:
        """Works off the pinning service's requests."""
        objects, _, clock = self._parts
        sources = [TrustlessGateway(url, threads, clock) for url in gateways]
        foreign = Foreign(self._index, self._packs, sources)
        return PinWorker(objects, self._requests, self._pins, foreign, clock)


async def _jobs(network: Network, stop: asyncio.Event) -> None:
    config, clock = network.config, SystemClock()
    async with AsyncExitStack() as stack:
        links = await stack.enter_async_context(linked(network, clock))
        catalog, reports = links.catalog, links.reports
        pool = storage_pool(catalog, links.miners, links.peers, clock, reports)
        objects = object_service(network, catalog, pool, pool, clock, shares=_SHARES)
        stack.callback(objects.close)
        threads = ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch")
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        ipfs = _Ipfs(objects, catalog, clock)
        pinning = ipfs.pinning(config.ipfs_fetch_from, threads)
        # Jobs that go through the catalog step by step; a line each.
        logs, roll = config.data_dir / ACCESS_DIR, config.logging_roll_seconds
        calendar = Calendar(round(config.lifecycle_day_seconds * 1e9))
        rate = _FULL_RATE if config.background == "full" else _RATE
        stepwise: list[Job] = [
            Sweep(objects, catalog, clock, calendar, rate=rate),
            AccessLogDelivery(objects, logs, clock, roll),
            InventoryJob(objects, catalog, clock, config.lifecycle_day_seconds),
            ipfs.collection(config.lifecycle_day_seconds),
            IpnsRenewal(
                key_book(catalog, keystore(config.data_dir / "keys"), clock),
                roots(Directories(catalog, clock), objects.bucket),
                clock,
            ),
        ]

        def keep(name: str, work: Callable[[], Awaitable[None]]) -> Coroutine[Any, Any, None]:
            return steadily(name, work, clock)

        endless: Work = {
            "reports": lambda: reports.run(links.owner, clock),
            "notifications": lambda: notify(catalog, config.notify, clock, keep),
            "replication": lambda: replicate(objects, catalog, config.replication, clock, keep),
            "pinning": pinning.run,
            **{job.name: JobRunner(job, catalog, clock).run for job in stepwise},
        }
        await work_until(stop, endless, catalog, clock)
