"""A miner's service over real volumes, in a process that dies where it is told to."""

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from unittest import mock

from chain.clock import SystemClock
from chain.keys.identity import Identity
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.net.transport import Buffer, Payload, Peer
from miner.fragment import FragmentRecord
from miner.protocol import DropFragments, NewFragment, StoreFragments
from miner.service import MinerService
from miner.store.files import LocalDisk, LocalFile, VolumeFile
from miner.store.volumes import VolumeStore
from tests.conformance.fragment_store_suite import fragments
from tests.fault.volume_disk import Points, index_points

VOLUME = 80 * 1024
SIZES = (300, 9_000, 20_000, 40_000, 1, 12_288)
MADE = [fragments(str(n), 4 * SIZES[n % len(SIZES)])[1][0] for n in range(24)]
# What is stored and what is dropped: whole volumes die, the rest is compacted.
WORK: list[tuple[list[int], list[int]]] = [
    ([0, 1, 2, 3], []),
    ([4, 5, 6, 7], [1]),
    ([8, 9], [3]),
    ([1, 10, 11], [2, 0]),
    ([12, 13, 14], [8]),
    ([3], [9, 4, 5, 6, 7]),
    ([2, 5], [12, 13, 14, 10]),
    ([16, 17, 18, 19], [3, 1]),
]


class KillingPoints(Points):
    """SIGKILL to its own process at a pass of a step; names say nothing of volumes' numbers."""

    def __init__(self, name: str, occurrence: int) -> None:
        super().__init__()
        self.passes: Counter[str] = Counter()
        self._kill = (name, occurrence)

    def reach(self, name: str) -> None:
        name = re.sub(r"\d+", "N", name)
        self.passes[name] += 1
        if (name, self.passes[name]) == self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()


class PointFile(LocalFile):
    """Before and behind each change of a volume is a point."""

    def __init__(self, path: Path, points: Points) -> None:
        super().__init__(path)
        self._points = points

    def write(self, parts: Sequence[memoryview], offset: int) -> None:
        first, *rest = parts
        half = len(first) // 2 // 4096 * 4096
        self._points.reach("write")
        if half:
            super().write([first[:half]], offset)
            self._points.reach("write: half of it")
        super().write([first[half:], *rest], offset + half)

    def sync(self) -> None:
        self._points.reach("sync")
        super().sync()
        self._points.reach("sync: done")

    def truncate(self, size: int) -> None:
        self._points.reach("truncate")
        super().truncate(size)

    def punch(self, start: int, end: int) -> bool:
        self._points.reach("punch")
        return super().punch(start, end)


class PointDisk(LocalDisk):
    """A directory of such files."""

    def __init__(self, directory: Path, points: Points) -> None:
        super().__init__(directory)
        self._path, self._points = directory, points

    def create(self, name: str) -> VolumeFile:
        self._points.reach("create")
        super().create(name).close()
        self._points.reach("create: done")
        return self.open(name)

    def open(self, name: str) -> VolumeFile:
        return PointFile(self._path / name, self._points)

    def remove(self, name: str) -> None:
        self._points.reach("remove")
        super().remove(name)
        self._points.reach("remove: done")


def open_store(directory: Path, points: Points | None = None) -> VolumeStore:
    """The store, with points or as it is."""
    disk = LocalDisk(directory / "volumes")
    return VolumeStore.open(
        directory,
        pledge=1 << 30,
        clock=SystemClock(),
        entropy=Random(4).randbytes,
        disk=disk if points is None else PointDisk(directory / "volumes", points),
        volume_bytes=VOLUME,
    )


def _new(record: FragmentRecord, payload: Buffer) -> NewFragment:
    segment = record.segment
    return NewFragment(
        segment.profile.name,
        segment.profile.k,
        segment.profile.m,
        segment.length,
        segment.fragments,
        record.index,
        Payload(bytes(payload)),
    )


async def _work(directory: Path, points: Points, told: int) -> None:
    store = open_store(directory, points)
    transport = MemoryTransport(MemoryNetwork())
    service = MinerService(store, Identity(bytes([1]) * 32))
    await transport.serve("memory://miner", service.handlers())
    miner = transport.connect("memory://miner")
    for puts, drops in WORK:
        await _store(miner, puts, told)
        await _drop(miner, drops, told)
        await store.compact()
    await transport.close()
    await store.close()


async def _store(miner: Peer, numbers: Sequence[int], told: int) -> None:
    _tell(told, "?", numbers)
    message = StoreFragments(tuple(_new(*MADE[number]) for number in numbers))
    reply = await miner.ask(message)
    assert not any(outcome.code for outcome in reply.outcomes)
    _tell(told, "+", numbers)


async def _drop(miner: Peer, numbers: Sequence[int], told: int) -> None:
    if numbers:
        _tell(told, "?", numbers)
        await miner.ask(DropFragments(tuple(MADE[number][0].key for number in numbers)))
        _tell(told, "-", numbers)


def _tell(told: int, state: str, numbers: Sequence[int]) -> None:
    """What is promised from now on, in a file that outlives the process."""
    os.write(told, "".join(f"{state}{number}\n" for number in numbers).encode())


def run(name: str, occurrence: int, directory: str) -> dict[str, int]:
    """All of it, or up to a pass of a step; the passes of each step."""
    points = KillingPoints(name, occurrence)
    told = os.open(Path(directory) / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def fsync(_: int) -> None:
        points.reach("fsync")  # of the session and the format; what a kill leaves needs none

    with index_points(points), mock.patch("os.fsync", fsync):
        asyncio.run(_work(Path(directory) / "miner", points, told))
    return dict(points.passes)
