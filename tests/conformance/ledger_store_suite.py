"""What every LedgerStore keeps to."""

import pytest

from chain.ledger.store import LedgerStore


class LedgerStoreSuite:
    """Inherit and give a fixture `store`."""

    @pytest.fixture
    def store(self) -> LedgerStore:
        raise AssertionError("the heir gives a store")

    def test_commit_changes_all_spaces_together(self, store: LedgerStore) -> None:
        store.commit({("state", b"a"): b"1", ("meta", b"height"): b"2", ("nodes", b"/"): b""})
        with store.read() as view:
            assert view.get("state", b"a") == b"1"
            assert view.get("meta", b"height") == b"2"
            assert view.get("nodes", b"/") == b""
            assert view.get("state", b"height") is None

    def test_view_does_not_see_later_commits(self, store: LedgerStore) -> None:
        store.commit({("state", b"a"): b"1"})
        with store.read() as view:
            store.commit({("state", b"a"): b"2", ("state", b"b"): b"3"})
            assert view.get("state", b"a") == b"1"
            assert list(view.scan("state", b"", None)) == [(b"a", b"1")]
        with store.read() as view:
            assert view.get("state", b"a") == b"2"

    def test_scan_is_in_byte_order_and_half_open(self, store: LedgerStore) -> None:
        keys = [b"a", b"a\x00", b"b", b"b\xff", b"c"]
        store.commit({("state", key): key for key in reversed(keys)})
        with store.read() as view:
            assert [key for key, _ in view.scan("state", b"a\x00", b"c")] == keys[1:4]
            assert [key for key, _ in view.scan("state", b"", None)] == keys
            assert list(view.scan("state", b"d", None)) == []

    def test_delete_of_absent_key_is_harmless(self, store: LedgerStore) -> None:
        store.commit({("state", b"a"): b"1"})
        store.commit({("state", b"a"): None, ("state", b"z"): None})
        with store.read() as view:
            assert list(view.scan("state", b"", None)) == []
