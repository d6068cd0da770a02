"""Listing: the right keys in the right order, at a cost that follows what is returned."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalog.interface import Space
from gateway.listing import after_prefix, list_page
from gateway.model import Account, Bucket
from gateway.records import ListedRow, encode

BUCKET = Bucket("b", b"\xff" * 16, Account("a", "A"), 0)
OTHER = b"\xfe" * 16


class CountingReader:
    """A Reader over a sorted list; counts rows handed out."""

    def __init__(self, keys: list[bytes]) -> None:
        row = encode(ListedRow("null", 1, 5, "etag", 9, "small", None, b"u" * 16, None))
        self.table = sorted((BUCKET.id + key, row) for key in keys)
        self.table.insert(0, (OTHER + b"zz", b"not ours"))
        self.handed = 0

    def get(self, _space: Space, _key: bytes) -> bytes | None:
        raise AssertionError

    def counter(self, _key: bytes) -> int:
        raise AssertionError

    def scan(
        self, space: Space, start: bytes, end: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        assert not reverse
        assert space is Space.LIVE
        found = [r for r in self.table if start <= r[0] and (end is None or r[0] < end)][:limit]
        self.handed += len(found)
        return found


def model(
    keys: list[bytes], prefix: bytes, delimiter: bytes, start: bytes
) -> list[tuple[bytes, bool]]:
    """The definition: keys and common prefixes in one order."""
    seen: list[tuple[bytes, bool]] = []
    for key in sorted(set(keys)):
        if not key.startswith(prefix) or key < start:
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = (key, False) if cut < 0 else (key[: cut + len(delimiter)], True)
        if entry not in seen:
            seen.append(entry)
    return seen


KEYS = st.lists(st.text("ab/é\U0010ffff", min_size=1, max_size=6).map(str.encode), max_size=25)
TEXTS = st.text("ab/é", max_size=3).map(str.encode)


@given(KEYS, TEXTS, st.sampled_from([b"", b"/", b"b", b"a/"]), st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_pages_give_each_entry_once_in_order(
    keys: list[bytes], prefix: bytes, delimiter: bytes, limit: int
) -> None:
    reader = CountingReader(list(set(keys)))
    found: list[tuple[bytes, bool]] = []
    start: bytes | None = b""
    while start is not None:
        page = list_page(reader, BUCKET, prefix, delimiter, start, limit)
        entries = [(v.key.encode(), False) for v in page.objects]
        entries += [(p.encode(), True) for p in page.common_prefixes]
        assert len(entries) <= limit
        if page.next_start is not None:
            assert len(entries) == limit
        found += sorted(entries)
        start = page.next_start
    assert found == model(keys, prefix, delimiter, b"")


@given(KEYS, TEXTS, TEXTS)
@settings(max_examples=60, deadline=None)
def test_a_start_is_inclusive(keys: list[bytes], prefix: bytes, start: bytes) -> None:
    page = list_page(CountingReader(list(set(keys))), BUCKET, prefix, b"", start, 1000)
    assert [(v.key.encode(), False) for v in page.objects] == model(keys, prefix, b"", start)


def test_a_common_prefix_of_many_keys_costs_one_seek() -> None:
    keys = [b"photos/%06d" % i for i in range(5000)] + [b"zebra"]
    reader = CountingReader(keys)
    page = list_page(reader, BUCKET, b"", b"/", b"", 1000)
    assert page.common_prefixes == ["photos/"]
    assert [v.key for v in page.objects] == ["zebra"]
    assert reader.handed < 40


def test_a_page_reads_one_row_more_than_it_shows() -> None:
    reader = CountingReader([b"%06d" % i for i in range(5000)])
    page = list_page(reader, BUCKET, b"", b"", b"", 1000)
    assert len(page.objects) == 1000
    assert page.next_start == b"001000"
    assert reader.handed == 1001


def test_no_limit_is_no_page() -> None:
    page = list_page(CountingReader([b"a"]), BUCKET, b"", b"", b"", 0)
    assert (page.objects, page.common_prefixes, page.next_start) == ([], [], None)


def test_the_first_key_behind_a_prefix() -> None:
    assert after_prefix(b"a") == b"b"
    assert after_prefix(b"a\xff") == b"b"
    assert after_prefix(b"\xff") is None
    assert after_prefix(b"") is None
