"""The repair process: the pool's repair queue, its survey and its deletions.

It reads the catalog by mmap and commits by message like a worker.
"""

import asyncio
from contextlib import AsyncExitStack

from chain.clock import SystemClock, system_entropy
from chain.net.nodes import NodeTransport
from chain.process import run_node
from gateway.catalog.client import CatalogClient
from gateway.catalog.pool_records import CatalogPoolRecords
from gateway.network import Network
from gateway.nodes.parts import (
    catalog_made,
    keystore,
    process_options,
    running_network,
    steadily,
)
from gateway.repairs import CatalogRepairs
from gateway.view import CatalogMiners
from miner.client import MinerPeers
from miner.owner import Reports
from miner.releaser import Releaser
from miner.repair import Claims, Repairer, RepairSettings
from miner.survey import Survey, SurveySettings

RATE_MIN = 4096.0  # bytes a second


def run(arguments: list[str]) -> int:
    """`python -m gateway repair`; the exit code."""
    options = process_options("repair", arguments)

    async def main(stop: asyncio.Event) -> None:
        await _repair(running_network(options.network), stop)

    return run_node(main, name="repair", lifeline=options.lifeline)


async def _repair(network: Network, stop: asyncio.Event) -> None:
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
        records, reports = CatalogPoolRecords(catalog), Reports(peers, miners)
        claims: Claims = set()

        def repairer() -> Repairer:
            return Repairer(
                records,
                miners,
                peers,
                clock,
                commit=CatalogRepairs(catalog, clock).commit,
                report=reports.note,
                claims=claims,
                settings=RepairSettings(rate=max(RATE_MIN, config.repair_rate)),
            )

        def survey() -> Survey:
            settings = SurveySettings(cycle=config.repair_survey)
            return Survey(records, miners, peers, clock, claims=claims, settings=settings)

        jobs = {
            "survey": lambda: survey().run(),
            "repair": lambda: repairer().run(),
            "reports": lambda: reports.run(owner, clock),
            "releases": lambda: Releaser(records, miners, peers, clock).run(),
        }

        async def work() -> None:
            await catalog_made(catalog, clock)
            async with asyncio.TaskGroup() as group:
                for name, job in jobs.items():
                    group.create_task(steadily(name, job, clock))

        async with asyncio.TaskGroup() as group:
            working = group.create_task(work())
            await stop.wait()
            working.cancel()
