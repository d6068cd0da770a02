"""The repair process: the pool's repair queue, its survey and its deletions.

It reads the catalog by mmap and commits by message like a worker.
"""

import asyncio

from chain.clock import SystemClock
from chain.net.shared import Arena
from chain.process import run_node
from gateway.catalog.pool_records import CatalogPoolRecords
from gateway.network import Network
from gateway.nodes.parts import Work, linked, process_options, running_network, work_until
from gateway.repairs import CatalogRepairs
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
    settings = RepairSettings(rate=max(RATE_MIN, config.repair_rate))
    async with linked(network, clock, arena=_arena(settings)) as links:
        catalog, miners, peers, reports = links.catalog, links.miners, links.peers, links.reports
        records = CatalogPoolRecords(catalog)
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
                settings=settings,
            )

        def survey() -> Survey:
            settings = SurveySettings(cycle=config.repair_survey)
            return Survey(records, miners, peers, clock, claims=claims, settings=settings)

        jobs: Work = {
            "survey": lambda: survey().run(),
            "repair": lambda: repairer().run(),
            "reports": lambda: reports.run(links.owner, clock),
            "releases": lambda: Releaser(records, miners, peers, clock).run(),
        }
        await work_until(stop, jobs, catalog, clock)


def _arena(settings: RepairSettings) -> Arena | None:
    """Memory that the miners of this machine put the sources into.

    Some more than repair holds at once: rooms are whole blocks, and those of one size are no use
    for another. Four times the address space, as places of asks that were never answered are not
    used again.
    """
    rooms = settings.memory * 5 // 4
    return Arena.create(4 * rooms, rooms=rooms, limit=rooms)
