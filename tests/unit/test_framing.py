"""Messages in a byte stream come out as they went in, however it is cut."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.net import framing, wire
from chain.net.shared import Reference, Room


def pour(reader: framing.Reader, data: bytes, cuts: random.Random) -> list[list[bytes]]:
    """What a reader makes of `data`, which comes in pieces of any size."""
    found = []
    at = 0
    while at < len(data):
        room = reader.room()
        count = min(len(room), len(data) - at, cuts.choice((1, 3, 100, 5_000, 1 << 20)))
        room[:count] = data[at : at + count]
        at += count
        found += [[bytes(frame) for frame in frames] for frames in reader.filled(count)]
    return found


def test_places_in_shared_memory_travel_as_places() -> None:
    sent: list[framing.Frame] = [b"head", Reference(1 << 40, 4 << 20), b"x" * 70_000]
    sent += [Reference(8, 100_000), Room(1 << 39, 5 << 20)]
    prefix, parts = framing.pack(sent)
    data = prefix + b"".join(parts)
    assert len(data) < 71_000
    for seed in range(20):
        reader, found = framing.Reader(), list[list[framing.Frame]]()
        cuts, at = random.Random(seed), 0
        while at < len(data):
            room = reader.room()
            count = min(len(room), len(data) - at, cuts.choice((1, 3, 100, 5_000, 1 << 20)))
            room[:count] = data[at : at + count]
            at += count
            found += reader.filled(count)
        assert found == [sent], seed


@pytest.mark.parametrize(
    "lengths",
    [
        [1 << 31 | 8],
        [4, 1 << 30 | 8, 5],
        [4, 3 << 30 | 8],
        [4, 1 << 30 | 8, 1 << 30 | 8],
        [4, 1 << 31 | wire.FRAME_MAX + 1],
        [4, *[1 << 31 | wire.PAYLOAD_MAX] * 6],
        [4, 1 << 29],
    ],
    ids=["a head", "room first", "both", "two rooms", "too long", "too long in all", "unknown"],
)
def test_places_where_none_belong_are_refused(lengths: list[int]) -> None:
    data = struct.pack(f">B{len(lengths)}I", len(lengths), *lengths) + bytes(64)
    with pytest.raises(wire.MalformedFrame):
        pour(framing.Reader(), data, random.Random(1))


def packed(messages: list[list[bytes]]) -> bytes:
    return b"".join(framing.prefix(frames) + b"".join(frames) for frames in messages)


@given(
    messages=st.lists(
        st.lists(
            st.sampled_from((0, 1, 2, 300, 5_000, 20_000, 40_000, 65_536, 200_000)),
            min_size=1,
            max_size=6,
        ),
        max_size=6,
    ),
    seed=st.integers(0, 2**32),
)
def test_messages_come_out_as_they_went_in(messages: list[list[int]], seed: int) -> None:
    chance = random.Random(seed)
    sent = [[chance.randbytes(size) for size in sizes] for sizes in messages]
    assert pour(framing.Reader(), packed(sent), chance) == sent


def test_a_message_has_as_many_frames_as_the_wire_allows() -> None:
    sent = [[bytes([n]) for n in range(framing.FRAMES_MAX - 1)]]
    assert pour(framing.Reader(), packed(sent), random.Random(1)) == sent


@given(data=st.binary(min_size=1, max_size=200))
def test_random_bytes_are_messages_or_malformed(data: bytes) -> None:
    try:
        pour(framing.Reader(), data, random.Random(1))
    except wire.MalformedFrame:
        assert not 1 <= data[0] <= framing.FRAMES_MAX or len(data) >= 5


def test_a_long_frame_is_not_read_through_the_scratch() -> None:
    reader = framing.Reader()
    head = framing.prefix([b"h", bytes(1 << 20)]) + b"h"
    reader.room()[: len(head)] = head
    assert reader.filled(len(head)) == []
    assert len(reader.room()) == 1 << 20


@pytest.mark.parametrize("data", [b"\x00", b"\x43", b"\x01\xff\xff\xff\xff"])
def test_what_no_message_begins_with_is_refused(data: bytes) -> None:
    reader = framing.Reader()
    reader.room()[: len(data)] = data
    with pytest.raises(wire.MalformedFrame):
        reader.filled(len(data))
