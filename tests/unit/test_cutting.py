"""How long a stream's segments are."""

from gateway.seal import CHUNK
from gateway.segments import LONG_SHARE, SEGMENT_CHUNKS_MIN, Cutting, Frame
from miner.segments import PROFILES

MIB = 1 << 20
SMALL, STANDARD, MIRROR = PROFILES["small"], PROFILES["standard"], PROFILES["mirror"]


def test_fragments_have_4_mib_while_memory_lasts() -> None:
    cutting = Cutting(1024 * MIB)
    assert cutting.begin(SMALL, None)[0] == 16
    assert cutting.begin(STANDARD, 64 * MIB)[0] == 32
    assert cutting.begin(MIRROR, None)[0] == SEGMENT_CHUNKS_MIN


def test_long_segments_never_take_the_share_of_those_that_come_later() -> None:
    budget = 192 * MIB
    cutting = Cutting(budget)
    lengths = [cutting.begin(SMALL, None)[0] for _ in range(40)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1] == SEGMENT_CHUNKS_MIN
    long = sum(Frame.size(n * CHUNK, SMALL) for n in lengths if n > SEGMENT_CHUNKS_MIN)
    assert long <= budget * LONG_SHARE


def test_a_stream_that_ends_makes_room_for_the_next() -> None:
    cutting = Cutting(40 * MIB)
    first, held = cutting.begin(SMALL, None)
    assert cutting.begin(SMALL, None)[0] < first
    cutting.end(held)
    cutting.end(Frame.size(8 * CHUNK, SMALL))
    assert cutting.begin(SMALL, None)[0] == first


def test_a_short_stream_counts_what_it_needs() -> None:
    cutting = Cutting(40 * MIB)
    for _ in range(100):
        _, held = cutting.begin(SMALL, 64 << 10)
        cutting.end(held - 1)
    assert cutting.begin(SMALL, None)[0] == 16
