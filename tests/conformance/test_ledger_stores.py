"""Both stores pass the one suite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.ledger.lmdb_store import LmdbStore
from chain.ledger.store import LedgerStore, MemoryStore
from tests.conformance.ledger_store_suite import LedgerStoreSuite


class TestMemoryLedgerStore(LedgerStoreSuite):
    @pytest.fixture
    def store(self) -> LedgerStore:
        return MemoryStore()


class TestLmdbLedgerStore(LedgerStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[LedgerStore]:
        store = LmdbStore(tmp_path)
        yield store
        store.close()
