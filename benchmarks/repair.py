"""Repair of a whole network: rebuilt bytes per CPU second of all its processes.

    python -m benchmarks.repair [--quick] [--json FILE]

Objects are stored, fragments are dropped at their miners and reported, and repair works them off.
The CPU is everybody's: the miners that read and store, the catalog that commits, repair itself.
"""

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.figures import Figure, command
from benchmarks.load import Job, Target, make_bucket, run
from benchmarks.losses import drop_shards, report_lost
from benchmarks.processes import usage
from gateway.health import fetch
from tests.clients.running import RunningNetwork

KIB, MIB = 1 << 10, 1 << 20
BAR = 200.0  # MB/s of rebuilt data per core
_WAIT_SECONDS = 300.0


def pending(network: RunningNetwork) -> int:
    """Fragments in the queue."""
    _, body = asyncio.run(fetch(network.url("console"), "/metrics"))
    line = next(
        line for line in body.decode().splitlines() if line.startswith("cumulus_repair_pending")
    )
    return int(line.split()[-1])


def rebuild(network: RunningNetwork, name: str, indexes: tuple[int, ...]) -> Figure:
    """Lose these shards of everything, and measure until they are back."""
    assert network.process is not None
    lost = drop_shards(network, indexes)
    before, begun = usage(network.process.pid), time.monotonic()
    report_lost(network, lost)
    while pending(network):
        if time.monotonic() - begun > _WAIT_SECONDS:
            raise SystemExit(f"{name}: {pending(network)} fragments were not rebuilt")
        time.sleep(0.5)
    after, wall = usage(network.process.pid), time.monotonic() - begun
    size = sum(each.size for each in lost)
    cpu = after.cpu - before.cpu
    roles = sorted(after.roles_since(before).items(), key=lambda item: -item[1])
    shown = ", ".join(f"{role} {used:.2f}" for role, used in roles if used >= 0.05)
    note = f"{len(lost)} fragments, {size / MIB:.0f} MiB, {cpu:.2f} CPU s in {wall:.1f} s: {shown}"
    bar = BAR if size // len(lost) >= MIB else None
    return Figure(
        f"repair {name}", size / 1e6 / cpu, "MB/core s", bar, at_least=True, note=note
    ).tell()


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    """A fresh network of six miners (4+2); figures against the bar."""
    network = RunningNetwork(folder, "--pledge", "16GiB", "--background", "off")
    network.start()
    try:
        target = Target(network.url("s3"), *network.keys())
        make_bucket(target)
        run(target, Job("put", 64 * MIB, 8 if quick else 24, signed=False, prefix="l"))
        found = [
            rebuild(network, "one data shard of each", (0,)),
            rebuild(network, "two data shards of each", (1, 2)),
        ]
        run(target, Job("put", 256 * KIB, 160 if quick else 800, signed=False, prefix="s"))
        return [*found, rebuild(network, "with small objects too", (0, 5))]
    finally:
        network.stop()


if __name__ == "__main__":
    sys.exit(command(__doc__, "a third of the data", measure))
