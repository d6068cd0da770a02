"""Reading bodies and rows: a snapshot of the index, and positioned reads of the log."""

import os
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Self

from gateway.catalog import record
from gateway.catalog.disk import Disk
from gateway.catalog.index import DAMAGE, Index
from gateway.catalog.interface import CatalogDamaged, CatalogUnavailable, Space
from gateway.catalog.judge import unpack_counter
from gateway.catalog.log import file_path
from gateway.catalog.record import Damaged, Place
from gateway.catalog.trie import STEP

OPEN_FILES_MAX = 64
_BODIES = Space.BODIES
# How often a body may move while one reader looks for it.
_LOOKS_MAX = 8
# The second: a row of BODIES that is no place.
_DAMAGE = (*DAMAGE, struct.error)


class LogReader:
    """Frames of the log by place. One thread only; keeps the files used last open.

    A file's number is never used again, so an open descriptor of a removed file still gives the
    bytes that its places name.
    """

    def __init__(self, directory: Path, disk: Disk | None = None) -> None:
        self.directory = directory
        self._disk = disk or Disk()
        self._open: OrderedDict[int, int] = OrderedDict()

    def read(self, place: Place, space: Space, key: bytes) -> bytes:
        """The row's value at `place`. Raises FileNotFoundError, CatalogDamaged."""
        size = record.frame_bytes(key, place.length)
        try:
            raw = self._disk.read(self._descriptor(place.file), size, place.offset)
            return record.frame_value(raw, space, key, place.length)
        except FileNotFoundError:
            raise
        except (Damaged, OSError) as error:
            path = file_path(self.directory, place.file)
            raise CatalogDamaged(f"{path} byte {place.offset}: {error}") from error

    def _descriptor(self, number: int) -> int:
        descriptor = self._open.get(number)
        if descriptor is None:
            path = file_path(self.directory, number)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._open[number] = descriptor
            if len(self._open) > OPEN_FILES_MAX:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(number)
        return descriptor

    def forget(self, number: int) -> None:
        """Close a removed file, so that its blocks are freed."""
        descriptor = self._open.pop(number, None)
        if descriptor is not None:
            os.close(descriptor)

    def forget_missing(self) -> None:
        """Close every file that is no longer there."""
        for number in list(self._open):
            if not file_path(self.directory, number).exists():
                self.forget(number)

    def close(self) -> None:
        """Close all files."""
        for number in list(self._open):
            self.forget(number)


class Snapshot:
    """A Reader: rows from the index, bodies from the log.

    `damaged` is told what shows that the index is damaged; who reads it gets CatalogUnavailable,
    since the index is made again from the log.
    """

    __slots__ = ("_damaged", "_get", "_index", "_log", "_rows", "_spaces")

    def __init__(
        self, index: Index, log: LogReader, damaged: Callable[[str], None] | None = None
    ) -> None:
        self._index, self._log, self._damaged = index, log, damaged
        self._rows = index.begin()
        self._get, self._spaces = self._rows.transaction.get, index.spaces

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.transaction.abort()

    def get(self, space: Space, key: bytes) -> bytes | None:
        """See Reader."""
        try:
            if 0 < len(key) < STEP:  # as Rows.get, which is a call more: a PUT reads eleven rows
                value: bytes | None = self._get(key, db=self._spaces[space])
            else:
                value = self._rows.get(space, key)
            if space is _BODIES and value is not None:
                return self._body(key, Place.unpack(value))
        except _DAMAGE as error:
            raise self._tell(error) from error
        return value

    def has(self, space: Space, key: bytes) -> bool:
        """Whether there is such a row."""
        try:
            return self._rows.get(space, key) is not None
        except _DAMAGE as error:
            raise self._tell(error) from error

    def counter(self, key: bytes) -> int:
        """See Reader."""
        return unpack_counter(self.get(Space.COUNTERS, key))

    def scan(
        self, space: Space, start: bytes, end: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See Reader."""
        try:
            rows = self._rows.scan(space, start, end, limit, reverse=reverse)
            if space != Space.BODIES:
                return rows
            bodies = ((key, self._body(key, Place.unpack(value))) for key, value in rows)
            return [(key, body) for key, body in bodies if body is not None]
        except _DAMAGE as error:
            raise self._tell(error) from error

    def _tell(self, error: Exception) -> CatalogUnavailable:
        reason = f"{type(error).__name__}: {error}"
        if self._damaged is not None:
            self._damaged(reason)
        return CatalogUnavailable(f"the catalog's index is damaged and made again: {reason}")

    def _body(self, key: bytes, place: Place | None) -> bytes | None:
        for _ in range(_LOOKS_MAX):
            if place is None:
                return None
            try:
                return self._log.read(place, Space.BODIES, key)
            except FileNotFoundError:
                # Compacted since the snapshot began: look where it is now.
                moved = place
            with self._index.begin() as fresh:
                place = fresh.place(key)
            if place == moved:
                break
        path = file_path(self._log.directory, moved.file)
        raise CatalogDamaged(f"{path} is missing and holds a live body")
