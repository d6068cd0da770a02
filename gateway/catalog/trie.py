"""Keys up to 2,048 bytes in LMDB, whose keys end at 511, in byte order.

A key shorter than STEP is stored as it is. A longer one is cut in steps of STEP bytes; every cut is
a node named by a hash of all that lies before it, so a get is one lookup at any length. A stored
key whose part after its node has exactly STEP bytes is a link to the next node; rows never have
that length. See docs/specs/catalog.md.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from blake3 import blake3

STEP = 480
NODE_BYTES = 24  # 24 + 480 = 504 <= 511; 2^96 work for two keys that share a node


def _node(space: int, path: bytes) -> bytes:
    digest: bytes = blake3(bytes((space,)) + path).digest(length=NODE_BYTES)
    return digest


class Trie:
    """One keyspace inside one LMDB transaction.

    `roots` is the keyspace's own database, `deep` the one that all keyspaces share.
    """

    __slots__ = ("deep", "roots", "space", "transaction")

    def __init__(self, transaction: Any, space: int, roots: Any, deep: Any) -> None:
        self.transaction, self.space, self.roots, self.deep = transaction, space, roots, deep

    def _stored(self, key: bytes) -> bytes:
        """The key under which a long key's row lies in `deep`."""
        cut = len(key) - len(key) % STEP
        return _node(self.space, key[:cut]) + key[cut:]

    def get(self, key: bytes) -> bytes | None:
        """The row's value, or None."""
        value: bytes | None
        if len(key) < STEP:
            value = self.transaction.get(key, db=self.roots) if key else None
        else:
            value = self.transaction.get(self._stored(key), db=self.deep)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Set the row, and the links that lead to it."""
        if len(key) < STEP:
            self.transaction.put(key, value, db=self.roots)
            return
        self.transaction.put(self._stored(key), value, db=self.deep)
        for link, database in self._links(key):
            if not self.transaction.put(link, b"", overwrite=False, db=database):
                return

    def delete(self, key: bytes) -> None:
        """Remove the row, and the links that led to it alone."""
        if len(key) < STEP:
            self.transaction.delete(key, db=self.roots)
            return
        if not self.transaction.delete(self._stored(key), db=self.deep):
            return
        cut = len(key) - len(key) % STEP
        for link, database in self._links(key):
            cursor = self.transaction.cursor(self.deep)
            node = _node(self.space, key[:cut])
            if cursor.set_range(node) and cursor.key().startswith(node):
                return
            self.transaction.delete(link, db=database)
            cut -= STEP

    def _links(self, key: bytes) -> Iterator[tuple[bytes, Any]]:
        """The links on the way to a long key, the last one first, with their databases."""
        for end in range(len(key) - len(key) % STEP, STEP, -STEP):
            start = end - STEP
            yield _node(self.space, key[:start]) + key[start:end], self.deep
        yield key[:STEP], self.roots

    def scan(
        self, start: bytes, end: bytes | None, limit: int, *, reverse: bool
    ) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows with start <= key < end, in (reverse) byte order."""
        rows: list[tuple[bytes, bytes]] = []
        if limit <= 0 or (end is not None and start >= end):
            return rows
        if reverse:
            self._backward(b"", start, end, limit, rows)
        elif not self._shallow(start, end, limit, rows):
            rows.clear()
            self._forward(b"", start, end, limit, rows)
        return rows

    def _shallow(
        self, start: bytes, end: bytes | None, limit: int, rows: list[tuple[bytes, bytes]]
    ) -> bool:
        """The forward scan when no link is in the way: 3 times faster; False if one is."""
        cursor = self.transaction.cursor(self.roots)
        if not (cursor.set_range(start[:STEP]) if start else cursor.first()):
            return True
        if end is None:
            rows.extend(islice(cursor.iternext(keys=True, values=True), limit))
        else:
            for row in islice(cursor.iternext(keys=True, values=True), limit):
                if row[0] >= end:
                    break
                rows.append(row)
        return STEP not in {len(key) for key, _ in rows}

    def _enter(self, path: bytes) -> tuple[Any, bytes]:
        """A cursor for the node at `path`, and the node's name."""
        if not path:
            return self.transaction.cursor(self.roots), b""
        return self.transaction.cursor(self.deep), _node(self.space, path)

    def _forward(
        self,
        path: bytes,
        start: bytes,
        end: bytes | None,
        limit: int,
        rows: list[tuple[bytes, bytes]],
    ) -> None:
        """Add the rows of the node at `path`; `start` and `end` are relative to it."""
        cursor, node = self._enter(path)
        seek = node + start[:STEP]
        if not (cursor.set_range(seek) if seek else cursor.first()):
            return
        for stored, value in cursor.iternext(keys=True, values=True):
            if not stored.startswith(node):
                return
            key = stored[len(node) :]
            if end is not None and key >= end:
                return
            if len(key) < STEP:
                rows.append((path + key, value))
            else:
                inner_start = start[STEP:] if start[:STEP] == key else b""
                inner_end = end[STEP:] if end is not None and end[:STEP] == key else None
                self._forward(path + key, inner_start, inner_end, limit, rows)
            if len(rows) >= limit:
                return

    def _backward(
        self,
        path: bytes,
        start: bytes,
        end: bytes | None,
        limit: int,
        rows: list[tuple[bytes, bytes]],
    ) -> None:
        """As `_forward`, from the end to the start."""
        cursor, node = self._enter(path)
        if not _seek_before(cursor, node, end):
            return
        for stored, value in cursor.iterprev(keys=True, values=True):
            if not stored.startswith(node):
                return
            key = stored[len(node) :]
            if key < start[:STEP]:
                return
            if len(key) < STEP:
                if key < start:
                    return
                rows.append((path + key, value))
            else:
                inner_start = start[STEP:] if start[:STEP] == key else b""
                inner_end = end[STEP:] if end is not None and end[:STEP] == key else None
                self._backward(path + key, inner_start, inner_end, limit, rows)
            if len(rows) >= limit:
                return

    def holds_prefix(self, prefix: bytes) -> bool:
        """Whether a row's key starts with `prefix`."""
        rows = self.scan(prefix, None, 1, reverse=False)
        return bool(rows) and rows[0][0].startswith(prefix)


def _seek_before(cursor: Any, node: bytes, end: bytes | None) -> bool:
    """Place `cursor` on the node's last entry that may hold keys below `end`."""
    if end is None:
        if not node:
            return bool(cursor.last())
        after = (int.from_bytes(node, "big") + 1).to_bytes(NODE_BYTES + 1, "big")[1:]
        # A node of all ones has no successor of the same length: then the last entry is its own.
        seek = after if any(after) else b"\xff" * (NODE_BYTES + STEP)
    else:
        seek = node + end[:STEP]
    if not seek:
        return False
    if not cursor.set_range(seek):
        return bool(cursor.last())
    if end is not None and len(end) > STEP and cursor.key() == seek:
        return True
    return bool(cursor.prev())
