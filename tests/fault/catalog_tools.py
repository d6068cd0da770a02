"""A store on a disk that fails when it is told to, and short ways to look into it."""

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from chain.net.transport import Buffer
from gateway.catalog.bodies import LogReader, Snapshot
from gateway.catalog.compaction import CompactionSettings, Compactor
from gateway.catalog.disk import Disk
from gateway.catalog.interface import Batch, Delete, Put, Space
from gateway.catalog.store import CatalogStore, StoreSettings

if TYPE_CHECKING:
    from gateway.catalog.local import LocalCatalog

SMALL = StoreSettings(file_bytes=2048, map_bytes=1 << 28)


class Crash(BaseException):
    """The process ends here."""


class FailingDisk(Disk):
    """A disk whose calls fail as set."""

    def __init__(self) -> None:
        self.room: int | None = None  # bytes that can still be written
        self.sync_error: OSError | None = None
        self.crash_at = ""
        self.crash_after = 0  # passes of that step before the crash
        self.steps: list[str] = []

    def write(self, descriptor: int, data: Buffer, offset: int) -> None:
        view = memoryview(data)
        if self.room is not None and len(view) > self.room:
            super().write(descriptor, view[: self.room], offset)
            self.room = 0
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(descriptor, view, offset)
        if self.room is not None:
            self.room -= len(view)

    def sync(self, descriptor: int) -> None:
        if self.sync_error is not None:
            raise self.sync_error
        assert descriptor >= 0

    def reached(self, step: str) -> None:
        self.steps.append(step)
        if step == self.crash_at:
            if self.crash_after == 0:
                raise Crash(step)
            self.crash_after -= 1


def open_store(directory: Path, disk: Disk | None = None, boot: str = "boot") -> CatalogStore:
    return CatalogStore.open(directory, disk=disk, boot=lambda: boot, settings=SMALL)


def put(space: Space, key: bytes, value: bytes) -> Batch:
    return Batch(changes=[Put(space, key, value)])


def delete(space: Space, key: bytes) -> Batch:
    return Batch(changes=[Delete(space, key)])


def row(store: CatalogStore, space: Space, key: bytes) -> bytes | None:
    with store.index.begin() as rows:
        return rows.get(space, key)


def count(store: CatalogStore, space: Space) -> int:
    with store.index.begin() as rows:
        return len(rows.scan(space, b"", None, 1 << 30))


def body(store: CatalogStore, key: bytes) -> bytes | None:
    log = LogReader(store.log.directory)
    try:
        with Snapshot(store.index, log) as snapshot:
            return snapshot.get(Space.BODIES, key)
    finally:
        log.close()


def compact_here(store: CatalogStore, settings: CompactionSettings) -> None:
    """The compactor's steps in one thread, so that a crash stops them all."""
    compactor = Compactor(cast("LocalCatalog", SimpleNamespace(store=store)), settings)
    for number in compactor._sparse_files(with_rows=True):
        for moves, _ in compactor._steps(store.log.read_file(number), number):
            store.disk.reached("move bodies")
            store.commit([moves])
    store.checkpoint()
    while store.remove_files():
        pass
