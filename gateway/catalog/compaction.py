"""Keeping the log short: move live bodies out of mostly dead files, checkpoint, remove files.

Each step in the writer's thread is small; reading files and copying the index run beside commits.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import lmdb

from gateway.catalog import record
from gateway.catalog.group import Move
from gateway.catalog.index import Tally
from gateway.catalog.interface import CatalogDamaged, Space
from gateway.catalog.local import LocalCatalog
from gateway.catalog.log import file_path
from gateway.catalog.record import Damaged, Place

_BODIES = int(Space.BODIES)


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """When to work, and how much at once."""

    live_fraction: float = 0.5  # a file with less of it alive is emptied
    # A file with more than this of rows is emptied once, before the checkpoint that takes over its
    # rows: an object of 4 KiB is logged with 0.7 KB of them.
    rows_fraction: float = 0.1
    checkpoint_bytes: int = 256 << 20  # of log since the last checkpoint …
    checkpoint_ratio: float = 1.0  # … and at least so many times the index's size,
    checkpoint_bytes_max: int = 512 << 20  # but never more: it is replayed after a power loss,
    checkpoint_rows_max: int = 64 << 20  # row by row: 5 µs for each 50-100 bytes that are no body
    # Small steps: commits wait behind one step at most.
    step_bytes: int = 128 << 10
    step_rows: int = 32


@dataclass(frozen=True, slots=True)
class Work:
    """What one round did."""

    moved: int = 0
    checkpoint: int | None = None
    removed: tuple[int, ...] = ()


class Compactor:
    """One catalog's housekeeping. One round at a time."""

    def __init__(self, catalog: LocalCatalog, settings: CompactionSettings | None = None) -> None:
        self.catalog = catalog
        self.store = catalog.store
        self.settings = settings or CompactionSettings()

    async def work(self, *, force: bool = False) -> Work:
        """Do what is due; with `force` a checkpoint is due whatever the log's length.

        Raises OSError, CatalogUnavailable, CatalogDamaged; what was done until then stays done.
        """
        due = force or self._checkpoint_due()
        moved = 0
        for number in self._sparse_files(with_rows=due):
            moved += await self._empty(number)
        checkpoint = None
        if due or self._checkpoint_due():
            try:
                checkpoint = await asyncio.to_thread(self.store.checkpoint)
            except lmdb.Error as error:
                raise OSError(f"the index cannot be copied: {error}") from error
        removed: list[int] = []
        while some := await self.catalog.writer.run(self.store.remove_files):
            removed += some
        return Work(moved, checkpoint, tuple(removed))

    def _tallies(self) -> dict[int, Tally]:
        """Of all files but the one being written."""
        with self.store.index.begin() as rows:
            head = rows.applied().file
            return {number: tally for number, tally in rows.tallies().items() if number < head}

    def _sparse_files(self, *, with_rows: bool) -> list[int]:
        """Files to empty, the emptiest first; `with_rows`: also those that hold many rows."""
        settings = self.settings
        sparse = []
        for number, tally in self._tallies().items():
            rows = tally.length - tally.bodies if with_rows else 0
            dead = tally.live < settings.live_fraction * tally.length
            if tally.live and (dead or rows > settings.rows_fraction * tally.length):
                sparse.append((tally.live / tally.length, number))
        return [number for _, number in sorted(sparse)]

    def _checkpoint_due(self) -> bool:
        """Whether the log since the last checkpoint is long beside the index."""
        covered = self.store.checkpointed
        with self.store.index.begin() as rows:
            new = [tally for tally in rows.tallies().values() if tally.last > covered]
        if sum(t.length - t.bodies for t in new) >= self.settings.checkpoint_rows_max:
            return True
        log_bytes = sum(t.length for t in self._tallies().values() if t.last > covered)
        information = self.store.index.environment.info()
        index_bytes = information["last_pgno"] * self.store.index.environment.stat()["psize"]
        settings = self.settings
        due = max(settings.checkpoint_bytes, settings.checkpoint_ratio * index_bytes)
        return bool(log_bytes >= min(due, settings.checkpoint_bytes_max))

    async def _empty(self, number: int) -> int:
        """Write the live bodies of a file again at the head; returns how many."""
        raw = await asyncio.to_thread(self.store.log.read_file, number)
        moved = 0
        steps = self._steps(raw, number)
        # Parsing 64 MiB takes longer than the event loop may be held.
        while portion := await asyncio.to_thread(next, steps, None):
            moves, size = portion
            self.store.disk.reached("move bodies")
            await self.catalog.writer.move(moves, size)
            moved += len(moves)
        return moved

    def _steps(self, raw: bytes, number: int) -> Iterator[tuple[list[Move], int]]:
        """Live bodies in portions; the index is asked anew for each portion."""
        moves: list[Move] = []
        size = 0
        for found in self._records(raw, number):
            with self.store.using_index() as index, index.begin() as rows:
                live = [move for move in found if rows.place(move.key) == move.place]
            for move in live:
                moves.append(move)
                size += record.frame_bytes(move.key, len(move.value))
                if size >= self.settings.step_bytes or len(moves) >= self.settings.step_rows:
                    yield moves, size
                    moves, size = [], 0
        if moves:
            yield moves, size

    def _records(self, raw: bytes, number: int) -> Iterator[list[Move]]:
        """The bodies of each record of a file. Raises CatalogDamaged."""
        at = record.FILE_HEADER_BYTES
        while at < len(raw):
            try:
                found = record.decode(raw, at)
            except Damaged as error:
                path = file_path(self.store.log.directory, number)
                raise CatalogDamaged(f"{path} byte {at}: {error}") from error
            yield [
                Move(
                    frame.key,
                    Place(number, at + frame.offset, frame.value_length),
                    raw[at + frame.value_offset : at + frame.value_offset + frame.value_length],
                )
                for frame in found.frames
                if frame.space == _BODIES and frame.operation == record.PUT
            ]
            at += found.length
