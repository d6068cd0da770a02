"""The jobs process: what buckets are configured to have done, beside all requests.

Like a worker it reads the catalog by mmap, commits by message and stores through the pool, with the
smallest share of buffers. There is one in a network, and none with `--background off`: then the
catalog's process works off requests to pin, as somebody waits for them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from chain.clock import SystemClock
from chain.process import run_node
from gateway.access_log import ACCESS_DIR, AccessLogDelivery
from gateway.events.couriers import notify
from gateway.inventory.job import InventoryJob
from gateway.ipfs.index.directories import Directories
from gateway.ipfs.ipns.following import roots
from gateway.ipfs.ipns.renewal import IpnsRenewal
from gateway.jobs import Job, JobRunner
from gateway.lifecycle.rules import Calendar
from gateway.lifecycle.sweep import Sweep
from gateway.network import Network
from gateway.nodes.ipfs_jobs import IpfsJobs
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
from gateway.replication.replicator import replicate

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
        links = await stack.enter_async_context(linked(network, clock))
        catalog, reports = links.catalog, links.reports
        pool = storage_pool(catalog, links.miners, links.peers, clock, reports)
        objects = object_service(network, catalog, pool, pool, clock, shares=_SHARES)
        stack.callback(objects.close)
        ipfs = IpfsJobs(objects, catalog, clock)
        pinning = ipfs.pinning(config.ipfs_fetch_from, stack)
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
