"""One run of a seed: load under faults, healing, hours of rest, checks.

make sim                                       the runs of continuous integration, a line each
make sim SEED=7                                one run, and all that happened in it
make sim SEED=7 ARGS="--messages"              every message too
make sim ARGS="--seeds 1000 9000 --waves 3"    a night's work
"""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from chain.net.simulation import SimClock, simulate
from tests.simulation.whole.checks import check, check_contents
from tests.simulation.whole.faults import Plan, Saboteur
from tests.simulation.whole.load import Client
from tests.simulation.whole.market import Trader
from tests.simulation.whole.network import TRADERS, SimulatedNetwork
from tests.simulation.whole.trace import Trace

# What continuous integration runs: some 105 CPU s.
SEEDS = 200
CLIENTS = (4, 7)
OPERATIONS = (8, 12)
# So many runs go on to lose all parity at once.
ALL_PARITY_SHARE = 0.1
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run. `digest` is the trace's; `lines` are what was kept of it."""

    seed: int
    digest: str
    events: int
    problems: list[str]
    lines: list[str]
    summary: str

    def __str__(self) -> str:
        found = "".join(f"\n  {problem}" for problem in self.problems)
        head = f"seed {self.seed}: {self.summary}, {self.events} events, trace {self.digest[:16]}"
        return head + found


def run(
    seed: int, *, waves: int = 1, keep_events: bool = False, keep_messages: bool = False
) -> Outcome:
    """Simulate one seed from the first start to the last check."""
    watched = _HandlerFailures()
    trace = Trace(SimClock(), keep_events, keep_messages)
    with watched:
        return simulate(_run(seed, trace, waves, watched))


async def _run(seed: int, trace: Trace, waves: int, watched: "_HandlerFailures") -> Outcome:
    network = SimulatedNetwork(seed, trace)
    random = Random(f"load {seed}")
    problems: list[str] = []
    async with asyncio.TaskGroup() as group:
        await network.begin(group)
        saboteur = Saboteur(network, Random(f"faults {seed}"))
        clients = [
            Client(number, seed, network.gateways[number % len(network.gateways)], trace)
            for number in range(random.randint(*CLIENTS))
        ]
        traders = [Trader(number, seed, network) for number in range(TRADERS)]
        for _ in range(waves):
            await _wave(saboteur, [*clients, *traders], random)
            await rest(network)
            for trader in traders:
                await trader.run(2)
            problems += await check(network)
            if random.random() < ALL_PARITY_SHARE:
                await saboteur.lose_parity()
                problems += await check_contents(network)
                await rest(network)
                problems += await check(network)
        for trader in traders:
            await trader.close()
        await network.end()
    problems += [*network.problems, *watched.found]
    for gateway in network.gateways:
        trace.note(f"{gateway.process.name} {gateway.catalog.sequence}")
    shape = network.shape
    summary = (
        f"{shape.profile.name}, {shape.miners} miners, {shape.gateways} gateways, "
        f"{len(clients)} clients, {sum(len(gateway.model.keys) for gateway in network.gateways)} "
        f"keys, {saboteur.done} faults"
    )
    return Outcome(seed, trace.digest, trace.count, problems, trace.lines, summary)


async def _wave(saboteur: Saboteur, users: Sequence[Client | Trader], random: Random) -> None:
    """Clients and traders work while faults come and go; returns when all of both is over."""
    plan = Plan.draw(random, saboteur.network.shape)
    async with asyncio.TaskGroup() as group:
        group.create_task(saboteur.carry_out(plan))
        for user in users:
            group.create_task(user.run(random.randint(*OPERATIONS)))


async def rest(network: SimulatedNetwork) -> None:
    """A while in which queues empty, and two days pass for whoever looks at a clock."""
    await network.clock.sleep(0.15 * HOUR)
    for process in network.processes:
        process.clock.let_pass(52 * HOUR)  # a day, behind a clock that was wrong by a day
    await network.clock.sleep(0.2 * HOUR)


class _HandlerFailures(logging.Handler):
    """Errors that a service hid behind `internal`: none is ever right."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def __enter__(self) -> "_HandlerFailures":
        logging.getLogger("chain.net.rpc").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("chain.net.rpc").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.found.append(f"{record.getMessage()}: {error!r}")


def main() -> int:
    """The command; the exit code."""
    parser = argparse.ArgumentParser(description="Simulate whole networks under drawn faults.")
    parser.add_argument("--seed", type=int, help="one run, with all that happened in it")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, SEEDS), metavar=("FROM", "TO"))
    parser.add_argument("--waves", type=int, default=1, help="rounds of load, faults and rest")
    parser.add_argument("--messages", action="store_true", help="with --seed: every message too")
    parser.add_argument("--digests", action="store_true", help="print digests of traces alone")
    options = parser.parse_args()
    seeds = range(*options.seeds) if options.seed is None else [options.seed]
    told, failed = options.seed is not None, 0
    for seed in seeds:
        began = time.process_time()
        outcome = run(
            seed, waves=options.waves, keep_events=told, keep_messages=told and options.messages
        )
        sys.stdout.writelines(outcome.lines)
        if options.digests:
            print(outcome.digest)
            continue
        print(f"{outcome}, {time.process_time() - began:.2f} CPU s", flush=True)
        if outcome.problems:
            failed += 1
            print(f"  again: make sim SEED={seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
