"""Cross-origin rules and tags: which page may ask, and documents of any origin."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidArgument, StoreError
from gateway.s3.cors import CorsRule, cors_document, parse_cors, preflight, reply_headers
from gateway.s3.errors import (
    CorsForbidden,
    InvalidCorsRule,
    InvalidTag,
    MalformedXML,
    TooManyTags,
)
from gateway.s3.tags import parse_tags, read_tags, tags_document

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="*"))
PATTERNS = st.tuples(WORDS, st.sampled_from(["", "*"]), WORDS).map("".join).filter(bool)
RULES = st.builds(
    CorsRule,
    origins=st.lists(PATTERNS, min_size=1, max_size=3).map(tuple),
    methods=st.lists(st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"]), min_size=1).map(
        tuple
    ),
    headers=st.lists(PATTERNS, max_size=3).map(tuple),
    exposed=st.lists(WORDS.filter(bool), max_size=2).map(tuple),
    max_age=st.none() | st.integers(0, 10**9 - 1),
    id=WORDS,
)


@given(st.lists(RULES, min_size=1, max_size=4))
def test_rules_survive_their_document(rules: list[CorsRule]) -> None:
    assert parse_cors(cors_document(rules)) == tuple(rules)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_document_is_more_than_refused(data: bytes) -> None:
    for parse in (parse_cors, lambda raw: parse_tags(raw, most=50)):
        for raw in (data, b"<CORSConfiguration>" + data + b"</CORSConfiguration>"):
            with pytest.raises(StoreError):
                parse(raw)


@pytest.mark.parametrize(
    ("pattern", "origin", "allowed"),
    [
        ("*", "https://a.example", True),
        ("https://a.example", "https://a.example", True),
        ("https://a.example", "https://a.example.evil", False),
        ("https://*.example", "https://a.example", True),
        ("https://*.example", "https://.example", True),
        ("https://*.example", "https://example", False),
        ("https://a*a.example", "https://a.example", False),  # one letter is not two
        ("http://*", "https://a.example", False),
    ],
)
def test_an_origin_matches_a_pattern_with_one_star(
    pattern: str, origin: str, allowed: bool
) -> None:
    rule = CorsRule((pattern,), ("GET",))
    assert rule.allows(origin, "GET", ()) is allowed
    assert not rule.allows(origin, "PUT", ())
    assert bool(reply_headers([rule], origin, "GET")) is allowed


def test_the_first_rule_that_allows_it_answers() -> None:
    rules = [
        CorsRule(("https://a",), ("PUT",), headers=("x-*",), max_age=5),
        CorsRule(("*",), ("GET", "PUT"), exposed=("ETag",)),
    ]

    def asked(origin: str, method: str, headers: str = "") -> dict[bytes, bytes]:
        given = {"origin": origin, "access-control-request-method": method}
        if headers:
            given["access-control-request-headers"] = headers
        return dict(preflight(rules, given).headers)

    one = asked("https://a", "PUT", "X-Amz-Date, x-b")
    assert one[b"access-control-allow-origin"] == b"https://a"
    assert one[b"access-control-allow-headers"] == b"x-amz-date, x-b"
    assert one[b"access-control-max-age"] == b"5"
    assert one[b"access-control-allow-credentials"] == b"true"
    other = asked("https://b", "PUT")
    assert other[b"access-control-allow-origin"] == b"*"
    assert other[b"access-control-expose-headers"] == b"ETag"
    assert b"access-control-allow-credentials" not in other
    for refused in (("https://b", "DELETE", ""), ("https://a", "PUT", "authorization")):
        with pytest.raises(CorsForbidden):
            asked(*refused)


def rule_xml(inner: str) -> bytes:
    return f"<CORSConfiguration><CORSRule>{inner}</CORSRule></CORSConfiguration>".encode()


WHOLE = "<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"


@pytest.mark.parametrize(
    ("inner", "error"),
    [
        ("<AllowedMethod>GET</AllowedMethod>", MalformedXML),
        ("<AllowedOrigin>*</AllowedOrigin>", MalformedXML),
        (WHOLE + "<AllowedMethod>PATCH</AllowedMethod>", InvalidCorsRule),
        (WHOLE + "<AllowedOrigin>http://*.*</AllowedOrigin>", InvalidCorsRule),
        (WHOLE + "<ExposeHeader>x-*</ExposeHeader>", InvalidCorsRule),
        (WHOLE + "<MaxAgeSeconds>-1</MaxAgeSeconds>", MalformedXML),
        (WHOLE + "<AllowedHeader>a&#13;&#10;b</AllowedHeader>", MalformedXML),
    ],
)
def test_rules_that_cannot_be_are_refused(inner: str, error: type[StoreError]) -> None:
    with pytest.raises(error):
        parse_cors(rule_xml(inner))
    assert parse_cors(rule_xml(WHOLE))
    with pytest.raises(MalformedXML):
        parse_cors(b"<CORSConfiguration>" + rule_xml(WHOLE)[19:-20] * 101 + b"</CORSConfiguration>")


TAGS = st.text(st.sampled_from("aZ9é +-=._:/@"), min_size=1, max_size=128)


@given(st.dictionaries(TAGS.filter(lambda k: not k.startswith("aws:")), TAGS, max_size=50))
def test_tags_survive_their_document(tags: dict[str, str]) -> None:
    assert parse_tags(tags_document(tags), most=50) == tags


@given(st.text(max_size=60) | st.text("ab=&%+", max_size=20))
def test_no_header_of_tags_is_more_than_refused(text: str) -> None:
    with suppress(InvalidTag, TooManyTags, InvalidArgument):
        assert len(read_tags({"x-amz-tagging": text.encode().decode("latin-1")})) <= 10


@pytest.mark.parametrize(
    "tags",
    [
        [("", "v")], [("k" * 129, "v")], [("k", "v" * 257)], [("aws:k", "v")], [("k", "<")],
        [("k", "1"), ("k", "2")], [(f"k{n}", "") for n in range(51)],
    ],
)  # fmt: skip
def test_tags_that_cannot_be_are_refused(tags: list[tuple[str, str]]) -> None:
    rows = "".join(
        f"<Tag><Key>{key}</Key><Value>{value.replace('<', '&lt;')}</Value></Tag>"
        for key, value in tags
    )
    with pytest.raises(StoreError) as caught:
        parse_tags(f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode(), most=50)
    assert caught.value.code == "InvalidTag"
