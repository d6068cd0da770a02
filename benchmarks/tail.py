"""GET p99 with one miner stalled, beside healthy: `python -m benchmarks.tail [--quick]`.

A miner is stopped with SIGSTOP: its socket takes requests and nothing answers. The first seconds
are told apart from the steady state. Hedges are counted from /metrics of every worker.
"""

import asyncio
import os
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.figures import Figure, command
from benchmarks.load import Job, Result, Target, make_bucket, run
from gateway.health import fetch
from tests.clients.running import RunningNetwork

KIB, MIB = 1 << 10, 1 << 20
CONNECTIONS = 8
_SCRAPES = 1000  # a scrape meets one worker, often the same
_COUNTERS = re.compile(r'^cumulus_read_(\w+)_total\{worker="(\d+)"\} (\d+)', re.MULTILINE)


def counters(network: RunningNetwork) -> Counter[str]:
    """Asks, hedges and parity reads of all workers since they started."""
    workers = sum(name.startswith("worker") for name in network.pids())
    found: dict[tuple[str, str], int] = {}
    for _ in range(_SCRAPES):
        if len({worker for _, worker in found}) == workers:
            break
        _, body = asyncio.run(fetch(network.url("console"), "/metrics"))
        for kind, worker, value in _COUNTERS.findall(body.decode()):
            found[kind, worker] = int(value)
    else:
        raise SystemExit("a worker does not tell what it counted")
    total: Counter[str] = Counter()
    for (kind, _), value in found.items():
        total[kind] += value
    return total


def p99(result: Result) -> float:
    """Milliseconds."""
    return result.percentile(0.99) * 1000


def compare(network: RunningNetwork, target: Target, size: int, seconds: float) -> list[Figure]:
    """Healthy, then the first seconds and the steady state of a stall, for one object size."""
    name = f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
    count = max(CONNECTIONS * 16, (256 * MIB) // size // CONNECTIONS * CONNECTIONS)
    objects = Job("put", size, count, connections=CONNECTIONS, signed=False, prefix=f"t{size}")
    run(target, objects)
    read = Job("get", size, count, connections=CONNECTIONS, prefix=objects.prefix)
    repeat = max(1, round(seconds))
    run(target, read)  # connections and estimates
    healthy, before = _several(target, read, repeat), counters(network)
    victim = next(pid for name, pid in network.pids().items() if name.startswith("miner"))
    os.kill(victim, signal.SIGSTOP)
    try:
        first = run(target, read)
        steady = _several(target, read, repeat)
    finally:
        os.kill(victim, signal.SIGCONT)
    after = counters(network)
    time.sleep(2.0)
    good, asks = p99(healthy), after["asks"] - before["asks"]
    hedges = after["hedges"] - before["hedges"]
    parity = after["parity"] - before["parity"]
    errors = sum((first.errors + steady.errors + healthy.errors).values())
    note = f"healthy {good:.1f} ms, p50 {healthy.percentile(0.5) * 1000:.1f}"
    return [
        Figure(f"GET {name} p99, first reads of a stall", p99(first) / good, "x", 2.0,
               note=f"{note}; stalled {p99(first):.1f} ms").tell(),
        Figure(f"GET {name} p99, one miner stalled", p99(steady) / good, "x", 2.0,
               note=f"stalled {p99(steady):.1f} ms; errors {errors}").tell(),
        Figure(f"GET {name} hedges of a stall", 100 * hedges / max(1, asks), "% of asks", 5.0,
               note=f"{hedges} of {asks}; parity instead: {parity}",
               ).tell(),
    ]  # fmt: skip


def _several(target: Target, job: Job, times: int) -> Result:
    total = Result()
    for _ in range(times):
        part = run(target, job)
        total.latencies += part.latencies
        total.errors.update(part.errors)
    total.latencies.sort()
    return total


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    """A fresh network; figures against their bars."""
    network = RunningNetwork(folder, "--pledge", "16GiB")
    network.start()
    found = []
    try:
        target = Target(network.url("s3"), *network.keys())
        make_bucket(target)
        for size in (MIB, 8 * MIB):
            found += compare(network, target, size, 1 if quick else 4)
    finally:
        network.stop()
    return found


if __name__ == "__main__":
    sys.exit(command(__doc__, "fewer reads", measure))
