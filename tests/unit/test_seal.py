"""Sealing: what was sealed opens, and nothing else does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.seal import (
    CHUNK,
    TAG,
    Opener,
    SealBroken,
    Sealer,
    SegmentSealer,
    check_commitment,
    chunk_count,
    commitment,
    cut,
    nonce,
    open_small,
    plain_size,
    seal_small,
    sealed_size,
)

KEY = bytes(range(32))
SIZES = st.sampled_from(
    [0, 1, 15, 16, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 77, 3 * CHUNK]
)


def seal_segments(plain: bytes, chunks: int, key: bytes = KEY) -> list[bytes]:
    sealer, segments, at = Sealer(key), [], 0
    for size in cut(len(plain), chunks):
        out = memoryview(bytearray(sealed_size(size) + TAG))
        segment = SegmentSealer(sealer, out)
        for start in range(at, at + max(size, 1), CHUNK):
            piece = plain[start : min(start + CHUNK, at + size)]
            segment.add(piece, last=start + len(piece) == len(plain))
        at += size
        segments.append(bytes(out[: segment.finish()]))
    return segments


def open_run(opener: Opener, first: int, cipher: bytes, tags: bytes, out: memoryview) -> None:
    for number, at in enumerate(range(0, max(1, len(cipher)), CHUNK)):
        piece, tag = cipher[at : at + CHUNK], tags[number * TAG :][:TAG]
        opener.open(first + number, piece, tag, out[at : at + len(piece)])


def open_segments(
    segments: list[bytes], size: int, chunks: int, key: bytes = KEY, committed: bytes | None = None
) -> bytes:
    opener = Opener(key, committed or commitment(key), size)
    plain, first = bytearray(), 0
    for segment in segments:
        length = plain_size(len(segment))
        out = memoryview(bytearray(length))
        open_run(opener, first, segment[:length], segment[length:], out)
        plain += out
        first += chunks
    return bytes(plain)


def make(size: int) -> bytes:
    return bytes(i * 31 % 251 for i in range(min(size, 4096))) + bytes(max(0, size - 4096))


@given(SIZES, st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_round_trip(size: int, chunks: int) -> None:
    plain = make(size)
    segments = seal_segments(plain, chunks)
    assert sum(len(s) for s in segments) == sealed_size(size)
    assert open_segments(segments, size, chunks) == plain


@given(st.data(), st.integers(0, 2 * CHUNK + 99), st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_any_flipped_bit_is_refused(data: st.DataObject, size: int, bit: int) -> None:
    segments = seal_segments(make(size), 3)
    at = data.draw(st.integers(0, len(segments[0]) - 1))
    broken = bytearray(segments[0])
    broken[at] ^= 1 << bit
    with pytest.raises(SealBroken):
        open_segments([bytes(broken)], size, 3)


@given(st.permutations([0, 1, 2]))
@settings(max_examples=6, deadline=None)
def test_reordered_segments_are_refused(order: list[int]) -> None:
    segments = seal_segments(make(3 * CHUNK), 1)
    moved = [segments[i] for i in order]
    if order == [0, 1, 2]:
        assert open_segments(moved, 3 * CHUNK, 1) == make(3 * CHUNK)
        return
    with pytest.raises(SealBroken):
        open_segments(moved, 3 * CHUNK, 1)


@given(st.integers(1, 3 * CHUNK - 1))
@settings(max_examples=20, deadline=None)
def test_a_shortened_stream_is_refused(shorter: int) -> None:
    """Whoever cuts the stream and lies about its size lacks the mark of the last chunk."""
    segment = seal_segments(make(3 * CHUNK), 3)[0]
    count = chunk_count(shorter)
    tags = segment[3 * CHUNK :][: count * TAG]
    opener = Opener(KEY, commitment(KEY), shorter)
    with pytest.raises(SealBroken):
        open_run(opener, 0, segment[:shorter], tags, memoryview(bytearray(shorter)))


def test_an_extended_stream_is_refused() -> None:
    one, two = seal_segments(make(CHUNK), 1), seal_segments(make(2 * CHUNK), 1)
    with pytest.raises(SealBroken):
        open_segments([one[0], two[1]], 2 * CHUNK, 1)


def test_a_missing_tag_is_refused() -> None:
    segment = seal_segments(make(2 * CHUNK), 2)[0]
    opener = Opener(KEY, commitment(KEY), 2 * CHUNK)
    with pytest.raises(SealBroken):
        open_run(
            opener,
            0,
            segment[: 2 * CHUNK],
            segment[2 * CHUNK : -TAG],
            memoryview(bytearray(2 * CHUNK)),
        )


def test_another_key_fails_the_commitment_before_anything_is_opened() -> None:
    with pytest.raises(SealBroken):
        Opener(bytes(32), commitment(KEY), 1)
    check_commitment(KEY, commitment(KEY))


@given(st.binary(max_size=2000))
@settings(max_examples=50)
def test_small_streams_round_trip(plain: bytes) -> None:
    assert open_small(KEY, commitment(KEY), seal_small(KEY, plain)) == plain


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_arbitrary_bytes_are_no_small_stream(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        open_small(KEY, commitment(KEY), sealed)


def test_small_and_chunked_form_of_one_chunk_are_the_same_bytes() -> None:
    assert seal_segments(b"hello", 1) == [seal_small(KEY, b"hello")]


@given(st.integers(0, 1 << 40))
def test_plain_size_inverts_sealed_size(size: int) -> None:
    assert plain_size(sealed_size(size)) == size


@pytest.mark.parametrize("sealed", [0, 15, CHUNK + TAG + 1, CHUNK + 2 * TAG - 1])
def test_sizes_that_nothing_seals_to_are_refused(sealed: int) -> None:
    with pytest.raises(SealBroken):
        plain_size(sealed)


def test_nonces_never_meet() -> None:
    nonces = {nonce(i, last=last) for i in range(300) for last in (False, True)}
    assert len(nonces) == 600
    assert {len(n) for n in nonces} == {12}
