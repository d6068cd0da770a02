"""What IPFS costs beside S3: `python -m benchmarks.ipfs [--quick]`. CPU of all processes.

Blocks, files, CARs and directories are asked for over HTTP, from a network with a directory of
100,000 objects. The tool of somebody else that is measured beside is npm's ipfs-car: it makes the
blocks and CIDs of a file.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.figures import Figure, command
from benchmarks.fill import drained, fill
from benchmarks.load import EMPTY, Connection, Job, Signer, Target, make_bucket, run
from benchmarks.processes import usage
from chain.cids import RAW, SHA2_256, Cid
from gateway.ipfs.codecs import car, directory
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.codecs.unixfs import leaf_cid
from tests.clients.running import RunningNetwork

MIB, GIB = 1 << 20, 1 << 30
ENTRIES = 100_000
_PLAIN, _PUBLIC, _LARGE = "bench", "public", "large"
_TOOL = Path("node_modules/.bin/ipfs-car")
_WAIT_SECONDS = 600.0


class Site:
    """A running network and what it is asked."""

    def __init__(self, network: RunningNetwork) -> None:
        self.network = network
        self.s3 = Target(network.url("s3"), *network.keys())
        self.public = Target(self.s3.endpoint, self.s3.access, self.s3.secret, _PUBLIC)
        self.host = urlsplit(network.url("ipfs")).netloc
        self.link = Connection(network.url("ipfs"))

    def get(self, path: str) -> int:
        """GET from the IPFS port; bytes of the body."""
        head = f"GET {path} HTTP/1.1\r\nhost: {self.host}\r\ncontent-length: 0\r\n\r\n"
        status, size = self.link.ask(head.encode(), b"", bodiless=False)
        assert status == 200, (path, status)
        return size

    def cpu(self) -> float:
        """CPU seconds of all processes so far."""
        assert self.network.process is not None
        return usage(self.network.process.pid).cpu

    def spent(self, times: int, ask: Callable[[int], object]) -> float:
        """CPU ms of the network for one of `times` calls."""
        before = self.cpu()
        for number in range(times):
            ask(number)
        return (self.cpu() - before) * 1000 / times

    def cid(self, what: str) -> str:
        """Of a bucket, prefix or object, once it is current."""
        end = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < end:
            said = self.network.cumulus("ipfs", "status", what, "--json").stdout
            state = json.loads(said)
            if state["cid"] and not state["pending"]:
                return str(state["cid"])
            time.sleep(1)
        raise RuntimeError(f"{what} has no CID")

    def puts(self, size: int, count: int, rounds: int, *, signed: bool) -> tuple[float, float]:
        """CPU seconds of a PUT in the plain bucket and in the one that publishes.

        Taken in turns, and the first one of each is not counted.
        """
        spent = [0.0, 0.0]
        for turn in range(rounds + 1):
            for at, target in enumerate((self.s3, self.public)):
                before = self.cpu()
                links = 2 if size >= MIB else 8
                job = Job(
                    "put", size, count, connections=links, signed=signed, prefix=f"{size}-{turn}"
                )
                run(target, job)
                spent[at] += (self.cpu() - before) * (turn > 0)
        plain, public = spent
        return plain / (count * rounds), public / (count * rounds)


def small_dag(count: int) -> bytes:
    """A CAR: a directory of `count` files of 100 bytes."""
    files = [random.Random(number).randbytes(100) for number in range(count)]
    cids = [Cid.of(RAW, SHA2_256, hashlib.sha256(data).digest()) for data in files]
    built = directory.build(Link(cid, f"{n:04}", 100) for n, cid in enumerate(cids))
    blocks = [*built.blocks, *zip(cids, files, strict=True)]
    out = [car.header([built.root])]
    for cid, block in blocks:
        out += [car.section_head(cid, len(block)), block]
    return b"".join(out)


def leaves(site: Site, times: int) -> list[Figure]:
    """One leaf of large objects: from miners, sealed from the edge's memory, and opened before."""
    count = 32
    bodies = {f"leaves{number}": os.urandom(16 * MIB) for number in range(4)}
    for key, body in bodies.items():
        site.network.boto().put_object(Bucket=_PUBLIC, Key=key, Body=body)
    cids = [
        leaf_cid(hashlib.sha256(body[at : at + MIB]).digest())
        for body in bodies.values()
        for at in range(0, len(body), MIB)
    ]
    ours, theirs = cids[:count], [(key, at) for key in list(bodies)[2:] for at in range(16)]
    signer, link = Signer(site.public), Connection(site.s3.endpoint)

    def ranged(number: int) -> None:
        key, at = theirs[number]
        part = f"range: bytes={at * MIB}-{(at + 1) * MIB - 1}\r\ncontent-length".encode()
        head = signer.head("GET", f"/{_PUBLIC}/{key}", "", 0, EMPTY)
        asked = head.replace(b"content-length", part, 1)
        assert link.ask(asked, b"", bodiless=False) == (206, MIB)

    def leaf(number: int) -> None:
        site.get(f"/ipfs/{ours[number % count]}?format=raw")

    time.sleep(2)
    first, by_range = site.spent(count, leaf), site.spent(count, ranged)
    site.spent(count, leaf)  # now the edge keeps them
    sealed = site.spent(count, leaf)
    again = site.spent(times, lambda _: leaf(7))
    note = f"a range of S3 {by_range:.2f}; from the edge's memory {sealed:.2f}"
    return [
        Figure("leaf of 1 MiB, first read", first, "ms", 1.2, note=note).tell(),
        Figure("leaf of 1 MiB, again", again, "ms", 0.6).tell(),
    ]


