"""The rows of `make bench`: what is measured, on which network, against which bar.

A scenario is one fresh network and rows that run on it in order: later rows read what earlier ones
wrote. Bars are those of docs/operations.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.load import Job
from benchmarks.losses import drop_shards
from tests.clients.running import RunningNetwork

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# What a figure can be: CPU seconds of all our processes for each GiB, CPU milliseconds for each
# operation, or how many cores were busy (ours and the clients' together).
PER_GIB, PER_OPERATION, CORES = "s/GiB", "ms/op", "cores"


@dataclass(frozen=True)
class Measure:
    """One row: a job, how its figure reads and the bar it is held against (None: no bar).

    `before` prepares the network; what it costs is not counted. `peers`: other servers do it too.
    """

    name: str
    job: Job
    unit: str
    bar: float | None = None
    peers: bool = False
    before: Callable[[RunningNetwork], object] | None = None


@dataclass(frozen=True)
class Scenario:
    """A fresh network: options of `cumulus up`, environment, and the rows measured on it."""

    name: str
    options: tuple[str, ...]
    rows: list[Measure]
    environ: tuple[tuple[str, str], ...] = ()


def scenarios(scale: float) -> list[Scenario]:
    """All of them; `scale` 1 is the full run."""
    return [six_miners(scale), twelve_miners(scale)]


def six_miners(scale: float) -> Scenario:
    """4+2 with MD5 ETags: the defaults."""
    large, many = large_objects(scale), 8 * int(1000 * scale) or 8
    stream = Job("put", 64 * MIB, max(2, large // 4), connections=1, prefix="o")
    return Scenario(
        "six miners, 4+2",
        ("--pledge", "16GiB"),
        [
            first("PUT 64 MiB signed, first", Job("put", 64 * MIB, large, prefix="f")),
            Measure("PUT 64 MiB signed", Job("put", 64 * MIB, large, prefix="l"), PER_GIB, 4.2),
            Measure("PUT 64 MiB one stream", stream, CORES),
            Measure("GET 64 MiB", Job("get", 64 * MIB, large, prefix="l"), PER_GIB, 1.1),
            Measure("PUT 4 KiB", Job("put", 4 * KIB, many, prefix="s"), PER_OPERATION, 0.45, True),
            Measure("GET 4 KiB", Job("get", 4 * KIB, many, prefix="s"), PER_OPERATION, 0.25, True),
            Measure("HEAD 4 KiB", Job("head", 0, many, prefix="s"), PER_OPERATION, 0.2, True),
            Measure(
                "LIST 1000",
                Job("list", seconds=max(0.5, 3.0 * scale), prefix="s"),
                PER_OPERATION,
                4.0,
                True,
            ),
            Measure("DELETE 4 KiB", Job("delete", 0, many, prefix="s"), PER_OPERATION, 0.45, True),
            Measure(
                "PUT 64 KiB", Job("put", 64 * KIB, many // 4 // 8 * 8, prefix="m"),
                PER_OPERATION, 3.0,
            ),
            Measure(
                "PUT 256 KiB", Job("put", 256 * KIB, many // 8 // 8 * 8, prefix="n"),
                PER_OPERATION, 3.0,
            ),
            # Objects that nothing has read yet, as in the healthy row: no cache helps or hinders.
            Measure("PUT 64 MiB to be lost", Job("put", 64 * MIB, large, prefix="x"), PER_GIB, 4.2),
            Measure(
                "GET 64 MiB two data shards lost", Job("get", 64 * MIB, large, prefix="x"),
                PER_GIB, 1.3, before=lambda network: drop_shards(network, (0, 1)),
            ),
        ],
        # Readers report what they miss, and repair would be measured with them.
        (("CUMULUS_REPAIR_RATE", "4096"),),
    )  # fmt: skip


def twelve_miners(scale: float) -> Scenario:
    """8+4, nothing to hash but what the store itself needs."""
    large = large_objects(scale)
    put = Job("put", 64 * MIB, large, signed=False, prefix="u")
    return Scenario(
        "twelve miners, 8+4, crc64nvme",
        ("--miners", "12", "--profile", "standard", "--pledge", "8GiB"),
        [
            first("PUT 64 MiB unsigned 8+4, first", replace(put, prefix="f")),
            Measure("PUT 64 MiB unsigned 8+4", put, PER_GIB, 2.2),
            Measure("GET 64 MiB 8+4", Job("get", 64 * MIB, large, prefix="u"), PER_GIB),
        ],
        (("CUMULUS_S3_ETAG", "crc64nvme"),),
    )


def first(name: str, job: Job) -> Measure:
    """What a fresh network pays once: memory met for the first time, code compiled for hashes.

    It stands beside the row that has the bar, which begins where this one ends.
    """
    return Measure(name, job, PER_GIB)


def large_objects(scale: float) -> int:
    """How many objects of 64 MiB: a multiple of the eight connections."""
    return max(8, int(16 * scale)) // 8 * 8
