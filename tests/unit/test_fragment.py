import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.ids import FragmentId
from miner.fragment import (
    SEGMENT_MAX,
    FragmentRecord,
    InvalidFragment,
    fragment_cid,
    fragment_id,
    fragment_key,
    split_key,
)
from miner.segments import PROFILES, Profile, Segment, segment_id

profiles = st.sampled_from(sorted(PROFILES.values(), key=lambda p: p.name)) | st.builds(
    Profile, st.just("own-1"), st.integers(1, 30), st.integers(1, 30)
)


@st.composite
def records(draw: st.DrawFn) -> FragmentRecord:
    profile = draw(profiles)
    ids = tuple(FragmentId(draw(st.binary(min_size=32, max_size=32))) for _ in range(profile.n))
    segment = Segment(profile, draw(st.integers(1, SEGMENT_MAX)), ids)
    return FragmentRecord(segment, draw(st.integers(0, profile.n - 1)))


@settings(max_examples=60)
@given(records())
def test_a_record_is_read_back_and_names_its_segment(record: FragmentRecord) -> None:
    again = FragmentRecord.parse(record.encode())
    assert again == record
    assert again.segment.id == segment_id(record.segment.fragments)
    assert split_key(record.key) == (record.segment.id, record.index)


@settings(max_examples=100)
@given(records(), st.data())
def test_changed_or_cut_records_are_refused_or_are_other_records(
    record: FragmentRecord, data: st.DataObject
) -> None:
    raw = bytearray(record.encode())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(InvalidFragment):
        assert FragmentRecord.parse(bytes(raw)).encode() == bytes(raw)
    with pytest.raises(InvalidFragment):
        FragmentRecord.parse(record.encode() + b"\0")


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_random_bytes_are_no_record(raw: bytes) -> None:
    with contextlib.suppress(InvalidFragment):
        assert FragmentRecord.parse(raw).encode() == raw


def test_a_known_profile_name_with_other_numbers_is_refused() -> None:
    ids = tuple(FragmentId(bytes(32)) for _ in range(4))
    raw = FragmentRecord(Segment(Profile("small", 2, 2), 10, ids), 0).encode()
    with pytest.raises(InvalidFragment):
        FragmentRecord.parse(raw)


def test_a_fragments_cid_is_the_blake3_one_and_matches_its_bytes() -> None:
    cid = fragment_cid(fragment_id(b"hello"))
    assert str(cid) == "bafkr4ihkr4ld3m4gqkjf4reryxsy2s5tkbxprqkow6fin2iiyvreuzzab4"
    assert cid.matches(b"hello")
    assert fragment_key(segment_id([fragment_id(b"x")]), 3)[-1] == 3
