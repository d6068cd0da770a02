"""A miner's disk in memory that crashes at named points, loses what was not synced, and fails.

`Points` names every step: kill at the n-th and everything after it fails too, as for a process
that is gone. `SimulatedDisk.lose_power` leaves what a disk may leave that was not told to sync.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import pytest

from miner.store import opening
from miner.store.files import VolumeFile
from miner.store.index import Index, IndexWriter
from miner.store.layout import BLOCK

_SECTOR = 512


class Killed(BaseException):
    """The process ended here."""


@dataclass
class Points:
    """Counts the named steps; raises Killed at step `kill_at` and for ever after."""

    kill_at: int | None = None
    names: list[str] = field(default_factory=list)
    dead: bool = False

    def reach(self, name: str) -> None:
        """A step begins, or just ended."""
        if self.dead or len(self.names) == self.kill_at:
            self.dead = True
            raise Killed(name)
        self.names.append(name)


class SimulatedFile:
    """See VolumeFile."""

    direct = False

    def __init__(self, disk: "SimulatedDisk", name: str) -> None:
        self._disk = disk
        self.name = name
        self.data = bytearray()
        self.durable = b""
        self.unsynced: list[tuple[int, bytes]] = []

    def write(self, parts: Sequence[memoryview], offset: int) -> None:
        assert all(len(part) % BLOCK == 0 for part in parts)
        assert offset % BLOCK == 0
        data = memoryview(b"".join(parts))
        disk = self._disk
        disk.step("write", self.name)
        room = disk.room(max(0, offset + len(data) - len(self.data)), len(data))
        half = len(data) // 2 // BLOCK * BLOCK
        self._put(data[: min(half, room)], offset)
        disk.points.reach(f"write {self.name}: half of it")
        if room < len(data):
            raise OSError(errno.ENOSPC, "no space left")
        self._put(data[half:], offset + half)
        disk.points.reach(f"write {self.name}: done")

    def _put(self, data: memoryview, offset: int) -> None:
        if len(self.data) < offset:
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        self.unsynced.append((offset, bytes(data)))

    def sync(self) -> None:
        self._disk.step("sync", self.name)
        self.durable = bytes(self.data)
        self.unsynced.clear()
        self._disk.points.reach(f"sync {self.name}: done")

    def read(self, size: int, offset: int) -> bytes:
        self._disk.readable(self.name, offset, size)
        return bytes(self.data[offset : offset + size])

    def read_into(self, buffer: memoryview, offset: int) -> int:
        data = self.read(len(buffer), offset)
        buffer[: len(data)] = data
        return len(data)

    read_disk = read_into

    def read_cached(self, buffer: memoryview, offset: int) -> int:
        del buffer, offset
        return 0

    def truncate(self, size: int) -> None:
        self._disk.step("truncate", self.name)
        del self.data[size:]
        self.durable = bytes(self.data)
        self.unsynced.clear()
        self._disk.points.reach(f"truncate {self.name}: done")

    def punch(self, start: int, end: int) -> bool:
        if not self._disk.punches:
            return False
        self._disk.points.reach(f"punch {self.name}")
        self._put(memoryview(bytes(end - start)), start)
        self._disk.points.reach(f"punch {self.name}: done")
        return True

    def size(self) -> int:
        return len(self.data)

    def close(self) -> None:
        pass

    def lose_power(self, random: Random) -> None:
        """Of what was not synced each write is there, is not, or is there in part."""
        left = bytearray(self.durable)
        for offset, data in self.unsynced:
            kept = random.choice((0, len(data), random.randrange(0, len(data) + 1, _SECTOR)))
            if kept and len(left) < offset + kept:
                left.extend(bytes(offset + kept - len(left)))
            left[offset : offset + kept] = data[:kept]
        self.data, self.durable = left, bytes(left)
        self.unsynced.clear()


class SimulatedDisk:
    """See Disk. Names are durable as soon as they are made or removed."""

    def __init__(self) -> None:
        self.points = Points()
        self.files: dict[str, SimulatedFile] = {}
        self.punches = True
        self.capacity = 1 << 40
        self.failing: set[str] = set()  # operations that answer EIO
        self.bad: dict[str, range] = {}  # per file the bytes that cannot be read

    def step(self, operation: str, name: str) -> None:
        """An operation begins. Raises Killed, OSError."""
        self.points.reach(f"{operation} {name}")
        if operation in self.failing:
            raise OSError(errno.EIO, "the disk is gone")

    def room(self, growth: int, size: int) -> int:
        """How much of a write of `size` bytes fits, of which `growth` are new."""
        used = sum(len(file.data) for file in self.files.values())
        return size if used + growth <= self.capacity else 0

    def readable(self, name: str, offset: int, size: int) -> None:
        """Raises OSError where the disk is bad."""
        bad = self.bad.get(name, range(0))
        if "read" in self.failing or (offset < bad.stop and bad.start < offset + size):
            raise OSError(errno.EIO, "unreadable")

    def names(self) -> list[str]:
        return sorted(self.files)

    def create(self, name: str) -> VolumeFile:
        self.step("create", name)
        assert name not in self.files
        file = self.files[name] = SimulatedFile(self, name)
        self.points.reach(f"create {name}: done")
        return file

    def open(self, name: str) -> VolumeFile:
        return self.files[name]

    def remove(self, name: str) -> None:
        self.step("remove", name)
        self.files.pop(name, None)
        self.points.reach(f"remove {name}: done")

    def free_bytes(self) -> int:
        return self.capacity - sum(len(file.data) for file in self.files.values())

    def lose_power(self, random: Random) -> None:
        """What is left when the machine goes down."""
        for name in sorted(self.files):
            self.files[name].lose_power(random)

    def copy(self) -> "SimulatedDisk":
        """The same bytes, without points and faults."""
        other = SimulatedDisk()
        other.punches = self.punches
        for name, file in self.files.items():
            made = other.files[name] = SimulatedFile(other, name)
            made.data, made.durable = bytearray(file.data), file.durable
            made.unsynced = list(file.unsynced)
        return other


@contextmanager
def index_points(points: Points) -> Iterator[None]:
    """Index transactions are steps as well: before they begin, before and after the commit."""

    class CrashingIndex(Index):
        @contextmanager
        def write(self) -> Iterator[IndexWriter]:
            points.reach("index transaction")
            with super().write() as writer:
                yield writer
                points.reach("index transaction: before its commit")
            points.reach("index transaction: committed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "Index", CrashingIndex)
        yield
