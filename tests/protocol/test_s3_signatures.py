"""Signatures: botocore is the oracle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.s3.auth import Authenticator, Caller
from gateway.s3.sigv4 import parse_authorization
from tests.conformance.s3_server import ALICE, CREDENTIALS
from tests.protocol.s3_asgi import HOST, NOW, as_request, sign

SCHEMES = ["v4", "v4-query", "v2", "v2-query"]
TARGETS = [
    "/",
    "/bucket",
    "/bucket/key",
    "/bucket/a%20b/%C3%BC//..%2F+x~",
    "/bucket?uploads",
    "/bucket?list-type=2&prefix=a%2Fb%20c&delimiter=%2F&max-keys=5",
    "/bucket/key?partNumber=3&uploadId=abc",
    "/bucket/key?response-content-type=text%2Fplain&versionId=null",
]


def check(
    method: str, target: str, headers: dict[str, str], *, now: float = NOW, **options: str | bool
) -> Caller:
    authenticator = Authenticator(CREDENTIALS.get, **options)  # type: ignore[arg-type]
    return authenticator.authenticate(as_request(method, target, headers), now)


def code(
    method: str, target: str, headers: dict[str, str], *, now: float = NOW, **options: str | bool
) -> str:
    try:
        check(method, target, headers, now=now, **options)
    except StoreError as error:
        return error.code
    return "OK"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_what_botocore_signs_is_accepted(scheme: str, target: str, method: str) -> None:
    extra = {"x-amz-meta-a": "  two  words ", "Content-Type": "text/plain"}
    signed_target, headers = sign(method, target, extra, scheme=scheme)
    assert check(method, signed_target, headers).account == ALICE.account


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_method_path_query_or_header_is_refused(scheme: str) -> None:
    target, headers = sign("PUT", "/bucket/key?uploadId=x", {"x-amz-acl": "private"}, scheme=scheme)
    wrong = "SignatureDoesNotMatch"
    assert code("PUT", target, headers) == "OK"
    assert code("DELETE", target, headers) == wrong
    assert code("PUT", target.replace("/key", "/kez"), headers) == wrong
    assert code("PUT", target.replace("uploadId=x", "uploadId=y"), headers) == wrong
    assert code("PUT", target, headers | {"x-amz-acl": "public-read"}) == wrong
    if scheme.startswith("v4"):
        assert code("PUT", target, headers | {"host": "other"}) == wrong
        assert code("PUT", target + "&acl", headers) == wrong
        assert code("PUT", target, headers | {"x-amz-meta-new": "1"}) == "AccessDenied"
    else:
        assert code("PUT", target, headers | {"x-amz-meta-new": "1"}) == wrong


def test_every_character_of_the_signature_counts() -> None:
    target, headers = sign("GET", "/bucket/key")
    value = headers["authorization"]
    start = value.index("Signature=") + len("Signature=")
    for at in range(start, len(value)):
        flipped = value[:at] + ("0" if value[at] != "0" else "1") + value[at + 1 :]
        assert code("GET", target, headers | {"authorization": flipped}) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("alicekey", "nobody", "InvalidAccessKeyId"),
        ("eu-west-7", "eu-west-8", "SignatureDoesNotMatch"),
        ("/s3/", "/iam/", "AuthorizationHeaderMalformed"),
        ("aws4_request", "aws5_request", "AuthorizationHeaderMalformed"),
        ("/20260921/", "/20260922/", "AuthorizationHeaderMalformed"),
        ("/20260921/", "/2026092x/", "AuthorizationHeaderMalformed"),
        ("host;", "", "AuthorizationHeaderMalformed"),
        ("SignedHeaders=", "Signed=", "AuthorizationHeaderMalformed"),
        ("Credential=", "Credential", "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256", "AWS5-HMAC", "InvalidArgument"),
    ],
)
def test_each_field_of_the_header_is_checked(old: str, new: str, expected: str) -> None:
    target, headers = sign("GET", "/bucket/key")
    assert old in headers["authorization"]
    changed = headers["authorization"].replace(old, new)
    assert code("GET", target, headers | {"authorization": changed}) == expected


def test_the_payload_hash_is_signed_and_required() -> None:
    target, headers = sign("PUT", "/bucket/key", body=b"data")
    other = headers | {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    assert code("PUT", target, other) == "SignatureDoesNotMatch"
    del headers["x-amz-content-sha256"]
    assert code("PUT", target, headers) == "AuthorizationHeaderMalformed"


@pytest.mark.parametrize("scheme", ["v4", "v2"])
@pytest.mark.parametrize(("shift", "expected"), [(899, "OK"), (-899, "OK"),
    (901, "RequestTimeTooSkewed"), (-901, "RequestTimeTooSkewed")])  # fmt: skip
def test_clocks_may_differ_by_fifteen_minutes(scheme: str, shift: int, expected: str) -> None:
    target, headers = sign("GET", "/bucket/key", scheme=scheme)
    assert code("GET", target, headers, now=NOW + shift) == expected


@pytest.mark.parametrize("scheme", ["v4", "v2"])
def test_the_clock_is_told_before_what_else_is_wrong(scheme: str) -> None:
    target, headers = sign("GET", "/bucket/key", scheme=scheme)
    for said in ("20100707T215304Z", "20990707T215304Z"):  # not the day of the credential either
        assert code("GET", target, headers | {"x-amz-date": said}) != "AuthorizationHeaderMalformed"
    for said in ("19500707T215304Z", "Bad Date", ""):
        assert code("GET", target, headers | {"x-amz-date": said}) == "AccessDenied"
    assert code("GET", target, headers | {"authorization": "AWS HAHAHA"}) == "InvalidArgument"


@pytest.mark.parametrize("scheme", ["v4-query", "v2-query"])
def test_presigned_urls_expire(scheme: str) -> None:
    target, headers = sign("GET", "/bucket/key", scheme=scheme, expires=60)
    assert code("GET", target, headers, now=NOW + 59) == "OK"
    assert code("GET", target, headers, now=NOW + 61) == "AccessDenied"
    longer = target.replace("Expires=60", "Expires=600").replace(
        f"Expires={NOW + 60}", f"Expires={NOW + 600}"
    )
    assert longer != target
    assert code("GET", longer, headers) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("X-Amz-Expires=600", "X-Amz-Expires=604801", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires=600", "X-Amz-Expires=-1", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires=600", "X-Amz-Expires=0", "SignatureDoesNotMatch"),
        ("X-Amz-Algorithm=AWS4", "X-Amz-Algorithm=AWS3", "AuthorizationQueryParametersError"),
        ("X-Amz-Date=2026", "X-Amz-Date=zzzz", "AuthorizationQueryParametersError"),
        ("X-Amz-Date=", "X-Amz-Dote=", "AuthorizationQueryParametersError"),
        ("alicekey", "nobody", "InvalidAccessKeyId"),
    ],
)
def test_each_presigned_parameter_is_checked(old: str, new: str, expected: str) -> None:
    target, headers = sign("GET", "/bucket/key", scheme="v4-query")
    assert old in target
    assert code("GET", target.replace(old, new), headers) == expected


def test_a_url_signed_for_later_is_refused() -> None:
    target, headers = sign("GET", "/bucket/key", scheme="v4-query")
    assert code("GET", target, headers, now=NOW - 901) == "RequestTimeTooSkewed"


def test_two_ways_of_signing_at_once_are_refused() -> None:
    target, headers = sign("GET", "/bucket/key", scheme="v4-query")
    _, header = sign("GET", "/bucket/key")
    assert code("GET", target, headers | {"authorization": header["authorization"]}) == (
        "InvalidArgument"
    )


def test_the_region_counts_only_when_configured() -> None:
    target, headers = sign("GET", "/bucket")
    assert code("GET", target, headers, region="eu-west-7") == "OK"
    assert code("GET", target, headers, region="us-east-1") == "AuthorizationHeaderMalformed"


def test_signature_version_2_can_be_switched_off() -> None:
    for scheme in ("v2", "v2-query"):
        target, headers = sign("GET", "/bucket", scheme=scheme)
        assert code("GET", target, headers, sigv2=False) == "AccessDenied"


def test_a_session_token_of_a_permanent_key_is_refused() -> None:
    target, headers = sign("GET", "/bucket", {"x-amz-security-token": "t"})
    assert code("GET", target, headers) == "InvalidToken"


def test_an_unsigned_request_is_anonymous() -> None:
    assert check("GET", "/bucket", {"host": HOST}).account is None


@settings(max_examples=100)
@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_the_header_parser_only_refuses(text: str) -> None:
    try:
        claim = parse_authorization("AWS4-HMAC-SHA256" + text)
    except StoreError:
        return
    assert "host" in claim.signed_headers


FIELDS = st.sampled_from(
    [
        "Credential=a/20260921/r/s3/aws4_request",
        "SignedHeaders=host",
        "Signature=" + "0" * 64,
        "Credential=",
        "Signature=zz",
        "SignedHeaders=;",
        *[",", "=", ";"],
    ]
)


@settings(max_examples=100)
@given(st.lists(FIELDS, max_size=8), st.sampled_from(["AWS4-HMAC-SHA256 ", "AWS ", "Bearer ", ""]))
def test_no_authorization_header_is_accepted_by_chance(parts: list[str], scheme: str) -> None:
    value = scheme + ",".join(parts)
    headers = {"host": HOST, "authorization": value, "x-amz-date": "x"}
    if value:
        assert code("GET", "/bucket/key", headers) != "OK"
    else:
        assert check("GET", "/bucket/key", headers).account is None


@settings(max_examples=100)
@given(st.dictionaries(
    st.sampled_from(["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
                     "X-Amz-SignedHeaders", "X-Amz-Signature", "AWSAccessKeyId", "Signature",
                     "Expires"]),
    st.sampled_from(["", "AWS4-HMAC-SHA256", "a/20260921/r/s3/aws4_request", "20260921T000000Z",
                     "host", "600", "0" * 64, "%C3%BC", "alicekey%2F1", "99999999999"]),
    min_size=1,
))  # fmt: skip
def test_no_presigned_query_is_accepted_by_chance(query: dict[str, str]) -> None:
    target = "/bucket/key?" + "&".join(f"{n}={v}" for n, v in query.items())
    # `Expires` alone means nothing: such a request is anonymous.
    try:
        assert check("GET", target, {"host": HOST}).account is None
        assert query.keys() == {"Expires"} or "Signature" not in query
    except StoreError as error:
        refused = int(error.status)
    else:
        refused = 0
    assert refused < 500
