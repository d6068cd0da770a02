"""What one repair commits to the catalog: the placement, the count, the word to the ledger."""

from collections.abc import Sequence

from chain.clock import Clock
from gateway.catalog.interface import Add, Append, Batch, Catalog, Change, Conflict, Space
from gateway.catalog.pool_records import row_change, row_condition
from gateway.records import OutboxRow, encode
from gateway.status import REBUILT
from gateway.writing import packed_receipts
from miner.records import Row
from miner.writing import FragmentReceipt


class CatalogRepairs:
    """The Commit of miner/rebuilding.py: one step, so that a crash leaves all of it or nothing."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock

    async def commit(
        self,
        expected: Sequence[Row],
        changes: Sequence[Row],
        rebuilt: int,
        receipts: Sequence[FragmentReceipt],
    ) -> bool:
        """False when an expected row does not hold. Raises CatalogUnavailable."""
        made: list[Change] = [row_change(row) for row in changes]
        if rebuilt:
            made.append(Add(REBUILT, rebuilt))
        if receipts:
            packed = packed_receipts(receipts)
            told = OutboxRow("store", b"", b"", b"", b"", 0, self._clock.now_ns(), packed)
            made.append(Append(Space.OUTBOX, b"", encode(told)))
        try:
            await self._catalog.commit(Batch([row_condition(row) for row in expected], made))
        except Conflict:
            return False
        return True
