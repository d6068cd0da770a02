"""The jobs process: what buckets are configured to have done, beside all requests.

Like a worker it reads the catalog by mmap, commits by message and stores through the pool, with the
smallest share of buffers. There is one in a network, and none with `--background off`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any

from chain.clock import SystemClock, system_entropy
from chain.net.nodes import NodeTransport
from chain.process import run_node
from gateway.access_log import ACCESS_DIR, AccessLogDelivery
from gateway.catalog.client import CatalogClient
from gateway.events.couriers import notify
from gateway.inventory.job import InventoryJob
from gateway.jobs import Job, JobRunner
from gateway.lifecycle.rules import Calendar
from gateway.lifecycle.sweep import Sweep
from gateway.network import Network
from gateway.nodes.parts import (
    catalog_made,
    keystore,
    object_service,
    process_options,
    running_network,
    steadily,
    storage_pool,
)
from gateway.replication.replicator import replicate
from gateway.view import CatalogMiners
from miner.client import MinerPeers
from miner.owner import Reports

Work = Mapping[str, Callable[[], Awaitable[None]]]  # that never ends, by name

_RATE, _FULL_RATE = 500.0, 5000.0  # objects that expire a second, at most
_SHARES = 64  # of the machine's buffers it takes one: the least that serves


def run(arguments: list[str]) -> int:
    """`python -m gateway jobs`; the exit code."""
    options = process_options("jobs", arguments)

    async def main(stop: asyncio.Event) -> None:
        await _jobs(running_network(options.network), stop)

    return run_node(main, name="jobs", lifeline=options.lifeline)


async def _jobs(network: Network, stop: asyncio.Event) -> None:
    config, clock = network.config, SystemClock()
    async with AsyncExitStack() as stack:
        transport = NodeTransport(
            keystore(config.data_dir / "keys").identity("gateway", system_entropy)
        )
        stack.push_async_callback(transport.close)
        owner = transport.connect(network.catalog_address)
        writer = transport.connect(network.catalog_address)
        catalog = CatalogClient(config.data_dir / "catalog", writer)
        stack.push_async_callback(catalog.close)
        miners, peers = CatalogMiners(catalog), MinerPeers(transport, clock)
        reports = Reports(peers, miners)
        pool = storage_pool(catalog, miners, peers, clock, reports)
        objects = object_service(network, catalog, pool, pool, clock, shares=_SHARES)
        stack.callback(objects.close)
        # Jobs that go through the catalog step by step; a line each.
        logs, roll = config.data_dir / ACCESS_DIR, config.logging_roll_seconds
        calendar = Calendar(round(config.lifecycle_day_seconds * 1e9))
        rate = _FULL_RATE if config.background == "full" else _RATE
        stepwise: list[Job] = [
            Sweep(objects, catalog, clock, calendar, rate=rate),
            AccessLogDelivery(objects, logs, clock, roll),
            InventoryJob(objects, catalog, clock, config.lifecycle_day_seconds),
        ]

        def keep(name: str, work: Callable[[], Awaitable[None]]) -> Coroutine[Any, Any, None]:
            return steadily(name, work, clock)

        endless: Work = {
            "reports": lambda: reports.run(owner, clock),
            "notifications": lambda: notify(catalog, config.notify, clock, keep),
            "replication": lambda: replicate(objects, catalog, config.replication, clock, keep),
            **{job.name: JobRunner(job, catalog, clock).run for job in stepwise},
        }

        async def work() -> None:
            await catalog_made(catalog, clock)
            async with asyncio.TaskGroup() as group:
                for name, job in endless.items():
                    group.create_task(steadily(name, job, clock))

        async with asyncio.TaskGroup() as group:
            working = group.create_task(work())
            await stop.wait()
            working.cancel()
