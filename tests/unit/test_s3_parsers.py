"""The pure parts of the S3 front end: addresses, ranges, conditions, metadata, XML."""

from contextlib import suppress
from urllib.parse import quote
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidStorageClass, StoreError
from gateway.model import Algorithm
from gateway.s3 import xml
from gateway.s3.acls import parse_acl
from gateway.s3.addressing import host_bucket, parse_copy_source, parse_query, split_path
from gateway.s3.attributes import decode_metadata, encode_metadata, read_attributes
from gateway.s3.checksums import upload_checksum
from gateway.s3.conditions import check_read, names_etag
from gateway.s3.listing import after_prefix, read_token, start_after, write_token
from gateway.s3.ranges import parse_copy_range, parse_range
from gateway.s3.timestamps import http_date, iso
from gateway.s3.xml_requests import (
    DEPTH_MAX,
    DOCUMENT_MAX,
    parse_complete,
    parse_delete,
    parse_document,
    parse_location,
)
from gateway.storage_classes import profile_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
LATIN = st.text(st.characters(max_codepoint=255), max_size=80)


# ------------------------------------------------------------------ addresses
@given(TEXT.filter(bool), st.booleans())
def test_any_key_survives_percent_encoding(key: str, virtual: bool) -> None:
    path = "/" + quote(key, safe="/~") if virtual else "/bucket/" + quote(key, safe="/~")
    assert split_path(path.encode(), "bucket" if virtual else "") == ("bucket", key)


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=10))
def test_any_query_survives_percent_encoding(pairs: list[tuple[str, str]]) -> None:
    raw = "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in pairs)
    assert parse_query(raw.encode()) == tuple(pairs)


@given(TEXT.filter(bool))
def test_any_copy_source_survives_percent_encoding(key: str) -> None:
    source = parse_copy_source("/bucket/" + quote(key))
    assert (source.bucket, source.key, source.version_id) == ("bucket", key, None)
    named = parse_copy_source(f"bucket/{quote(key)}?versionId=null")
    assert (named.key, named.version_id) == (key, "null")


@given(st.binary(max_size=60), LATIN)
def test_address_parsers_only_raise_store_errors(raw: bytes, text: str) -> None:
    for parse in (split_path, parse_query):
        with suppress(StoreError):
            parse(raw)
    with suppress(StoreError):
        parse_copy_source(text)
    host_bucket(text, ["localhost"])


@pytest.mark.parametrize(("host", "bucket"), [("b.localhost", "b"), ("a.b.LOCALHOST:9000", "a.b"),
    ("localhost", ""), ("xlocalhost", ""), ("127.0.0.1:9000", ""), ("[::1]:9000", "")])  # fmt: skip
def test_virtual_hosts(host: str, bucket: str) -> None:
    assert host_bucket(host, ["localhost"]) == bucket


# ------------------------------------------------------------------ ranges and conditions
@given(st.one_of(LATIN, st.from_regex(r"bytes=[0-9]{0,20}-[0-9]{0,20}", fullmatch=True)),
       st.integers(0, 100))  # fmt: skip
def test_a_range_lies_inside_or_is_refused(text: str, size: int) -> None:
    with suppress(StoreError):
        span = parse_range(text, size)
        assert span is None or 0 <= span[0] < span[1] <= size
    with suppress(StoreError):
        start, end = parse_copy_range(text, size)
        assert 0 <= start < end <= size


@given(LATIN, LATIN)
def test_conditions_never_crash(value: str, date: str) -> None:
    names_etag(value, "etag")
    for name in ("if-match", "if-none-match"):
        with suppress(StoreError):
            check_read({name: value}, "etag", 5)
    for name in ("if-modified-since", "if-unmodified-since"):
        with suppress(StoreError):
            check_read({name: date}, "etag", 5)


# ------------------------------------------------------------------ metadata
@given(TEXT)
def test_metadata_survives_its_way_out_and_in(text: str) -> None:
    header = encode_metadata(text).decode("ascii")
    assert header.isprintable()
    # An encoded word that the user wrote as such is decoded, as AWS does.
    assert "=?" in text or decode_metadata(header) == text


def test_raw_utf_8_and_latin_1_are_understood() -> None:
    assert decode_metadata("grün ✓".encode().decode("latin-1")) == "grün ✓"
    assert decode_metadata("gr\xfcn") == "grün"


@given(st.dictionaries(st.sampled_from(["content-type", "expires", "content-encoding",
    "x-amz-meta-a", "x-amz-storage-class", "cache-control"]), LATIN))  # fmt: skip
def test_attributes_only_raise_store_errors(headers: dict[str, str]) -> None:
    with suppress(StoreError):
        attributes = read_attributes(headers)
        assert "aws-chunked" not in attributes.headers.get("content-encoding", "").split(",")


def test_aws_chunked_is_not_part_of_the_objects_encoding() -> None:
    given_headers = {"content-encoding": "gzip, aws-chunked"}
    assert read_attributes(given_headers).headers["content-encoding"] == "gzip"
    assert "content-encoding" not in read_attributes({"content-encoding": "aws-chunked"}).headers


@pytest.mark.parametrize(("name", "profile"), [("STANDARD", ""), ("STANDARD_IA", ""),
    ("standard", "standard"), ("cess", "cess"), ("MIRROR", "mirror"), (None, "")])  # fmt: skip
