"""Log and index together: opening, committing groups, checkpoints. One thread, no asyncio.

Rule: the index transaction of a group commits after the group's records are on stable storage, so
the index never knows more than the log.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb

from chain.clock import Entropy, system_entropy
from chain.format import DirectoryLock, Upgrade, lock_directory, open_store
from gateway.catalog import record
from gateway.catalog.bodies import LogReader
from gateway.catalog.checkpoints import Checkpoints
from gateway.catalog.disk import Disk, boot_id
from gateway.catalog.group import Group, Move
from gateway.catalog.index import DAMAGE, ID_BYTES, MAP_BYTES, Index, Position, Rows, StateFile
from gateway.catalog.interface import (
    Batch,
    CatalogDamaged,
    CatalogFull,
    CatalogUnavailable,
    Conflict,
)
from gateway.catalog.log import FILE_BYTES, NO_SPACE, Log, LogFailed, file_numbers

logger = logging.getLogger(__name__)

KIND = "catalog"
FORMAT = 2
# One entry per older version that can be upgraded: see chain/format.py. What version 1 wrote is
# read as it is; the number keeps its program away from rows and places that it cannot read.
UPGRADES: dict[int, Upgrade] = {1: lambda _: None}
FIRST = Position(0, 1, record.FILE_HEADER_BYTES)
# Records that one index transaction takes at replay.
_REPLAY_RECORDS = 2048
# Freeing 64 MiB takes the file system some milliseconds, in which no commit is made.
_REMOVE_FILES = 1

Item = Batch | Sequence[Move]
# A sequence number, or why the batch was refused: a condition, or a body that had to be compared.
Outcome = int | Conflict | CatalogDamaged


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Sizes of a catalog's files."""

    file_bytes: int = FILE_BYTES
    map_bytes: int = MAP_BYTES


