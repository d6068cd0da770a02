"""A disk that forgets what was not synced: after a power cut, files as a real disk may hold them.

Files are real, so that reads and LMDB work. Beside them it remembers what is certainly on the disk:
each file's bytes at its last sync, each directory's names at its last sync. A power cut writes what
survives to a new directory: of the later writes any, in any order, torn at sectors; of the later
names the first few. A sync that fails loses the file's later writes for good, as the kernel does:
pages count as clean afterwards, and the next sync says nothing.
"""

import errno
import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import lmdb

from chain.net.transport import Buffer
from gateway.catalog.disk import Disk

SECTOR = 512


class PowerCut(BaseException):
    """Nothing is done any more."""


@dataclass
class _File:
    durable: bytes = b""
    # (offset, bytes), or (length, None) for a cut, since the last sync.
    later: list[tuple[int, bytes | None]] = field(default_factory=list)
    spoiled: bool = False  # writes were lost by a sync that failed


class LossyDisk(Disk):
    """`cut_at`: the call at which the power goes. `error_rate`: how many calls fail with EIO."""

    def __init__(self, chance: Random, *, cut_at: int = -1, error_rate: float = 0.0) -> None:
        self.chance, self.cut_at, self.error_rate = chance, cut_at, error_rate
        self.calls = 0
        self._now: dict[int, _File] = {}  # by inode; a removed file's number comes again
        self._names: dict[Path, _File] = {}
        self._later_names: list[tuple[Path, _File | None]] = []

    def adopt(self, directory: Path) -> None:
        """What is in a directory now is certainly there."""
        for path in directory.rglob("*"):
            if path.is_file():
                self._durable(path)

    def _durable(self, path: Path) -> None:
        self._names[path] = self._now[path.stat().st_ino] = _File(path.read_bytes())

    def _call(self, *, fails: bool = True) -> None:
        self.calls += 1
        if self.calls == self.cut_at:
            raise PowerCut
        if fails and self.error_rate and self.chance.random() < self.error_rate:
            raise OSError(errno.EIO, "Input/output error")

    def _file(self, descriptor: int) -> _File:
        return self._now[os.fstat(descriptor).st_ino]

    # ------------------------------------------------------------------ files
    def create(self, path: Path) -> int:
        self._call()
        was_there = path.exists()
        descriptor = super().create(path)
        if not was_there:
            self._now[os.fstat(descriptor).st_ino] = _File()
        file = self._file(descriptor)
        file.later.append((0, None))
        self._later_names.append((path, file))
        return descriptor

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        self._call()
        return super().read(descriptor, size, offset)

    def read_file(self, path: Path) -> bytes:
        self._call()
        return super().read_file(path)

    def write(self, descriptor: int, data: Buffer, offset: int) -> None:
        try:
            self._call()
        except OSError:
            data = bytes(data)[: self.chance.randrange(len(bytes(data)) + 1)]
            self._write(descriptor, data, offset)
            raise
        self._write(descriptor, bytes(data), offset)

    def _write(self, descriptor: int, data: bytes, offset: int) -> None:
        super().write(descriptor, data, offset)
        self._file(descriptor).later.append((offset, data))

    def cut(self, descriptor: int, length: int) -> None:
        self._call()
        super().cut(descriptor, length)
        self._file(descriptor).later.append((length, None))

    def sync(self, descriptor: int) -> None:
        file = self._file(descriptor)
        try:
            self._call()
        except OSError:
            file.later, file.spoiled = [], True
            raise
        if file.spoiled:
            file.durable = _applied(file.durable, file.later)
        else:  # LMDB writes its copies by itself
            file.durable = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        file.later = []

    # ------------------------------------------------------------------ names
    def make_directory(self, path: Path) -> None:
        self._call()
        super().make_directory(path)

    def replace(self, source: Path, target: Path) -> None:
        self._call()
        file = self._now[source.stat().st_ino]
        super().replace(source, target)
        self._later_names += [(source, None), (target, file)]

    def remove(self, path: Path) -> None:
        self._call()
        super().remove(path)
        self._later_names.append((path, None))

    def sync_directory(self, path: Path) -> None:
        self._call()
        for name, file in self._later_names:
            if name.parent == path:
                _rename(self._names, name, file)
        self._later_names = [one for one in self._later_names if one[0].parent != path]

    def write_file(self, path: Path, data: bytes) -> None:
        self._call()
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        self._durable(path)

    # ------------------------------------------------------------------ LMDB
    def commit(self, transaction: Any) -> None:
        try:
            self._call()
        except OSError as error:
            raise lmdb.Error(str(error)) from error
        super().commit(transaction)

    def sync_index(self, environment: Any) -> None:
        self._call(fails=False)
        super().sync_index(environment)
        # One that was made again is opened before it gets its name.
        self._durable(Path(environment.path()).with_name("index") / "data.mdb")

    def reached(self, step: str) -> None:
        del step
        self._call(fails=False)

    # ------------------------------------------------------------------ the end
    def survivors(self, source: Path, target: Path) -> None:
        """Write to `target` what a power cut leaves of `source`."""
        names = dict(self._names)
        for name, later in self._later_names[: self.chance.randrange(len(self._later_names) + 1)]:
            _rename(names, name, later)
        for name, file in names.items():
            kept = [one for write in file.later for one in self._torn(write)]
            place = target / name.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(_applied(file.durable, kept))

    def _torn(self, write: tuple[int, bytes | None]) -> list[tuple[int, bytes | None]]:
        """What of one write reached the disk."""
        offset, data = write
        match self.chance.randrange(3), data:
            case 0, _:
                return []
            case 1, bytes(whole) if len(whole) > 1:
                start = -offset % SECTOR
                cuts = [0, *range(start or SECTOR, len(whole), SECTOR), len(whole)]
                pieces = pairwise(cuts)
                return [(offset + a, whole[a:b]) for a, b in pieces if self.chance.random() < 0.5]
        return [write]


def _rename(names: dict[Path, _File], path: Path, file: _File | None) -> None:
    if file is None:
        names.pop(path, None)
    else:
        names[path] = file


def _applied(raw: bytes, writes: list[tuple[int, bytes | None]]) -> bytes:
    held = bytearray(raw)
    for offset, data in writes:
        if len(held) < offset:
            held.extend(bytes(offset - len(held)))
        if data is None:
            del held[offset:]
        else:
            held[offset : offset + len(data)] = data
    return bytes(held)
