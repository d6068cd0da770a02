import contextlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.ids import AccountId, FragmentId, SegmentId
from miner.fragment import SEGMENT_MAX
from miner.placement import (
    Holder,
    InvalidPlacement,
    MinerInfo,
    Placement,
    choose,
    encode_release,
    parse_release,
    parse_repair,
    placement_rows,
    released_rows,
)
from miner.segments import PROFILES, Segment

ids = st.binary(min_size=32, max_size=32)


def miner(number: int, free: int = 100, domain: str | None = None) -> MinerInfo:
    name = AccountId(bytes([number]) * 32)
    return MinerInfo(name, f"memory://{number}", domain or str(number), free)


def seed(number: int) -> bytes:
    return number.to_bytes(16, "big")


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    profile = PROFILES[draw(st.sampled_from(sorted(PROFILES)))]
    fragments = tuple(FragmentId(draw(ids)) for _ in range(profile.n))
    holder = st.builds(Holder, ids.map(AccountId), st.booleans()) | st.just(Holder(None))
    holders = tuple(draw(holder) for _ in range(profile.n))
    segment = Segment(profile, draw(st.integers(1, 1 << 25)), fragments)
    return Placement(segment, holders, draw(st.integers(0, 2**32 - 1)))


@settings(max_examples=60)
@given(placements())
def test_a_placement_is_read_back(placement: Placement) -> None:
    assert Placement.parse(placement.encode()) == placement


@settings(max_examples=100)
@given(placements(), st.data())
def test_damaged_placements_are_typed_errors(placement: Placement, data: st.DataObject) -> None:
    raw = bytearray(placement.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    for changed in (bytes(raw), bytes(raw[:-1]), bytes(raw) + b"\0", data.draw(st.binary())):
        with contextlib.suppress(InvalidPlacement):
            assert Placement.parse(changed).encode() == changed


@settings(max_examples=100)
@given(st.binary(max_size=150), st.binary(max_size=40))
def test_random_repair_and_release_rows_are_typed_errors(value: bytes, key: bytes) -> None:
    with contextlib.suppress(InvalidPlacement):
        assert encode_release(*parse_release(value)) == value
    with contextlib.suppress(InvalidPlacement):
        margin, segment, indices = parse_repair(key, value)
        assert bytes([margin]) + segment == key
        assert bytes(indices) == value


@settings(max_examples=100)
@given(
    st.integers(1, SEGMENT_MAX),
    st.dictionaries(st.integers(0, 254), ids.map(AccountId), min_size=1, max_size=8),
    st.data(),
)
def test_release_rows_are_read_back_and_damaged_ones_are_typed_errors(
    size: int, held: dict[int, AccountId], data: st.DataObject
) -> None:
    raw = encode_release(size, list(held.items()))
    assert parse_release(raw) == (size, list(held.items()))
    changed = bytearray(raw)
    changed[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(changed), raw[:-1], raw + b"\0"):
        with contextlib.suppress(InvalidPlacement):
            assert encode_release(*parse_release(damaged)) == damaged


def test_no_two_fragments_share_a_failure_domain() -> None:
    miners = [miner(i, domain=str(i // 3)) for i in range(12)]
    for number in range(50):
        choice = choose(miners, 6, 10, seed(number))
        assert len(choice.chosen) == 4
        assert len({each.domain for each in choice.chosen}) == 4
        assert len(choice.spares) == 8


def test_full_and_lost_miners_are_not_chosen() -> None:
    lost = MinerInfo(AccountId(b"l" * 32), "memory://l", "l", 1000, lost=True)
    choice = choose([miner(1, free=9), lost, miner(2, free=10)], 3, 10, seed(1))
    assert [each.address for each in (*choice.chosen, *choice.spares)] == ["memory://2"]


def test_load_follows_free_space() -> None:
    miners = [miner(i, free=100 if i < 10 else 300) for i in range(20)]
    load = Counter(choose(miners, 1, 1, seed(n)).chosen[0].id[0] for n in range(4000))
    small = sum(load[i] for i in range(10)) / 10
    large = sum(load[i] for i in range(10, 20)) / 10
    assert 2.5 < large / small < 3.5


def test_the_same_seed_chooses_the_same_miners_in_any_order() -> None:
    miners = [miner(i) for i in range(20)]
    assert choose(miners, 6, 1, seed(9)) == choose(miners[::-1], 6, 1, seed(9))


def test_the_repair_row_moves_with_the_margin() -> None:
    fragments = tuple(FragmentId(bytes([i]) * 32) for i in range(6))
    holders = tuple(Holder(miner(i).id) for i in range(6))
    whole = Placement(Segment(PROFILES["small"], 100, fragments), holders)
    segment = whole.segment.id
    one = whole.moved({5: Holder(None)})
    two = one.moved({0: Holder(None)})
    assert [row.space for row in placement_rows(whole)] == ["placement"]
    assert placement_rows(one, whole)[1:] == [("repairs", b"\x01" + segment, b"\x05")]
    assert placement_rows(two, one)[1:] == [
        ("repairs", b"\x01" + segment, None),
        ("repairs", b"\x00" + segment, b"\x00\x05"),
    ]
    assert (one.margin, two.margin) == (1, 0)
    repaired = two.moved({0: Holder(miner(7).id), 5: Holder(miner(8).id)})
    assert placement_rows(repaired, two)[1:] == [("repairs", b"\x00" + segment, None)]


def test_releasing_names_every_holder_once() -> None:
    fragments = tuple(FragmentId(bytes([i]) * 32) for i in range(6))
    holders = (*(Holder(miner(i).id) for i in range(5)), Holder(None))
    placement = Placement(Segment(PROFILES["small"], 100, fragments), holders)
    placed, repair, release = released_rows(placement)
    assert placed == ("placement", placement.segment.id, None)
    assert repair == ("repairs", b"\x01" + placement.segment.id, None)
    assert release.value is not None
    assert parse_release(release.value) == (25, [(i, miner(i).id) for i in range(5)])
    with pytest.raises(InvalidPlacement):
        parse_repair(b"\x01" + SegmentId(bytes(32)), b"\x02\x01")
