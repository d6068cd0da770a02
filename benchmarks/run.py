"""`make bench`: what the data plane costs, in CPU of all its processes, beside other servers.

    python benchmarks/run.py [--quick] [--json FILE] [--only NAME,NAME] [--no-peers] [--roles]

CPU figures are user plus system seconds of every process of the network, so they hold on a noisy
machine; background work is off. Bars: docs/operations.md. Linux only (/proc).
"""

import argparse
import json
import os
import platform
import sys
import sysconfig
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.load import Job, Result, Target, make_bucket, run  # noqa: E402
from benchmarks.peers import peers  # noqa: E402
from benchmarks.processes import usage  # noqa: E402
from benchmarks.rows import (  # noqa: E402
    CORES,
    GIB,
    MIB,
    PER_GIB,
    PER_OPERATION,
    Measure,
    Scenario,
    scenarios,
)
from benchmarks.sections import run_sections  # noqa: E402
from tests.clients.running import RunningNetwork  # noqa: E402


def measure(target: Target, pid: int, row: Measure) -> dict[str, object]:
    """Run one row; what it cost the server's processes."""
    before = usage(pid)
    result: Result = run(target, row.job)
    after = usage(pid)
    cpu = after.cpu - before.cpu
    return {
        "name": row.name,
        "figure": figure_of(row.unit, cpu, result),
        "roles": after.roles_since(before),
        "unit": row.unit,
        "bar": row.bar,
        "operations": result.operations,
        "per_second": result.operations / result.wall if result.wall else 0,
        "mib_per_second": result.bytes / MIB / result.wall if result.wall else 0,
        "p50_ms": result.percentile(0.5) * 1000,
        "p99_ms": result.percentile(0.99) * 1000,
        "resident_mib": after.resident / MIB,
        "errors": dict(result.errors),
    }


def figure_of(unit: str, cpu: float, result: Result) -> float | None:
    """A row's figure from the servers' CPU seconds; None when nothing was done."""
    if not result.operations:
        return None
    if unit == PER_GIB:
        return cpu / (result.bytes / GIB) if result.bytes else None
    if unit == PER_OPERATION:
        return cpu * 1000 / result.operations
    assert unit == CORES
    return (cpu + result.cpu) / result.wall


def of_scenario(folder: Path, scenario: Scenario, *, roles: bool) -> list[dict[str, object]]:
    """A fresh network, measured row by row."""
    print(f"\n{scenario.name}", flush=True)
    network = RunningNetwork(folder, *scenario.options, **dict(scenario.environ))
    network.start()
    try:
        assert network.process is not None
        target = Target(network.url("s3"), *network.keys())
        make_bucket(target)
        found = []
        for row in scenario.rows:
            if row.before is not None:
                row.before(network)
            found.append(measure(target, network.process.pid, row))
            tell(found[-1])
            if roles:
                tell_roles(found[-1])
    finally:
        network.stop()
    return found


def of_peers(rows: list[Measure], scale: float) -> dict[str, list[dict[str, object]]]:
    """The rows that peers can do, with fewer operations: they are slower."""
    count = int(800 * scale) // 8 * 8 or 8
    small = []
    for row in rows:
        job = row.job
        if job.operation != "list":
            job = Job(job.operation, job.size, count, prefix=job.prefix)
        small.append(Measure(row.name, job, row.unit))
    found = {}
    with (
        tempfile.TemporaryDirectory(prefix="cumulus-bench-") as name,
        peers(Path(name)) as running,
    ):
        for peer in running:
            make_bucket(peer.target)
            found[peer.name] = [measure(peer.target, peer.pid, row) for row in small]
    return found


def tell(row: dict[str, object]) -> None:
    """One line of the table."""
    figure, bar = row["figure"], row["bar"]
    assert isinstance(figure, float | None)
    shown = "-" if figure is None else f"{figure:.3f}"
    against = f"bar {bar}" if bar is not None else ""
    errors = f"errors {row['errors']}" if row["errors"] else ""
    print(
        f"{row['name']:<31}{shown:>9} CPU {row['unit']:<6} {against:<10}"
        f"{row['per_second']:>9.0f} op/s {row['mib_per_second']:>7.0f} MiB/s"
        f"  p99 {row['p99_ms']:>7.1f} ms  {row['resident_mib']:>6.0f} MiB {errors}",
        flush=True,
    )


def tell_roles(row: dict[str, object]) -> None:
    """CPU seconds of each kind of process, largest first."""
    roles = row["roles"]
    assert isinstance(roles, dict)
    shown = sorted(roles.items(), key=lambda item: -item[1])
    print("    " + "  ".join(f"{role} {used:.2f}" for role, used in shown if used >= 0.01))


def tell_ratios(ours: list[dict[str, object]], others: dict[str, list[dict[str, object]]]) -> None:
    """How much less CPU we need than each peer, row by row."""
    mine = {row["name"]: row["figure"] for row in ours}
    for name, rows in others.items():
        print(f"\n{name}: CPU per operation over ours")
        for row in rows:
            theirs, our = row["figure"], mine.get(row["name"])
            if isinstance(theirs, float) and isinstance(our, float) and our:
                print(f"  {row['name']:<20}{theirs:>9.3f} ms/op  {theirs / our:>6.1f} times")


def machine() -> str:
    """What the figures depend on most: the interpreter, how it was built, and processors."""
    built = str(sysconfig.get_config_var("CONFIG_ARGS"))
    plain = "" if "--enable-optimizations" in built else " built without --enable-optimizations"
    return f"Python {platform.python_version()}{plain}, {os.cpu_count()} processors"


def main() -> int:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="an eighth of the work")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", default="", metavar="NAMES", help="rows and sections by a word")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--roles", action="store_true", help="CPU of each kind of process too")
    options = parser.parse_args()
    scale = 0.125 if options.quick else 1.0
    words = [word.strip().lower() for word in options.only.split(",") if word.strip()]
    wanted = [
        replace(
            each,
            rows=[r for r in each.rows if not words or any(w in r.name.lower() for w in words)],
        )
        for each in scenarios(scale)
    ]
    begun = time.monotonic()
    print(machine())
    ours = []
    for scenario in wanted:
        if scenario.rows:
            with tempfile.TemporaryDirectory(prefix="cumulus-bench-") as name:
                ours += of_scenario(Path(name), scenario, roles=options.roles)
    rows = [row for each in wanted for row in each.rows if row.peers]
    others = {} if options.no_peers or not rows else of_peers(rows, scale)
    tell_ratios(ours, others)
    report = {
        "machine": machine(),
        "ours": ours,
        "peers": others,
        **run_sections(words, quick=options.quick),
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{time.monotonic() - begun:.0f} s")
    failed = any(row["errors"] or row["figure"] is None for row in ours)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
