"""The state during one block: an overlay of decoded records over a committed view.

Reads come from the overlay, then from the view; writes stay in the overlay until `changes` turns
them into rows. `mark` and `rollback` undo a failed transaction. No I/O besides the view.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import msgspec

from chain.ledger import tree
from chain.ledger.records import Table, decode, encode
from chain.ledger.store import Space, View

R = TypeVar("R", bound=msgspec.Struct)


class State:
    """Records by table and id."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._records: dict[bytes, msgspec.Struct | None] = {}
        self._dirty: set[bytes] = set()
        self._journal: list[tuple[bytes, msgspec.Struct | None, bool]] = []

    def get(self, table: Table[R], key: bytes) -> R | None:
        """The record, or None."""
        full = table.prefix + key
        if full in self._records:
            return cast("R | None", self._records[full])
        raw = self._view.get("state", full)
        record = None if raw is None else decode(table, raw)
        self._records[full] = record
        return record

    def put(self, table: Table[R], key: bytes, record: R | None) -> None:
        """Set the record; None deletes it."""
        full = table.prefix + key
        before = self.get(table, key)
        if record is before:
            return
        self._journal.append((full, before, full in self._dirty))
        self._records[full] = record
        self._dirty.add(full)

    def scan(self, table: Table[R], start: bytes = b"", within: bytes = b"") -> Iterator[
        tuple[bytes, R]
    ]:  # fmt: skip
        """Records whose id begins with `within`, from id `start` on, in byte order.

        Do not write to the table while scanning it.
        """
        prefix = table.prefix + within
        first = max(prefix, table.prefix + start)
        fresh = sorted(key for key in self._dirty if key >= first and key.startswith(prefix))
        at, skip = 0, len(table.prefix)
        for key, raw in self._view.scan("state", first, after(prefix)):
            while at < len(fresh) and fresh[at] <= key:
                record = self._records[fresh[at]]
                if record is not None:
                    yield fresh[at][skip:], cast("R", record)
                at += 1
            if key not in self._dirty:
                yield key[skip:], decode(table, raw)
        for key in fresh[at:]:
            record = self._records[key]
            if record is not None:
                yield key[skip:], cast("R", record)

    def mark(self) -> int:
        """A point to roll back to."""
        return len(self._journal)

    def rollback(self, mark: int) -> None:
        """Undo every write since `mark`."""
        while len(self._journal) > mark:
            key, record, was_dirty = self._journal.pop()
            self._records[key] = record
            if not was_dirty:
                self._dirty.discard(key)

    def changes(self) -> tuple[bytes, dict[tuple[Space, bytes], bytes | None]]:
        """The new state root and the rows of `state` and `nodes` to commit."""
        rows: dict[tuple[Space, bytes], bytes | None] = {}
        leaves: list[tuple[bytes, bytes | None]] = []
        for key in self._dirty:
            record = self._records[key]
            raw = None if record is None else encode(record)
            rows["state", key] = raw
            digest = None if raw is None else hashlib.sha256(raw).digest()
            leaves.append((tree.path_of(key), digest))
        changed = tree.Tree(lambda key: self._view.get("nodes", key))
        root = changed.update(leaves)
        nodes: list[tuple[bytes, Any]] = list(changed.changes.items())
        rows.update({("nodes", key): raw for key, raw in nodes})
        return root, rows


def after(prefix: bytes) -> bytes | None:
    """The first key behind all keys with this prefix; None when there is no end."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None