class CatalogStore:
    """The catalog's files, held by its one writer."""

    def __init__(self, directory: Path, disk: Disk, settings: StoreSettings) -> None:
        self.directory, self.disk, self.settings = directory, disk, settings
        self.failed: LogFailed | None = None
        self._guard = threading.Lock()
        self._closed = False
        self._checkpoints = Checkpoints(directory / "checkpoint", disk)
        self._state = StateFile(directory / "index-state", disk)
        self._lock: DirectoryLock
        self.index: Index
        self.log: Log
        self._reader: LogReader
        self.position: Position

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        disk: Disk | None = None,
        entropy: Entropy = system_entropy,
        boot: Callable[[], str] = boot_id,
        settings: StoreSettings | None = None,
        salvage: bool = False,
    ) -> "CatalogStore":
        """Open or make the catalog in `directory`, and bring the index up to the log.

        Raises chain.format.StoreError (locked, newer), CatalogDamaged, OSError.
        """
        lock = lock_directory(directory)
        try:
            open_store(directory, KIND, FORMAT, UPGRADES)
            store = cls(directory, disk or Disk(), settings or StoreSettings())
            store._lock = lock
            store._start(entropy, boot(), salvage=salvage)
        except BaseException:
            lock.release()
            raise
        return store

    # ------------------------------------------------------------------ start and end
    def _start(self, entropy: Entropy, boot: str, *, salvage: bool) -> None:
        trusted = self._state.begin(boot, self.directory / "index" / "data.mdb")
        path = self.directory / "log"
        self.log = Log.open(path, self.disk, file_bytes=self.settings.file_bytes)
        self._reader = LogReader(path, self.disk)
        try:
            self.index = self._open_index(entropy(ID_BYTES), trusted=trusted)
        except BaseException:
            self.log.close()
            raise
        try:
            self.position = self._replay(salvage=salvage)
        except BaseException:
            self.index.close()
            self.log.close()
            raise

    def _open_index(self, identifier: bytes, *, trusted: bool) -> Index:
        path = self.directory / "index"
        if trusted:
            try:
                return Index.create(path, identifier, FIRST, map_bytes=self.settings.map_bytes)
            except lmdb.Error as error:
                logger.warning("the index does not open (%s); making it again", error)
        return self._make_index(path, identifier)

    def _make_index(self, path: Path, identifier: bytes) -> Index:
        """Made elsewhere and open before it gets its name.

        Readers try to open `path` all the time. One that found the old data before they went, and
        then made the lock file of the new ones, would hand the old environment's last transaction
        to the writer: every second time the restored index looked empty.
        """
        made, old = path.with_name("index-new"), path.with_name("index-old")
        for leftover in (made, old):
            shutil.rmtree(leftover, ignore_errors=True)
        with suppress(FileNotFoundError):
            path.rename(old)
        shutil.rmtree(old, ignore_errors=True)
        self.disk.make_directory(made)
        restored = self._checkpoints.restore(made / "data.mdb")
        logger.info("making the index again from %s", restored or "the log alone")
        index = Index.create(made, identifier, FIRST, map_bytes=self.settings.map_bytes)
        try:
            index.rename(identifier)
            self.disk.reached("name made index")
            made.rename(path)
            self.disk.sync_directory(path)
        except BaseException:
            index.close()
            raise
        return index

    def _replay(self, *, salvage: bool) -> Position:
        position = self.index.applied()
        located = self.log.replay(position, salvage=salvage)
        started = position.sequence
        while some := list(islice(located, _REPLAY_RECORDS)):
            with self._writing() as rows:
                group = Group(rows, position, self._reader)
                for one in some:
                    group.replay(one)
                group.finish()
            position = group.position
        if position.sequence != started:
            logger.info("replayed commits %d to %d", started + 1, position.sequence)
        with self._writing() as rows:
            present = set(file_numbers(self.log.directory))
            for file in set(rows.tallies()) - present:
                rows.forget_file(file)
        return Position(position.sequence, self.log.number, self.log.offset)

    def close(self) -> None:
        """Close; the next start finds a whole index unless the writer failed."""
        try:
            if self.failed is None:
                self.log.trim()
                self.disk.sync_index(self.index.environment)
                self._state.end(self.directory / "index" / "data.mdb")
        except (lmdb.Error, OSError) as error:
            logger.warning("the index was not closed cleanly: %s", error)
        finally:
            self.abandon()

    def settle(self) -> None:
        """Say that this start went well. Raises OSError."""
        if self.failed is None:
            self._state.settle()

    def distrust(self, reason: str) -> LogFailed:
        """The index is damaged: the store is of no more use, and the next start makes it again."""
        self.failed = LogFailed(f"the index is damaged and will be made again: {reason}")
        self._state.distrust()
        return self.failed

    def abandon(self) -> None:
        """Let go of everything as a crash would, apart from this process's handles."""
        with self._guard:
            self._closed = True
            self.index.close()
            self.log.close()
            self._reader.close()
            self._lock.release()

    @contextmanager
    def using_index(self) -> Iterator[Index]:
        """The index for a thread that is not the writer's: it stays open meanwhile.

        Raises CatalogUnavailable once the store is closed.
        """
        with self._guard:
            if self._closed:
                raise CatalogUnavailable("the catalog is closed")
            yield self.index

    def _writing(self) -> "_Writing":
        return _Writing(self.index, self.disk)

    # ------------------------------------------------------------------ commits
    def commit(self, items: Sequence[Item]) -> list[Outcome]:
        """Judge and commit batches (checked, see judge.check) as one group, one after the other.

        Returns for each its sequence number or why it was refused. Raises CatalogUnavailable
        (disk full: none of them was made), LogFailed (unknown: the store is of no more use).
        """
        self.make_room()
        pending = self.prepare(items)
        try:
            self.write(pending)
            return self.finish(pending)
        except BaseException as error:
            self.break_off(pending, error)
            raise

    def make_room(self) -> None:
        """The first step of a commit: a new log file when the last one is full. Raises as commit.

        This step and `write` wait for the disk, and may run in another thread than `prepare` and
        `finish`, which use the index. One step at a time.
        """
        with self._telling():
            if self.failed is not None:
                raise self.failed
            if self.log.full:
                self.log.roll()
                number = self.log.number
                self.position = Position(self.position.sequence, number, self.log.offset)

    def prepare(self, items: Sequence[Item]) -> "Pending":
        """Judge the group and change the index in a transaction that nobody sees yet."""
        with self._telling():
            writing = _Writing(self.index, self.disk)
            try:
                group = Group(Rows(self.index, writing.transaction), self.position, self._reader)
                outcomes = [_judge(group, item) for item in items]
                if group.records:
                    group.finish()
            except BaseException:
                writing.abort()
                raise
        return Pending(group, outcomes, writing, self.position.offset)

    def write(self, pending: "Pending") -> None:
        """Bring the group's records to stable storage."""
        if not pending.group.records:
            return
        with self._telling():
            try:
                self.log.append(pending.group.records)
            except OSError:
                self._undo(pending)
                raise

    def finish(self, pending: "Pending") -> list[Outcome]:
        """Make the group visible."""
        if not pending.group.records:
            pending.writing.abort()
            return pending.outcomes
        with self._telling():
            try:
                self.disk.reached("commit index")
                pending.writing.commit()
            except (OSError, lmdb.Error):
                pending.writing.abort()
                self._undo(pending)
                raise
        self.position = pending.group.position
        return pending.outcomes

    def break_off(self, pending: "Pending", error: BaseException) -> None:
        """After a failed `write` or `finish`: drop the transaction; the store fails if need be."""
        pending.writing.abort()
        if not isinstance(error, CatalogUnavailable | LogFailed):
            self.failed = LogFailed(f"a commit broke off: {error!r}")

    def _undo(self, pending: "Pending") -> None:
        self.disk.reached("undo group")
        self.log.undo(pending.offset)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Errors of disk and index as `commit` promises them."""
        try:
            yield
        except LogFailed as error:
            self.failed = error
            raise
        except OSError as error:
            kind = CatalogFull if error.errno in NO_SPACE else CatalogUnavailable
            raise kind(f"the catalog's log cannot be written: {error}") from error
        except DAMAGE as error:
            raise self.distrust(str(error)) from error
        except lmdb.Error as error:
            raise CatalogFull(f"the index cannot be written: {error}") from error

    # ------------------------------------------------------------------ housekeeping
    def checkpoint(self) -> int:
        """Copy the index durably; returns the sequence it has. May run beside commits.

        Raises OSError, lmdb.Error, CatalogUnavailable.
        """
        with self.using_index() as index:
            return self._checkpoints.write(index)

    @property
    def checkpointed(self) -> int:
        """The newest checkpoint's sequence; 0 if there is none."""
        return self._checkpoints.newest()

    def remove_files(self) -> list[int]:
        """Delete one log file without live bodies that the checkpoint covers; which it was.

        Raises CatalogUnavailable.
        """
        with self._telling():
            return self._remove_files()

    def _remove_files(self) -> list[int]:
        covered = self._checkpoints.newest()
        with self.index.begin() as rows:
            tallies = rows.tallies()
        removed: list[int] = []
        for number in file_numbers(self.log.directory):
            tally = tallies.get(number)
            if number == self.log.number or (tally is not None and tally.live > 0):
                continue
            if tally is None or tally.last > covered:
                continue
            if len(removed) == _REMOVE_FILES:
                break
            self.disk.reached("remove log file")
            self.log.remove(number)
            self._reader.forget(number)
            removed.append(number)
        if removed:
            self.disk.sync_directory(self.log.directory)
            with self._writing() as rows:
                for number in removed:
                    rows.forget_file(number)
        return removed


def _judge(group: Group, item: Item) -> Outcome:
    try:
        return group.add(item) if isinstance(item, Batch) else group.move(item)
    except (Conflict, CatalogDamaged) as refusal:
        return refusal


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A group on its way: judged, in an open index transaction, from `offset` on in the log."""

    group: Group
    outcomes: list[Outcome]
    writing: "_Writing"
    offset: int


class _Writing:
    """An index transaction for writing; as a context manager it commits at the end."""

    def __init__(self, index: Index, disk: Disk) -> None:
        self.index, self.disk = index, disk
        self.transaction: Any = index.environment.begin(write=True)

    def __enter__(self) -> Rows:
        return Rows(self.index, self.transaction)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.abort()

    def commit(self) -> None:
        """Make it visible. Raises lmdb.Error."""
        self.disk.commit(self.transaction)

    def abort(self) -> None:
        """Drop it; nothing if it ended already."""
        self.transaction.abort()
