"""What the catalog costs: CPU per commit (in process and by message), get, scan, start.

    python -m benchmarks.catalog [--objects N] [--seconds S]

CPU is user + system of the process named; wall time is beside it. The writer of the second part is
a process of its own; its CPU is read from /proc.
"""

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from chain.clock import SystemClock
from chain.net.nodes import NodeTransport
from gateway.catalog.client import CatalogClient
from gateway.catalog.interface import Append, Batch, Catalog, CatalogUnavailable, Equals, Put, Space
from gateway.catalog.local import LocalCatalog
from gateway.catalog.service import run_catalog
from gateway.catalog.store import CatalogStore

BODY = os.urandom(4096)
RECORD = os.urandom(400)


def batch(number: int) -> Batch:
    """What a small PUT commits: body, version, live row, outbox row, one condition."""
    name = b"bucket-identifier/photos/%012d.jpg" % number
    stream = number.to_bytes(16, "big")
    return Batch(
        [Equals(Space.LIVE, name, None)],
        [
            Put(Space.BODIES, stream, BODY),
            Put(Space.VERSIONS, name + b"\x00\x00" + stream[8:], RECORD),
            Put(Space.LIVE, name, RECORD),
            Append(Space.OUTBOX, b"", RECORD[:100]),
        ],
    )


def cpu(pid: int | None = None) -> float:
    """CPU seconds of this process, or of another one (to 10 ms)."""
    if pid is None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def commit_many(catalog: Catalog, start: int, seconds: float, width: int) -> int:
    """Commit from `width` tasks for `seconds`; returns how many were made."""
    end = time.perf_counter() + seconds
    made = 0

    async def one(offset: int) -> None:
        nonlocal made
        number = start + offset
        while time.perf_counter() < end:
            await catalog.commit(batch(number))
            number += width
            made += 1

    async with asyncio.TaskGroup() as group:
        for offset in range(width):
            group.create_task(one(offset))
    return made


def report(name: str, made: int, seconds: float, used: float, more: str = "") -> None:
    """One line."""
    print(f"{name:44} {made / seconds:9.0f}/s  {used / made * 1e6:8.2f} us CPU each  {more}")


async def in_process(directory: Path, seconds: float) -> None:
    """Commits through a writer in this process, by group width."""
    catalog = LocalCatalog.open(directory)
    for width in (1, 8, 64):
        first, before, start = catalog.store.position.sequence, cpu(), time.perf_counter()
        made = await commit_many(catalog, first * 1000, seconds, width)
        report(f"commit 4 KiB, in process, {width} at once", made, time.perf_counter() - start,
               cpu() - before)  # fmt: skip
    await catalog.close()


async def by_message(directory: Path, address: str, seconds: float) -> None:
    """Commits from this process to a writer in another."""
    command = [sys.executable, "-m", "benchmarks.catalog", "--serve", str(directory), address]
    process = subprocess.Popen(command)  # noqa: ASYNC220 - nothing else runs yet
    transport = NodeTransport()
    client = CatalogClient(directory, transport.connect(address))
    try:
        await _wait_for(client)
        for width in (1, 8, 64):
            before, writer = cpu(), cpu(process.pid)
            start = time.perf_counter()
            made = await commit_many(client, width * 10**9, seconds, width)
            used = cpu(process.pid) - writer
            report(f"commit 4 KiB, by message, {width} at once", made,
                   time.perf_counter() - start, used,
                   f"(writer; client {(cpu() - before) / made * 1e6:.1f})")  # fmt: skip
        read(client, 0)
    finally:
        process.terminate()
        process.wait()
        await client.close()
        await transport.close()


async def _wait_for(client: CatalogClient) -> None:
    for _ in range(200):
        try:
            await client.commit(Batch())
        except CatalogUnavailable:
            await asyncio.sleep(0.05)
        else:
            return
    raise SystemExit("the writer did not start")


async def serve(directory: Path, address: str) -> None:
    """The writer's process."""
    catalog = LocalCatalog.open(directory)
    await run_catalog(catalog, NodeTransport(), address, SystemClock(), asyncio.Event())


def read(catalog: Catalog, objects: int) -> None:
    """Gets and scans."""
    with catalog.read() as reader:
        rows = reader.scan(Space.LIVE, b"", None, 1000)
        bodies = [key for key, _ in reader.scan(Space.BODIES, b"", None, 200)]
    more = f"among {objects:,} objects" if objects else ""
    for name, space, keys in (
        ("get a row", Space.LIVE, [key for key, _ in rows]),
        ("get a 4 KiB body", Space.BODIES, bodies),
    ):
        start, before, many = time.perf_counter(), cpu(), 20
        for _ in range(many):
            for key in keys:
                with catalog.read() as reader:
                    reader.get(space, key)
        report(name, many * len(keys), time.perf_counter() - start, cpu() - before, more)
    start, before, many = time.perf_counter(), cpu(), 100
    for _ in range(many):
        with catalog.read() as reader:
            reader.scan(Space.LIVE, b"bucket", b"buckeu", 1000)
    report("scan 1,000 rows", many, time.perf_counter() - start, cpu() - before, more)


async def large(directory: Path, objects: int) -> None:
    """Fill, then start again three ways, and read."""
    store = CatalogStore.open(directory)
    start = time.perf_counter()
    for first in range(0, objects, 500):
        store.commit([batch(first + number) for number in range(500)])
    print(f"filled with {objects:,} objects in {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    store.checkpoint()
    print(f"checkpoint in {time.perf_counter() - start:.2f} s")
    store.close()
    for name, state in (("clean stop", None), ("power loss", "open another-boot\n")):
        if state is not None:
            (directory / "index-state").write_text(state)
        start = time.perf_counter()
        catalog = LocalCatalog.open(directory)
        print(f"ready after a {name} in {time.perf_counter() - start:.2f} s")
        read(catalog, objects)
        await catalog.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the catalog.")
    parser.add_argument("--objects", type=int, default=0, help="also measure a large catalog")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--serve", nargs=2, metavar=("DIR", "ADDRESS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(Path(options.serve[0]), options.serve[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        asyncio.run(in_process(root / "local", options.seconds))
        asyncio.run(by_message(root / "served", f"ipc://{root}/run/c.ipc", options.seconds))
        if options.objects:
            asyncio.run(large(root / "large", options.objects))


if __name__ == "__main__":
    main()
