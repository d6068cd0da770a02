"""Where the ledger lives: five spaces of sorted keys, changed together or not at all.

`state` records · `nodes` of the authenticated tree · `blocks` height -> block · `results` height ->
results · `transactions` id -> place · `meta` height, app hash, format, held reveals.
One implementation in memory, one on LMDB (lmdb_store.py); tests/conformance/ledger_store_suite.py
holds for both.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

from chain.errors import LedgerError
from chain.format import StoreError

Space = Literal["state", "nodes", "blocks", "results", "transactions", "meta"]
SPACES: tuple[Space, ...] = ("state", "nodes", "blocks", "results", "transactions", "meta")
KEY_BYTES_MAX = 511  # LMDB's
# (space, key) -> the new value, or None to delete.
Changes = Mapping[tuple[Space, bytes], bytes | None]


class StoreFull(LedgerError):
    """No room, or no more writing, on the ledger's disk: nothing was changed. Try again later."""


class LedgerDamaged(StoreError):
    """Stored bytes do not check; says where, and what the operator can do."""


class View(Protocol):
    """One committed state; later commits do not show in it. Reading raises LedgerDamaged."""

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
        """Make all changes durable in one transaction. Raises StoreFull, LedgerDamaged."""
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