def cars(site: Site, times: int) -> list[Figure]:
    """CARs of 1,000 small blocks: objects of a prefix, and blocks that came as a CAR."""
    client = site.network.boto()
    for number in range(1000):
        data = random.Random(number).randbytes(100)
        client.put_object(Bucket=_PUBLIC, Key=f"small/{number:04}", Body=data)
    objects = site.cid(f"s3://{_PUBLIC}/small/")
    of_objects = site.spent(times, lambda _: site.get(f"/ipfs/{objects}?format=car"))
    made = client.put_object(
        Bucket="packed", Key="dag.car", Body=small_dag(1000), Metadata={"import": "car"}
    )
    root = made["ResponseMetadata"]["HTTPHeaders"]["x-ipfs-cid"]
    for number in range(1000):
        client.delete_object(Bucket=_PUBLIC, Key=f"small/{number:04}")
    of_pack = site.spent(times, lambda _: site.get(f"/ipfs/{root}?format=car"))
    return [
        Figure("CAR of 1,000 small blocks, imported", of_pack, "ms", 25).tell(),
        Figure("CAR of 1,000 small objects", of_objects, "ms").tell(),
    ]


def imports(site: Site, folder: Path, *, quick: bool) -> list[Figure]:
    """What CIDs cost a PUT, and what another tool takes for them."""
    rounds = 2 if quick else 4
    plain, public = site.puts(64 * MIB, 4, rounds, signed=False)
    note = f"plain {plain * 16:.2f} CPU s/GiB"
    cost = (public - plain) * 16
    found = [Figure("PUT 64 MiB: UnixFS and CID", cost, "s/GiB", 0.75, note=note).tell()]
    for size, name in ((4096, "4 KiB"), (65536, "64 KiB")):
        plain, public = site.puts(size, 800 if quick else 1600, rounds, signed=True)
        note = f"plain {plain * 1000:.3f}"
        found.append(Figure(f"PUT {name}, published", public * 1000, "ms", note=note).tell())
    if _TOOL.exists():
        source, out = folder / "source", folder / "out.car"
        folder.mkdir(exist_ok=True)
        source.write_bytes(os.urandom(256 * MIB))
        before = os.times()
        pack = [str(_TOOL), "pack", str(source), "--output", str(out)]
        subprocess.run(pack, check=True, capture_output=True)
        after = os.times()
        spent = sum(after[2:4]) - sum(before[2:4])
        found.append(Figure("ipfs-car pack", spent * 4, "s/GiB", note="no storage").tell())
    return found


def directories(site: Site, times: int, entries: int) -> list[Figure]:
    """The page of a directory, and what it cost to make it of keys that were just put."""
    before = site.cpu()
    root = site.cid(_LARGE)
    spent = (site.cpu() - before) * 1000 / entries
    drained(site.network.data_dir)
    time.sleep(2)
    size = site.get(f"/ipfs/{root}/")
    page = site.spent(times, lambda _: site.get(f"/ipfs/{root}/"))
    name = f"page of a directory of {entries:,}"
    return [
        Figure("directories follow a new key", spent, "ms").tell(),
        Figure(name, page, "ms", 50, note=f"{size:,} bytes").tell(),
    ]


def files(site: Site, times: int) -> list[Figure]:
    """A file by CID, beside the same GET of S3."""
    key, size = "film", 64 * MIB
    site.network.boto().put_object(Bucket=_PUBLIC, Key=key, Body=os.urandom(size))
    cid, signer, link = (
        site.cid(f"s3://{_PUBLIC}/{key}"),
        Signer(site.public),
        Connection(site.s3.endpoint),
    )

    def by_key(_: int) -> None:
        head = signer.head("GET", f"/{_PUBLIC}/{key}", "", 0, EMPTY)
        assert link.ask(head, b"", bodiless=False) == (200, size)

    keys, cids = 0.0, 0.0
    for turn in range(times + 1):  # in turns, and the first is not counted: workers warm up
        key_ms, cid_ms = site.spent(2, by_key), site.spent(2, lambda _: site.get(f"/ipfs/{cid}"))
        if turn:
            keys, cids = keys + key_ms, cids + cid_ms
    note = f"{cids / times * 16 / 1000:.2f} and {keys / times * 16 / 1000:.2f} CPU s/GiB"
    return [Figure("GET 64 MiB by CID, to GET by key", cids / keys, "x", 1.2, note=note).tell()]


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    """A fresh network; figures against their bars."""
    entries = ENTRIES // 5 if quick else ENTRIES
    network = RunningNetwork(folder / "network", "--pledge", "16GiB", "--background", "off")
    network.start()
    try:
        for bucket in (_PLAIN, _PUBLIC, _LARGE, "packed"):
            make_bucket(Target(network.url("s3"), *network.keys(), bucket))
            if bucket != _PLAIN:
                network.cumulus("ipfs", "publish", bucket, "on")
        time.sleep(5)  # their directories begin
        site, times = Site(network), 20 if quick else 100
        found = imports(site, folder, quick=quick)
        drained(network.data_dir)
        found += leaves(site, 5 * times)
        found += files(site, max(times // 10, 4))
        found += cars(site, times // 2)
    finally:
        network.stop()
    fill(network.data_dir, _LARGE, entries, 100, key=lambda number: f"photo-{number:08}.jpg")
    network.start()
    try:
        found += directories(Site(network), times, entries)
    finally:
        network.stop()
    return found


if __name__ == "__main__":
    sys.exit(command(__doc__, "a smaller directory, fewer requests", measure))
