"""The log's records, the batch messages and the index's trie, as bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalog import record
from gateway.catalog.disk import Disk
from gateway.catalog.index import Index, Position, Rows
from gateway.catalog.interface import (
    Add,
    Append,
    BadBatch,
    Batch,
    CatalogDamaged,
    Delete,
    Empty,
    Equals,
    Exists,
    Put,
    Space,
)
from gateway.catalog.log import Log
from gateway.catalog.protocol import decode_batch, encode_batch
from gateway.catalog.record import DELETE, PUT, Damaged, Resolved

CHANGES = [
    Resolved(PUT, int(Space.LIVE), b"key", b"value"),
    Resolved(DELETE, int(Space.HEADS), b"k" * 2048, b""),
    Resolved(PUT, int(Space.BODIES), b"stream", bytes(range(256))),
]


def test_a_record_gives_back_its_changes() -> None:
    raw, offsets = record.encode(7, 5, CHANGES)
    found = record.decode(b"before" + raw + b"after", 6)
    assert (found.sequence, found.group, found.length) == (7, 5, len(raw))
    assert [frame.offset for frame in found.frames] == offsets
    for frame, change in zip(found.frames, CHANGES, strict=True):
        value = raw[frame.value_offset : frame.value_offset + frame.value_length]
        assert Resolved(frame.operation, frame.space, frame.key, value) == change


def test_a_frame_read_alone_proves_which_row_it_is() -> None:
    raw, offsets = record.encode(1, 1, CHANGES)
    frame = raw[offsets[2] :]
    assert record.frame_value(frame, int(Space.BODIES), b"stream", 256) == bytes(range(256))
    for space, key, length in (
        (int(Space.LIVE), b"stream", 256),
        (int(Space.BODIES), b"strean", 256),
        (int(Space.BODIES), b"stream", 255),
    ):
        with pytest.raises(Damaged):
            record.frame_value(frame[: record.frame_bytes(key, length)], space, key, length)


@given(st.integers(0, 2600), st.integers(0, 7))
def test_any_flipped_bit_of_a_record_is_noticed(at: int, bit: int) -> None:
    raw, _ = record.encode(7, 5, CHANGES)
    broken = bytearray(raw)
    broken[at % len(raw)] ^= 1 << bit
    with pytest.raises(Damaged):
        record.decode(bytes(broken))


@given(st.binary(max_size=200), st.integers(0, 250))
def test_random_bytes_are_never_more_than_damaged(raw: bytes, start: int) -> None:
    for candidate in (raw, record.RECORD_MAGIC + raw):
        with pytest.raises(Damaged):
            record.decode(candidate, min(start, len(candidate)))
        assert record.find_record(candidate, 0) is None


@given(st.binary(max_size=400))
def test_a_log_file_of_any_bytes_opens_or_says_what_is_lost(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    directory = tmp_path_factory.mktemp("log")
    good, _ = record.encode(1, 1, CHANGES)
    path = directory / f"{1:016x}.log"
    path.write_bytes(record.pack_file_header(1) + good + raw)
    log = Log.open(directory, Disk())
    try:
        located = list(log.replay(Position(0, 1, record.FILE_HEADER_BYTES)))
        assert [one.record.sequence for one in located] == [1]
        assert path.stat().st_size == log.offset == record.FILE_HEADER_BYTES + len(good)
    except CatalogDamaged:
        # Only bytes that hold a valid record of a later group can make a loss certain.
        assert record.RECORD_MAGIC in raw
    finally:
        log.close()


KEYS = st.binary(min_size=1, max_size=12)
SPACES = st.sampled_from(list(Space))
I64 = st.integers(-(1 << 63), (1 << 63) - 1)
CONDITIONS = st.one_of(
    st.builds(Equals, SPACES, KEYS, st.none() | st.binary(max_size=9)),
    st.builds(Exists, SPACES, KEYS),
    st.builds(Empty, SPACES, st.binary(max_size=9)),
)
ANY_CHANGES = st.one_of(
    st.builds(Put, SPACES, KEYS, st.binary(max_size=50)),
    st.builds(Delete, SPACES, KEYS),
    st.builds(Add, KEYS, I64, st.none() | I64, st.none() | I64),
    st.builds(Append, SPACES, st.binary(max_size=9), st.binary(max_size=9)),
)


@given(st.lists(CONDITIONS, max_size=4), st.lists(ANY_CHANGES, max_size=4))
def test_a_batch_travels_unchanged(conditions: list, changes: list) -> None:
    batch = Batch(conditions, changes)
    assert decode_batch(encode_batch(batch)) == batch
    assert decode_batch(memoryview(encode_batch(batch))) == batch


@given(st.binary(max_size=100))
def test_other_bytes_are_no_batch(raw: bytes) -> None:
    try:
        decode_batch(raw)
    except BadBatch:
        return
    assert encode_batch(decode_batch(raw))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"a", b"\xff", b"\x00"]),
            st.sampled_from([1, 479, 480, 481, 960, 961, 1441]),
            st.binary(max_size=2),
        ),
        max_size=12,
    )
)
def test_removing_every_key_leaves_no_node_behind(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[bytes, int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("index")
    index = Index.create(path, b"id", Position(0, 1, 32), map_bytes=1 << 24)
    keys = {fill * length + tail for fill, length, tail in parts}
    with index.environment.begin(write=True) as transaction:
        rows = Rows(index, transaction)
        for key in keys:
            rows.put(Space.LIVE, key, key)
        for key in keys:
            assert rows.get(Space.LIVE, key) == key
            rows.delete(Space.LIVE, key)
            assert rows.get(Space.LIVE, key) is None
        assert transaction.stat(index.deep)["entries"] == 0
        assert transaction.stat(index.spaces[Space.LIVE])["entries"] == 0
    index.close()
