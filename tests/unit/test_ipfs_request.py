"""Claims about gateway/ipfs/request.py: any request is parsed or refused with a status."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.cids import Cid
from gateway.ipfs.errors import BadRequest, IpfsError
from gateway.ipfs.request import (
    CarOptions,
    Format,
    Scope,
    Unsatisfiable,
    etag_matches,
    parse_range,
    parse_request,
)

CID = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


def test_a_path_is_decoded_segment_by_segment() -> None:
    got = parse_request(f"/ipfs/{CID}/a%20b/%C3%A4/".encode(), b"x=1", {})
    assert got.root == Cid.parse(CID)
    assert got.path == ("a b", "ä")
    assert got.trailing_slash
    assert got.format is Format.CONTENT


def test_car_parameters_come_from_the_query_before_accept() -> None:
    accept = {b"accept": b"text/html, application/vnd.ipld.car; dups=y; order=unk"}
    got = parse_request(f"/ipfs/{CID}".encode(), b"dag-scope=block", accept)
    assert (got.format, got.by_accept) == (Format.CAR, True)
    assert got.car == CarOptions(Scope.BLOCK, duplicates=True)
    got = parse_request(f"/ipfs/{CID}".encode(), b"format=car&car-dups=n&entity-bytes=-9:*", accept)
    assert got.car == CarOptions(Scope.ENTITY, duplicates=False, first=-9)
    assert not got.by_accept


@pytest.mark.parametrize("path", [b"/ipfs/" + CID.encode() + b"/a%2fb", b"/ipfs/" + b"x" * 20_000])
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_request(path, b"", {})


@given(
    st.sampled_from([b"/ipfs/", b"/ipfs/" + CID.encode() + b"/", b"", b"/ipns/"]),
    st.binary(max_size=60),
    st.binary(max_size=60),
    st.binary(max_size=60),
)
@settings(max_examples=100)
def test_any_request_is_parsed_or_refused(
    start: bytes, path: bytes, query: bytes, accept: bytes
) -> None:
    try:
        got = parse_request(start + path, query, {b"accept": accept})
    except IpfsError as error:
        refused = error.status
        assert 400 <= refused < 600
        return
    assert all(part and "/" not in part and "\0" not in part for part in got.path)


@given(
    st.binary(max_size=30) | st.from_regex(rb"bytes=[0-9]{0,4}-[0-9]{0,4}"), st.integers(0, 3000)
)
@settings(max_examples=100)
def test_any_range_header_lies_within_the_content_or_is_ignored(header: bytes, size: int) -> None:
    try:
        got = parse_range(header, size)
    except Unsatisfiable:
        return
    assert got is None or 0 <= got.start < got.end <= size


def test_a_range_that_starts_behind_the_end_cannot_be_satisfied() -> None:
    for header in (b"bytes=11-", b"bytes=11-20", b"bytes=-0"):
        with pytest.raises(Unsatisfiable):
            parse_range(header, 11)


@pytest.mark.parametrize(
    ("header", "hit"),
    [
        (b'"a"', True),
        (b'W/"a"', True),
        (b'"b", "a"', True),
        (b"*", True),
        (b'"b"', False),
        (b"", False),
    ],
)
def test_if_none_match_compares_weakly(header: bytes, hit: bool) -> None:
    assert etag_matches(header, ['"a"']) is hit
