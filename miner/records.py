"""The rows that a storage pool keeps, and the store that hosts them.

The pool's rows (placement map, repair queue, release queue) must change in the same commit as the
object they belong to, so the pool does not own a database: whoever owns the objects hosts its
rows (a gateway's catalog; a plain dictionary in simulations). See docs/specs/catalog.md.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

# placement: SegmentId -> where its fragments lie (versioned, compare-and-set)
# repairs:   margin ‖ SegmentId -> indices that are missing
# releases:  SegmentId -> fragments whose miners must still be told to delete
# released:  miner -> bytes that it deleted and the ledger was not told of yet
PoolSpace = Literal["placement", "repairs", "releases", "released"]


class Row(NamedTuple):
    """One change: a value to put, or None to delete."""

    space: PoolSpace
    key: bytes
    value: bytes | None


class RecordsUnavailable(Exception):
    """The rows cannot be read or changed now; a change may or may not have been made."""


class PoolRecords(Protocol):
    """An ordered, durable key-value store for the pool's rows.

    Every method may raise RecordsUnavailable.
    """

    def get(self, space: PoolSpace, key: bytes) -> bytes | None:
        """The committed value, or None."""
        ...

    def scan(self, space: PoolSpace, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows with key >= `start`, in byte order."""
        ...

    async def apply(self, expected: Sequence[Row], changes: Sequence[Row]) -> bool:
        """Make `changes` durable together if each `expected` row still holds; else return False."""
        ...
