"""The storage pool's rows in the catalog (see miner/records.py)."""

from collections.abc import Sequence

from gateway.catalog.interface import (
    Batch,
    Catalog,
    Condition,
    Conflict,
    Delete,
    Equals,
    Put,
    Space,
)
from miner.records import PoolSpace, Row

SPACES: dict[PoolSpace, Space] = {
    "placement": Space.PLACEMENT,
    "repairs": Space.REPAIRS,
    "releases": Space.RELEASES,
    "released": Space.RELEASED,
}


def row_condition(row: Row) -> Condition:
    """That a row of the pool still holds; for an object's commit that carries the pool's rows."""
    return Equals(SPACES[row.space], row.key, row.value)


def row_change(row: Row) -> Put | Delete:
    """A change of the pool's rows; for an object's commit that carries it."""
    if row.value is None:
        return Delete(SPACES[row.space], row.key)
    return Put(SPACES[row.space], row.key, row.value)


class CatalogPoolRecords:
    """PoolRecords over four keyspaces of a catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def get(self, space: PoolSpace, key: bytes) -> bytes | None:
        """See PoolRecords. Raises CatalogUnavailable."""
        with self._catalog.read() as reader:
            return reader.get(SPACES[space], key)

    def scan(self, space: PoolSpace, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See PoolRecords. Raises CatalogUnavailable."""
        with self._catalog.read() as reader:
            return reader.scan(SPACES[space], start, None, limit)

    async def apply(self, expected: Sequence[Row], changes: Sequence[Row]) -> bool:
        """See PoolRecords. Raises CatalogUnavailable (CommitUncertain: it may have been made)."""
        batch = Batch(
            [row_condition(row) for row in expected], [row_change(row) for row in changes]
        )
        try:
            await self._catalog.commit(batch)
        except Conflict:
            return False
        return True
