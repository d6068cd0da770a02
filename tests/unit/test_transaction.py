"""Building a batch from a snapshot and committing it, again when it was overtaken."""

import pytest

from gateway.catalog.interface import (
    Add,
    Batch,
    CatalogUnavailable,
    CommitUncertain,
    Exists,
    Put,
    Space,
)
from gateway.catalog.memory import MemoryCatalog
from gateway.errors import QuotaExceeded, ServiceUnavailable, SlowDown
from gateway.store import Lease
from gateway.transaction import ATTEMPTS, Transaction, commit
from tests.unit.object_parts import MemoryPool

KEY = b"key"


async def test_what_was_overtaken_is_built_anew_on_a_fresh_snapshot() -> None:
    catalog = MemoryCatalog()
    seen: list[bytes | None] = []

    def build(transaction: Transaction) -> str:
        value = transaction.reader.get(Space.META, KEY)
        # The first attempt believes in a state that is not there.
        transaction.expect(Space.META, KEY, value if seen else b"stale")
        transaction.put(Space.META, KEY, b"new")
        seen.append(value)
        return "done"

    assert await commit(catalog, MemoryPool(), build) == "done"
    assert seen == [None, None]
    with catalog.read() as reader:
        assert reader.get(Space.META, KEY) == b"new"
    assert catalog.sequence == 1


async def test_a_commit_that_always_loses_is_told_to_slow_down() -> None:
    calls = []

    def build(transaction: Transaction) -> None:
        calls.append(1)
        transaction.require(Exists(Space.META, KEY))
        transaction.put(Space.META, b"other", b"")

    with pytest.raises(SlowDown):
        await commit(MemoryCatalog(), MemoryPool(), build)
    assert len(calls) == ATTEMPTS


async def test_a_charge_above_the_ceiling_is_refused_at_once_and_changes_nothing() -> None:
    catalog, calls = MemoryCatalog(), []

    def build(transaction: Transaction) -> None:
        calls.append(1)
        transaction.put(Space.META, KEY, b"new")
        transaction.charge(Lease(b"lease", 10), 11)

    with pytest.raises(QuotaExceeded):
        await commit(catalog, MemoryPool(), build)
    assert (len(calls), catalog.sequence) == (1, 0)
    # Going down needs no room: a lease that shrank below its use still lets its owner delete.
    await catalog.commit(Batch(changes=[Add(b"used/lease", 20)]))
    await commit(catalog, MemoryPool(), lambda t: t.refund(b"lease", 5))
    with catalog.read() as reader:
        assert reader.counter(b"used/lease") == 15


@pytest.mark.parametrize("error", [CatalogUnavailable("gone"), CommitUncertain("lost")])
async def test_a_writer_that_is_gone_is_a_503_and_not_tried_again(error: Exception) -> None:
    calls = []

    class Gone(MemoryCatalog):
        async def commit(self, batch: Batch) -> int:
            calls.append(batch)
            raise error

    with pytest.raises(ServiceUnavailable):
        await commit(Gone(), MemoryPool(), lambda t: t.put(Space.META, KEY, b""))
    assert len(calls) == 1


async def test_what_changes_nothing_commits_nothing() -> None:
    catalog = MemoryCatalog()
    assert await commit(catalog, MemoryPool(), lambda t: t.reader.get(Space.META, KEY)) is None
    assert catalog.sequence == 0
    await catalog.commit(Batch(changes=[Put(Space.META, KEY, b"1")]))
    assert await commit(catalog, MemoryPool(), lambda t: t.reader.get(Space.META, KEY)) == b"1"
