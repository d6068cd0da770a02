"""Where the ledger lives: five spaces of sorted keys, changed together or not at all.

`state` records · `nodes` of the authenticated tree · `blocks` height -> block · `results` height ->
results · `transactions` id -> place · `meta` height, app hash, format, held reveals.
One implementation in memory, one on LMDB; tests/conformance/ledger_store_suite.py holds for both.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import lmdb

Space = Literal["state", "nodes", "blocks", "results", "transactions", "meta"]
SPACES: tuple[Space, ...] = ("state", "nodes", "blocks", "results", "transactions", "meta")
KEY_BYTES_MAX = 511  # LMDB's
# (space, key) -> the new value, or None to delete.
Changes = Mapping[tuple[Space, bytes], bytes | None]
# Sparse: it costs address space, not disk.
MAP_BYTES = 1 << 38


class View(Protocol):
    """One committed state; later commits do not show in it."""

    def get(self, space: Space, key: bytes) -> bytes | None:
        """The value, or None."""
        ...

    def scan(self, space: Space, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Keys in [start, end) in byte order; an `end` of None is no end."""
        ...


class LedgerStore(Protocol):
    """Durable, atomic, one writer."""

    def read(self) -> AbstractContextManager[View]:
        """The latest committed state. Leave the context soon: old pages are kept for it."""
        ...

    def commit(self, changes: Changes) -> None:
        """Make all changes durable in one transaction."""
        ...

    def close(self) -> None:
        """Give the files back."""
        ...


class _MemoryView:
    def __init__(self, tables: dict[Space, dict[bytes, bytes]]) -> None:
        self._tables = tables
        self._sorted: dict[Space, list[bytes]] = {}

    def get(self, space: Space, key: bytes) -> bytes | None:
        return self._tables[space].get(key)

    def scan(self, space: Space, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        table = self._tables[space]
        if space not in self._sorted:
            self._sorted[space] = sorted(table)
        keys = self._sorted[space]
        for at in range(bisect_left(keys, start), len(keys)):
            if end is not None and keys[at] >= end:
                return
            yield keys[at], table[keys[at]]


class MemoryStore:
    """For tests and simulations: durable as long as the object lives."""

    def __init__(self) -> None:
        self._tables: dict[Space, dict[bytes, bytes]] = {space: {} for space in SPACES}

    @contextmanager
    def read(self) -> Iterator[View]:
        """A snapshot: a commit replaces the tables that it changes."""
        yield _MemoryView(self._tables)

    def commit(self, changes: Changes) -> None:
        tables = dict(self._tables)
        for space in {space for space, _ in changes}:
            tables[space] = dict(tables[space])
        for (space, key), value in changes.items():
            assert 0 < len(key) <= KEY_BYTES_MAX
            if value is None:
                tables[space].pop(key, None)
            else:
                tables[space][key] = value
        self._tables = tables

    def close(self) -> None:
        """Nothing to give back."""


class _LmdbView:
    def __init__(self, transaction: lmdb.Transaction, databases: Mapping[Space, Any]) -> None:
        self._transaction = transaction
        self._databases = databases

    def get(self, space: Space, key: bytes) -> bytes | None:
        value = self._transaction.get(key, db=self._databases[space])
        return None if value is None else bytes(value)

    def scan(self, space: Space, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._transaction.cursor(db=self._databases[space])
        # an empty key means "from the first" to us and is an error to LMDB
        found = cursor.set_range(start) if start else cursor.first()
        if not found:
            return
        for found_key, value in cursor:
            key = bytes(found_key)
            if end is not None and key >= end:
                return
            yield key, bytes(value)


class LmdbStore:
    """One LMDB environment. Open after the process is spawned; one process at a time."""

    def __init__(self, directory: Path, *, sync: bool = True) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._environment = lmdb.open(
            str(directory), map_size=MAP_BYTES, max_dbs=len(SPACES), sync=sync, max_readers=64
        )
        self._environment.reader_check()
        self._databases: dict[Space, Any] = {
            space: self._environment.open_db(space.encode()) for space in SPACES
        }

    @contextmanager
    def read(self) -> Iterator[View]:
        """A read transaction."""
        with self._environment.begin(buffers=False) as transaction:
            yield _LmdbView(transaction, self._databases)

    def commit(self, changes: Changes) -> None:
        """One write transaction, synced to the disk."""
        with self._environment.begin(write=True) as transaction:
            for (space, key), value in sorted(changes.items(), key=lambda item: item[0]):
                if value is None:
                    transaction.delete(key, db=self._databases[space])
                else:
                    transaction.put(key, value, db=self._databases[space])

    def close(self) -> None:
        self._environment.close()
