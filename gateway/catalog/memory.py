"""A catalog in memory, for tests and simulations: same rules, no thread, no disk."""

from bisect import bisect_left, insort
from contextlib import AbstractContextManager
from typing import Self

from gateway.catalog import record
from gateway.catalog.interface import Batch, CatalogUnavailable, Reader, Space
from gateway.catalog.judge import check, judge, unpack_counter


class _Keyspace:
    """Rows with their keys in order."""

    __slots__ = ("keys", "rows")

    def __init__(self, keys: list[bytes], rows: dict[bytes, bytes]) -> None:
        self.keys, self.rows = keys, rows

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.rows:
            insort(self.keys, key)
        self.rows[key] = value

    def delete(self, key: bytes) -> None:
        if self.rows.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]


_State = list[_Keyspace]


class _View:
    """A Reader of one state; while it is open, commits change a copy."""

    def __init__(self, catalog: "MemoryCatalog", state: _State) -> None:
        self._catalog, self._state = catalog, state

    def __enter__(self) -> Self:
        self._catalog.readers += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._catalog.readers -= 1

    def get(self, space: Space, key: bytes) -> bytes | None:
        """See Reader."""
        return self._state[space].rows.get(key)

    def has(self, space: Space, key: bytes) -> bool:
        """Whether there is such a row."""
        return key in self._state[space].rows

    def counter(self, key: bytes) -> int:
        """See Reader."""
        return unpack_counter(self.get(Space.COUNTERS, key))

    def scan(
        self, space: Space, start: bytes, end: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See Reader."""
        keyspace = self._state[space]
        low = bisect_left(keyspace.keys, start)
        high = len(keyspace.keys) if end is None else bisect_left(keyspace.keys, end)
        limit = max(0, limit)
        if reverse:
            chosen = keyspace.keys[max(low, high - limit) : high][::-1]
        else:
            chosen = keyspace.keys[low : min(high, low + limit)]
        return [(key, keyspace.rows[key]) for key in chosen]

    def holds_prefix(self, space: Space, prefix: bytes) -> bool:
        """Whether a row's key starts with `prefix`."""
        return any(key.startswith(prefix) for key, _ in self.scan(space, prefix, None, 1))


class MemoryCatalog:
    """Catalog in memory. `available = False` makes commits fail as those of a stopped writer."""

    def __init__(self) -> None:
        self.available = True
        self.readers = 0
        self.sequence = 0
        self._state: _State = [_Keyspace([], {}) for _ in Space]

    def read(self) -> AbstractContextManager[Reader]:
        """See Catalog."""
        return _View(self, self._state)

    async def commit(self, batch: Batch) -> int:
        """See Catalog."""
        check(batch)
        if not self.available:
            raise CatalogUnavailable("the catalog's writer has stopped")
        resolved = judge(batch, _View(self, self._state), self.sequence + 1)
        if self.readers:
            self._state = [_Keyspace(list(old.keys), dict(old.rows)) for old in self._state]
        for operation, space, key, value in resolved:
            if operation == record.PUT:
                self._state[space].put(key, value)
            else:
                self._state[space].delete(key)
        self.sequence += 1
        return self.sequence

    async def close(self) -> None:
        """See Catalog."""
        self.available = False
