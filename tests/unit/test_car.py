"""Claims about gateway/ipfs/codecs/car.py."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain import varint
from chain.cids import DAG_PB, RAW, SHA2_256, Cid
from gateway.ipfs.codecs import car, directory, unixfs
from gateway.ipfs.errors import BlockError

BLOCKS = [b"hello world", b"", b"x" * 5000]
CIDS = [unixfs.leaf_cid(hashlib.sha256(block).digest()) for block in BLOCKS]
GOOD = car.header([CIDS[0]]) + b"".join(
    car.section_head(cid, len(block)) + block for cid, block in zip(CIDS, BLOCKS, strict=True)
)


def read(raw: bytes, step: int = 1 << 20) -> tuple[tuple[Cid, ...] | None, list[tuple[Cid, bytes]]]:
    reader = car.CarReader()
    got = []
    for at in range(0, len(raw), step):
        got += list(reader.feed(raw[at : at + step]))
    reader.finish()
    return reader.roots, got


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_car_comes_back_however_it_is_cut(step: int) -> None:
    assert read(GOOD, step) == ((CIDS[0],), list(zip(CIDS, BLOCKS, strict=True)))


def test_the_header_is_that_of_the_specification() -> None:
    body = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + CIDS[0].raw + b"\x67version\x01"
    assert car.header([CIDS[0]]) == bytes([len(body)]) + body


def test_a_cidv0_section_is_read() -> None:
    block = directory.build([]).blocks[0][1]
    v0 = Cid(
        b"\x12\x20"
        + Cid.parse("bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354").digest
    )
    assert v0.codec == DAG_PB
    raw = car.header([v0]) + car.section_head(v0, len(block)) + block
    assert read(raw) == ((v0,), [(v0, block)])


def wrapped(
    inner: bytes, *, padding: int = 0, index: bytes = b"", size: int | None = None
) -> bytes:
    """A CARv2 around a CARv1."""
    start = 11 + 40 + padding
    numbers = (start, len(inner) if size is None else size, start + len(inner) if index else 0)
    head = bytes(16) + b"".join(number.to_bytes(8, "little") for number in numbers)
    return b"\x0a\xa1\x67version\x02" + head + bytes(padding) + inner + index


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_the_inside_of_a_carv2_is_read_and_its_index_is_not(step: int) -> None:
    want = ((CIDS[0],), list(zip(CIDS, BLOCKS, strict=True)))
    for raw in (wrapped(GOOD), wrapped(GOOD, padding=13, index=b"\x81\x08index")):
        assert read(raw, step) == want


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("raw", [GOOD, wrapped(GOOD, padding=5)])
def test_it_is_told_where_in_the_stream_each_block_is(raw: bytes, step: int) -> None:
    reader = car.CarReader()
    for at in range(0, len(raw), step):
        for _, block in reader.feed(raw[at : at + step]):
            assert raw[reader.at : reader.at + len(block)] == block


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        GOOD[:-1],
        wrapped(GOOD)[:-1],
        wrapped(GOOD)[:40],
        wrapped(GOOD, size=len(GOOD) - 1),
        wrapped(GOOD, size=len(GOOD) + 1),
        wrapped(GOOD, size=0),
        wrapped(GOOD, size=1 << 63),
        wrapped(b"", size=9),
        wrapped(wrapped(GOOD)),
        b"\x0a\xa1\x67version\x03" + bytes(40) + GOOD,
        GOOD[:20],
        b"\x00",
        varint.encode(car.HEADER_BYTES_MAX + 1),
        b"\xff" * 9,
        b"\x01\xa0",
        car.header([CIDS[0]]) + varint.encode(car.SECTION_BYTES_MAX + 1),
        car.header([CIDS[0]]) + b"\x05\x01\x55\x12\x20x",
        car.header([CIDS[0]]) + car.section_head(CIDS[0], 3) + b"abc",
        car.header([CIDS[0]]) + car.section_head(Cid.of(RAW, 0x13, b"d" * 64), 1) + b"a",
        car.header([Cid.of(RAW, SHA2_256, b"d" * 32)] * (car.ROOTS_MAX + 1)),
    ],
)
def test_what_is_no_whole_car_is_refused(raw: bytes) -> None:
    with pytest.raises(BlockError):
        read(raw)


@given(st.binary(max_size=200), st.integers(0, len(GOOD) - 1), st.integers(1, 255))
@settings(max_examples=100)
def test_any_bytes_are_a_car_or_a_block_error(noise: bytes, at: int, flip: int) -> None:
    changed = bytearray(GOOD)
    changed[at] ^= flip
    for raw in (noise, car.header([CIDS[0]]) + noise, bytes(changed)):
        try:
            _, blocks = read(raw, step=61)
        except BlockError:
            continue
        assert all(cid.matches(block) for cid, block in blocks)


def test_memory_is_one_section_however_much_is_announced() -> None:
    reader = car.CarReader()
    list(reader.feed(car.header([CIDS[0]])))
    with pytest.raises(BlockError):
        list(reader.feed(varint.encode(1 << 40) + bytes(100)))
