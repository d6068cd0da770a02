"""Claims about gateway/ipfs/web/request.py: any request is parsed or refused with a status."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.cids import Cid
from gateway.ipfs.errors import BadRequest, IpfsError, NotAcceptable
from gateway.ipfs.web.conditions import RANGES_MAX, Unsatisfiable, etag_matches, parse_ranges
from gateway.ipfs.web.formats import Format, negotiate
from gateway.ipfs.web.replies import told_of
from gateway.ipfs.web.request import (
    CarOptions,
    GatewayRequest,
    Scope,
    Target,
    corrected,
    parse_path,
)
from gateway.ipfs.web.request import parse_request as parse_rest

CID = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


def parse_request(path: bytes, query: bytes, headers: dict[bytes, bytes]) -> GatewayRequest:
    target = Target(path, query, path)
    return parse_rest(target, parse_path(target), headers)


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


@pytest.mark.parametrize(
    ("rest", "uri"),
    [
        ("", ""),
        ("/", "/"),
        ("/sub%20dir/", "/sub%20dir/"),
        ("/file!'()*~.txt", "/file%21%27%28%29%2A~.txt"),
        ("/a%2F..%2Fplain%2Etxt", "/plain.txt"),
        ("/a%2Fb.txt", "/a/b.txt"),
        ("//a/./b//c/..", "/a/b"),
        ("/100%25", "/100%25"),
        ("/%C3%A4+=", "/%C3%A4%2B%3D"),
    ],
)
def test_a_path_is_decoded_once_and_has_one_canonical_form(rest: str, uri: str) -> None:
    content = parse_request(f"/ipfs/{CID}{rest}".encode(), b"", {}).content
    assert told_of(content)["Ipfs-Uri"] == f"ipfs://{CID}{uri}"
    again = parse_request(content.quoted.encode(), b"", {}).content
    assert again == content


def test_ipfs_uri_names_a_root_in_its_canonical_form() -> None:
    v0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"
    content = parse_request(f"/ipfs/{v0}/a".encode(), b"", {}).content
    assert told_of(content)["Ipfs-Uri"] == (
        "ipfs://bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku/a"
    )
    name = parse_request(b"/ipns/Docs.Example.org./x", b"", {}).content
    assert told_of(name)["Ipfs-Uri"] == "ipns://docs.example.org/x"


def test_x_ipfs_path_is_left_out_where_no_header_can_hold_it() -> None:
    plain = parse_request(f"/ipfs/{CID}/a%23b%3Fc%20d.txt".encode(), b"", {}).content
    assert told_of(plain)["X-Ipfs-Path"] == f"/ipfs/{CID}/a#b?c d.txt"
    for rest in ("/%C3%A4", "/a%0D%0ASet-Cookie:x"):
        content = parse_request(f"/ipfs/{CID}{rest}".encode(), b"", {}).content
        assert "X-Ipfs-Path" not in told_of(content)


@pytest.mark.parametrize(
    "path",
    [b"/ipfs/" + b"x" * 20_000, b"/ipfs/", b"/ipfs/%zz", b"/ipfs/a%00", b"/ipfs/%ff",
     b"/ipfs/" + b"a/" * 300],
)  # fmt: skip
def test_a_malformed_path_is_refused(path: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_request(path, b"", {})


@pytest.mark.parametrize("start", ["", "//evil.example/..", "/./x/.."])
def test_a_redirect_stays_on_this_host(start: str) -> None:
    got = parse_request(f"{start}/ipfs/{CID}/a".encode(), b"", {})
    assert got.url_path == f"/ipfs/{CID}/a"
    mapped = Target(f"/ipfs/{CID}/a".encode(), b"", f"{start}//evil.example/".encode())
    assert parse_rest(mapped, parse_path(mapped), {}).url_path[1] != "/"


@given(st.binary(max_size=40), st.binary(max_size=80))
@settings(max_examples=100)
def test_a_link_that_is_corrected_stays_on_this_host(path: bytes, query: bytes) -> None:
    for raw in (path, b"/ipfs/ipfs/" + path, b"/ipfs/"):
        try:
            location = corrected(Target(raw, b"uri=ipfs://" + query, raw))
        except IpfsError:
            continue
        assert location is None or location.startswith(("/ipfs/", "/ipns/"))


def test_dots_do_not_lead_out_of_the_namespace() -> None:
    with pytest.raises(IpfsError):
        parse_request(f"/ipfs/{CID}/../../etc".encode(), b"", {})


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
    st.binary(max_size=30)
    | st.from_regex(rb"bytes=([0-9]{0,4}-[0-9]{0,4}, ?){0,3}[0-9]{0,4}-[0-9]{0,4}"),
    st.integers(0, 3000),
)
@settings(max_examples=200)
def test_any_range_header_lies_within_the_content_or_is_ignored(header: bytes, size: int) -> None:
    try:
        found = parse_ranges(header, size)
    except Unsatisfiable:
        return
    assert all(0 <= part.start < part.end <= size for part in found)
    assert sum(part.end - part.start for part in found) <= size


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"bytes=0-0", [(0, 1)]),
        (b"bytes=6-16,0-4", [(6, 17), (0, 5)]),
        (b"bytes=-3", [(28, 31)]),
        (b"bytes=-99", [(0, 31)]),
        (b"bytes=30-99, 31-", [(30, 31)]),
        (b"bytes=0-30,0-30", []),
        (b"bytes=5-4", []),
        (b"bytes=1-2,x", []),
        (b"lines=1-2", []),
        (b"bytes=" + b",".join([b"1-1"] * (RANGES_MAX + 1)), []),
    ],
)
def test_ranges_are_cut_to_the_content(header: bytes, found: list[tuple[int, int]]) -> None:
    assert [(part.start, part.end) for part in parse_ranges(header, 31)] == found


def test_ranges_that_all_start_behind_the_end_cannot_be_satisfied() -> None:
    for header in (b"bytes=11-", b"bytes=11-20,99-", b"bytes=-0"):
        with pytest.raises(Unsatisfiable):
            parse_ranges(header, 11)


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
