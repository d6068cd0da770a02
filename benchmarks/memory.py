"""Memory of a network's processes at their peak: `python -m benchmarks.memory [--quick]`.

Proportional set sizes (PSS: a shared page counts once in all) of every process, sampled while
clients work. What a process holds that nobody uses any more is counted too.
"""

import os
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.figures import Figure, command
from benchmarks.load import EMPTY, UNSIGNED, Job, Signer, Target, make_bucket, run
from benchmarks.processes import family
from tests.clients.running import RunningNetwork

MIB, GIB = 1 << 20, 1 << 30
EVERY = 0.05
_IDLE_SECONDS = 12.0  # buffers that nobody needed go back after 10


def pss(pid: int) -> int:
    """Proportional set size in bytes; 0 once the process is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    lines = [line for line in text.splitlines() if line.startswith("Pss:")]
    return int(lines[0].split()[1]) << 10 if lines else 0


def name_of(pid: int) -> str:
    """What a process of ours is: chain, miner, catalog, worker, up."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "gone"
    for word in (b"catalog", b"worker", b"repair", b"up"):
        if word in words:
            return word.decode()
    return words[2].decode() if len(words) > 2 else "?"


class Peak:
    """Samples a network while a block runs: the largest of each process, and of all together."""

    def __init__(self, pid: int) -> None:
        self.pids = family(pid)
        self.largest: dict[int, int] = defaultdict(int)
        self.total = 0
        self.parts: Counter[str] = Counter()  # at that moment, by kind of process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.wait(EVERY):
            self.look()

    def look(self) -> int:
        """One sample; bytes in all."""
        parts: Counter[str] = Counter()
        for pid in self.pids:
            size = pss(pid)
            parts[name_of(pid)] += size
            self.largest[pid] = max(self.largest[pid], size)
        total = sum(parts.values())
        if total > self.total:
            self.total, self.parts = total, parts
        return total

    def __enter__(self) -> "Peak":
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def shares(self) -> str:
        """The parts of the largest total."""
        return ", ".join(f"{name} {size / MIB:.0f}" for name, size in self.parts.most_common())

    @property
    def worst(self) -> tuple[str, int]:
        """The process that was largest, and how large."""
        pid = max(self.largest, key=lambda one: self.largest[one])
        return name_of(pid), self.largest[pid]


def put_large(target: Target, key: str, size: int) -> None:
    """One PUT of `size` bytes, as fast as the server takes them. Raises RuntimeError."""
    piece = os.urandom(4 * MIB)
    link = _connect(target)
    link.sendall(Signer(target).head("PUT", f"/{target.bucket}/{key}", "", size, UNSIGNED))
    left = size
    while left:
        link.sendall(piece[: min(left, len(piece))])
        left -= min(left, len(piece))
    reply = link.recv(65536)
    link.close()
    if not reply.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(reply[:300].decode(errors="replace"))


def get_large(target: Target, key: str) -> int:
    """One GET; the bytes that came. Raises RuntimeError."""
    link = _connect(target)
    link.sendall(Signer(target).head("GET", f"/{target.bucket}/{key}", "", 0, EMPTY))
    buffer = bytearray(MIB)
    got = link.recv(65536)
    if not got.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(got[:300].decode(errors="replace"))
    head, _, rest = got.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    count = len(rest)
    while count < length:
        some = link.recv_into(buffer)
        if not some:
            raise RuntimeError(f"the body ended after {count} bytes")
        count += some
    link.close()
    return count


def _connect(target: Target) -> socket.socket:
    parts = urlsplit(target.endpoint)
    link = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=120)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    """A fresh network; figures against their bars."""
    large = (256 * MIB) if quick else 5 * GIB
    network = RunningNetwork(folder, "--pledge", "16GiB")
    network.start()
    found = []
    try:
        assert network.process is not None
        pid = network.process.pid
        target = Target(network.url("s3"), *network.keys())
        make_bucket(target)
        time.sleep(_IDLE_SECONDS)
        rest = Peak(pid)
        idle = rest.look()
        found.append(Figure("idle, all processes", idle / MIB, "MiB", note=rest.shares()).tell())
        with Peak(pid) as peak:
            errors = run(target, Job("put", 64 * MIB, 64, connections=64, prefix="w")).errors
        found.append(
            Figure(
                "64 PUTs of 64 MiB at once, above idle",
                (peak.total - idle) / MIB,
                "MiB",
                1024,
                note=peak.shares() + (f"; errors {dict(errors)}" if errors else ""),
            ).tell()
        )
        time.sleep(_IDLE_SECONDS)
        size = f"{large / GIB:g} GiB"
        for verb, work in (
            ("PUT", lambda: put_large(target, "large", large)),
            ("GET", lambda: get_large(target, "large")),
        ):
            with Peak(pid) as peak:
                work()
            name, worst = peak.worst
            found.append(
                Figure(
                    f"{verb} of {size}, largest process", worst / MIB, "MiB", 400, note=name
                ).tell()
            )
    finally:
        network.stop()
    return found


if __name__ == "__main__":
    sys.exit(command(__doc__, "256 MiB in place of 5 GiB", measure))
