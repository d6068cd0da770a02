"""What a million objects cost: `python -m benchmarks.scale [--objects 1000000] [--keep DIR]`.

Two networks, one with 1,000 objects of 4 KiB in its bucket and one with many. Then, for both and
with nothing of the catalog in the page cache: LIST, GET and PUT, in CPU of all processes. Of the
large one also the disk that it takes, and how long `cumulus up` takes until it is ready.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.figures import Figure
from benchmarks.fill import drained, fill, key_of
from benchmarks.load import EMPTY, Connection, Signer, Target, make_bucket
from benchmarks.processes import family, usage
from tests.clients.running import RunningNetwork

FEW, SIZE = 1_000, 4096
CONNECTIONS = 8
_REST_SECONDS = 2.0
_TOLD_EVERY = 100_000
# What is sent: method, path, query and body.
Ask = tuple[str, str, str, bytes]


def asks(operation: str, objects: int, count: int) -> list[Ask]:
    """`count` requests at random places of a bucket filled with `objects`."""
    chance = random.Random(f"{operation}{objects}")
    if operation == "GET":
        return [
            ("GET", f"/bench/{key_of(chance.randrange(objects))}", "", b"") for _ in range(count)
        ]
    if operation == "PUT":
        keys = [f"/bench/{key_of(objects + number)}" for number in range(count)]
        return [("PUT", key, "", os.urandom(SIZE)) for key in keys]
    # Full pages in both: the whole of a bucket of 1,000, but for the key that it starts after.
    starts = [key_of(chance.randrange(max(1, objects - 1000))) for _ in range(count)]
    pages = [
        f"list-type=2&max-keys=1000&start-after={start.replace('/', '%2F')}" for start in starts
    ]
    return [("GET", "/bench", page, b"") for page in pages]


def send(target: Target, some: Sequence[Ask], errors: Counter[str]) -> None:
    """All of them, over CONNECTIONS connections."""

    def work(share: Sequence[Ask]) -> None:
        signer, link = Signer(target), Connection(target.endpoint)
        for method, path, query, body in share:
            digest = hashlib.sha256(body).hexdigest() if body else EMPTY
            head = signer.head(method, path, query, len(body), digest)
            status, _ = link.ask(head, body, bodiless=False)
            if status >= 300:
                errors[str(status)] += 1
        link.close()

    crew = [
        threading.Thread(target=work, args=(some[place::CONNECTIONS],))
        for place in range(CONNECTIONS)
    ]
    for member in crew:
        member.start()
    for member in crew:
        member.join()


def forget(directory: Path) -> None:
    """Drop the files of a stopped network from the page cache."""
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def cold(network: RunningNetwork, operation: str, objects: int, count: int) -> float:
    """CPU ms of one operation by a network that was just started and read nothing yet."""
    forget(network.data_dir)
    network.start()
    try:
        assert network.process is not None
        time.sleep(_REST_SECONDS)
        target, pid = Target(network.url("s3"), *network.keys()), network.process.pid
        some, errors = asks(operation, objects, count), Counter[str]()
        before = usage(pid).cpu
        send(target, some, errors)
        spent = usage(pid).cpu - before
        if errors:
            raise RuntimeError(f"{operation}: {dict(errors)}")
    finally:
        network.stop()
    return spent * 1000 / count


def make(folder: Path, objects: int) -> RunningNetwork:
    """A stopped network with `objects` objects, all of them told to the ledger.

    It tells the ledger every `_TOLD_EVERY` objects: one that runs does so all the time, and a
    million rows that wait would leave their pages empty in the index.
    """
    network = RunningNetwork(folder, "--pledge", "16GiB")
    network.start()
    make_bucket(Target(network.url("s3"), *network.keys()))
    network.stop()
    begun, spent = time.monotonic(), 0.0
    for first in range(0, objects, _TOLD_EVERY):
        some = min(_TOLD_EVERY, objects - first)
        spent += fill(network.data_dir, "bench", some, SIZE, first=first)
        network.start()
        if not drained(network.data_dir):
            raise RuntimeError("the outbox is not empty yet")
        network.stop()
    print(
        f"{objects:,} objects put in {time.monotonic() - begun:.0f} s, {spent:.0f} CPU s",
        flush=True,
    )
    return network


def disk(path: Path) -> int:
    """Bytes of blocks of everything below."""
    return sum(one.lstat().st_blocks for one in path.rglob("*")) * 512


def ready(network: RunningNetwork) -> float:
    """Seconds from `cumulus up` until it is ready; the network runs on."""
    begun = time.monotonic()
    network.start()
    return time.monotonic() - begun


def kill(network: RunningNetwork) -> None:
    """SIGKILL for every process of the network."""
    assert network.process is not None
    for pid in reversed(family(network.process.pid)):
        os.kill(pid, signal.SIGKILL)
    network.process.wait()


def starts(network: RunningNetwork) -> list[Figure]:
    """Ready after a clean stop, after a kill, and after the machine itself went down."""
    found = []
    seconds = ready(network)
    found.append(Figure("ready after a clean stop", seconds, "s", 5.0).tell())
    kill(network)
    seconds = ready(network)
    found.append(Figure("ready after kill -9", seconds, "s", 5.0).tell())
    kill(network)
    state = network.data_dir / "catalog" / "index-state"
    state.write_text("open another-boot\n", encoding="ascii")
    seconds = ready(network)
    found.append(Figure("ready after a power loss", seconds, "s", 5.0).tell())
    network.stop()
    return found


def measure(folder: Path, *, quick: bool, objects: int = 0) -> list[Figure]:
    """Both networks; figures against their bars."""
    objects = objects or (20_000 if quick else 1_000_000)
    count = 400 if quick else 2_000
    few, many = make(folder / "few", FEW), make(folder / "many", objects)
    found = []
    taken = disk(many.data_dir) / (objects * SIZE)
    parts = sorted(
        ((disk(path) / objects, path.name) for path in (many.data_dir / "catalog").iterdir()),
        reverse=True,
    )
    note = "bytes each: " + ", ".join(f"{name} {size:.0f}" for size, name in parts[:3])
    found.append(Figure(f"{objects:,} x 4 KiB on disk", taken, "x", 1.3, note=note).tell())
    found += starts(many)
    for operation, times in (("LIST", count // 10), ("GET", count), ("PUT", count)):
        base = cold(few, operation, FEW, times)
        large = cold(many, operation, objects, times)
        note = f"{base:.3f} -> {large:.3f} CPU ms"
        name = f"{operation}, cold, {objects:,} keys over {FEW:,}"
        found.append(Figure(name, large / base, "x", 1.3, note=note).tell())
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 objects")
    parser.add_argument("--objects", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the networks here, and stay")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cumulus-bench-") as name:
        folder = options.keep or Path(name)
        found = measure(folder, quick=options.quick, objects=options.objects)
    if options.json:
        options.json.write_text(json.dumps([one.fields() for one in found], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
