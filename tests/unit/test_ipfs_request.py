"""Claims about gateway/ipfs/request.py: any request is parsed or refused with a status."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.cids import Cid
from gateway.ipfs.conditions import Unsatisfiable, etag_matches, parse_range
from gateway.ipfs.errors import BadRequest, IpfsError, NotAcceptable
from gateway.ipfs.formats import Format, negotiate
from gateway.ipfs.request import CarOptions, GatewayRequest, Scope, Target
from gateway.ipfs.request import parse_request as parse_target

CID = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


def parse_request(path: bytes, query: bytes, headers: dict[bytes, bytes]) -> GatewayRequest:
    return parse_target(Target(path, query, path), headers)


@pytest.mark.parametrize(
    ("name", "accept", "wanted", "by_accept"),
    [
        ("", b"", Format.CONTENT, False),
        ("", b"*/*", Format.CONTENT, False),
        ("", b"text/html,application/xhtml+xml,*/*;q=0.8", Format.CONTENT, False),
        ("raw", b"application/vnd.ipld.car", Format.RAW, False),
        ("tar", b"", Format.TAR, False),
        ("", b"application/x-tar", Format.TAR, True),
        ("", b"text/html, application/vnd.ipld.dag-json", Format.DAG_JSON, True),
        ("", b"application/json", Format.JSON, True),
        ("", b"application/cbor;q=0.1, application/vnd.ipld.dag-cbor;q=0.2", Format.DAG_CBOR, True),
        ("", b"application/cbor, application/json", Format.CBOR, True),
        ("", b"application/vnd.ipld.raw;q=0", Format.CONTENT, False),
        ("", b"application/vnd.ipfs.ipns-record", Format.IPNS_RECORD, True),
    ],
)
def test_the_query_chooses_the_format_then_the_accepted_type_of_most_weight(
    name: str, accept: bytes, wanted: Format, by_accept: bool
) -> None:
    got = negotiate({"format": name}, accept)
    assert (got.format, got.by_accept) == (wanted, by_accept)


def test_unknown_formats_are_not_acceptable() -> None:
    for name, accept in (("zip", b""), ("", b"application/vnd.ipld.dag-xml")):
        with pytest.raises(NotAcceptable):
            negotiate({"format": name}, accept)


def test_parameters_of_accept_count_only_for_the_type_that_is_served() -> None:
    accept = b"application/vnd.ipld.car; dups=y"
    assert negotiate({"format": "car"}, accept).parameters == {"dups": "y"}
    assert negotiate({"format": "raw"}, accept).parameters == {}


def test_a_path_is_decoded_segment_by_segment() -> None:
    got = parse_request(f"/ipfs/{CID}/a%20b/%C3%A4/".encode(), b"x=1", {})
    assert got.root == Cid.parse(CID)
    assert got.content.segments == ("a b", "ä")
    assert got.content.trailing_slash
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
    assert all(part and "/" not in part and "\0" not in part for part in got.content.segments)


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