def test_storage_classes_name_profiles(name: str | None, profile: str) -> None:
    assert profile_of(name) == profile


@pytest.mark.parametrize("name", ["GLACIER", "DEEP_ARCHIVE", "nonsense", "OUTPOSTS", " "])
def test_other_storage_classes_are_refused(name: str) -> None:
    with pytest.raises(InvalidStorageClass):
        profile_of(name)


@pytest.mark.parametrize(("algorithm", "kind", "expected"), [
    (None, None, (Algorithm.CRC64NVME, False)), ("CRC32", None, (Algorithm.CRC32, True)),
    ("crc32c", "FULL_OBJECT", (Algorithm.CRC32C, False)),
    ("CRC64NVME", None, (Algorithm.CRC64NVME, False)), ("SHA256", None, (Algorithm.SHA256, True)),
    ("SHA256", "FULL_OBJECT", None), ("CRC64NVME", "COMPOSITE", None), ("X", None, None),
    (None, "COMPOSITE", None), ("CRC32", "X", None)])  # fmt: skip
def test_checksum_types_that_go_together(
    algorithm: str | None, kind: str | None, expected: tuple[Algorithm, bool] | None
) -> None:
    headers = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
    given_headers = {n: v for n, v in headers.items() if v is not None}
    if expected is None:
        with pytest.raises(StoreError):
            upload_checksum(given_headers)
    else:
        assert upload_checksum(given_headers) == expected


# ------------------------------------------------------------------ lists
@given(TEXT.filter(bool), TEXT)
def test_the_key_after_a_prefix_is_behind_everything_that_starts_with_it(
    prefix: str, rest: str
) -> None:
    assert (prefix + rest).encode() < after_prefix(prefix)


@given(TEXT, TEXT.filter(bool))
def test_a_page_goes_on_strictly_behind_its_marker(prefix: str, rest: str) -> None:
    marker = prefix + rest
    assert start_after(marker, prefix, "") > marker.encode()
    assert start_after(marker, prefix, "/") > marker.encode()


@given(st.binary(min_size=1, max_size=60), LATIN)
def test_tokens_are_ours_or_refused(position: bytes, text: str) -> None:
    assert read_token(write_token(position)) == position
    with suppress(StoreError):
        assert write_token(read_token(text)) == text


# ------------------------------------------------------------------ XML
XML_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
)


@given(XML_TEXT, st.text("\r\n\t<>&'\""))
def test_escaped_text_is_read_back(first: str, second: str) -> None:
    tree = fromstring(xml.document("A", f"<B>{xml.escape(first + second)}</B>", ""))
    assert (tree.findtext("B") or "") == first + second


def test_control_characters_are_references_and_url_encoding_avoids_them() -> None:
    assert xml.escape("a\x01") == "a&#1;"
    assert xml.url_encode("a\x01 /ü") == "a%01%20/%C3%BC"


PIECES = st.sampled_from([b"<Delete>", b"</Delete>", b"<Object>", b"</Object>", b"<Key>a</Key>",
    b"<Quiet>true</Quiet>", b"<CompleteMultipartUpload>", b"</CompleteMultipartUpload>",
    b"<Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>", b"<AccessControlPolicy>",
    b"<AccessControlList/></AccessControlPolicy>", b"<?xml version='1.0' encoding='utf-16'?>",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"&#0;", b"\xff\xfe", b"<![CDATA[", b"]]>", b"<!--",
    b"<?xml version='1.0' encoding='nonsense'?>", b"\x00", b" xmlns:a='b'"])  # fmt: skip


@settings(max_examples=100)
@given(st.one_of(st.binary(max_size=100), st.lists(PIECES, max_size=10).map(b"".join)))
def test_request_documents_are_read_or_refused(raw: bytes) -> None:
    for parse in (
        parse_delete,
        lambda data: parse_complete(data, Algorithm.CRC32),
        parse_location,
        parse_acl,
    ):
        with suppress(StoreError):
            parse(raw)


BOMB = b'<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]><Delete>&y;</Delete>'
OUTSIDE = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete>&x;</Delete>'


@pytest.mark.parametrize("raw", [BOMB, OUTSIDE, b"<a>" * (DEPTH_MAX + 1), b"<Delete>",
    b"<Delete>" + b"<a/>" * 100_001 + b"</Delete>", b" " * (DOCUMENT_MAX + 1), b"",
    b"<Other/>"])  # fmt: skip
def test_dangerous_documents_are_malformed(raw: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        parse_document(raw, "Delete")
    assert caught.value.code == "MalformedXML"


def test_namespaces_and_order_of_elements_do_not_matter() -> None:
    raw = (b'<a:Delete xmlns:a="http://s3.amazonaws.com/doc/2006-03-01/"><a:Object>'
           b"<a:ETag>e</a:ETag><a:Key> k&amp;\xc3\xbc </a:Key></a:Object></a:Delete>")  # fmt: skip
    entries, quiet = parse_delete(raw)
    assert (entries[0].key, entries[0].etag, quiet) == (" k&ü ", "e", False)


# ------------------------------------------------------------------ time


@given(st.integers(0, 4_000_000_000))
def test_both_forms_of_a_time_agree(seconds: int) -> None:
    text = iso(seconds * 10**9 + 999_999_999)
    assert text.endswith(".000Z")
    assert http_date(seconds).decode().split(" ")[4] == text[11:19]
