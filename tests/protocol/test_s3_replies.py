"""What goes over the wire: headers of every reply, errors, bodies that are wrong or break off."""

import asyncio
import re
from base64 import b64encode
from collections.abc import MutableMapping
from hashlib import md5
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.net.http import ClientDisconnected
from gateway.catalog.interface import CatalogUnavailable
from gateway.s3.app import S3App
from gateway.s3.config import S3Config
from tests.conformance.s3_server import CREDENTIALS
from tests.protocol.s3_asgi import FixedClock, call, make_app, scope_of, sign, signed_call


@pytest.fixture
async def app() -> S3App:
    app = await make_app()
    assert (await signed_call(app, "PUT", "/bucket")).status == 200
    assert (await signed_call(app, "PUT", "/bucket/key", {}, b"0123456789")).status == 200
    return app


async def test_every_reply_names_its_request_and_server(app: S3App) -> None:
    for method, target in [("GET", "/bucket/key"), ("GET", "/bucket/none"), ("HEAD", "/bucket"),
                           ("DELETE", "/bucket/none"), ("PATCH", "/bucket/key")]:  # fmt: skip
        answer = await signed_call(app, method, target)
        assert re.fullmatch("[0-9A-F]{16}", answer.headers["x-amz-request-id"])
        assert answer.headers["server"] == "Cumulus"
        assert answer.headers["date"].endswith("GMT")
        assert "x-amz-id-2" in answer.headers


async def test_an_error_is_a_document_with_resource_and_request_id(app: S3App) -> None:
    answer = await signed_call(app, "GET", "/bucket/a%20%26b")
    tree = fromstring(answer.body)
    assert (answer.status, tree.findtext("Code")) == (404, "NoSuchKey")
    assert tree.findtext("Resource") == "/bucket/a%20%26b"
    assert tree.findtext("RequestId") == answer.headers["x-amz-request-id"]
    head = await signed_call(app, "HEAD", "/bucket/none")
    assert (head.status, head.body) == (404, b"")


async def test_an_unsigned_service_request_is_denied(app: S3App) -> None:
    answer = await call(app, "GET", "/")
    assert (answer.status, answer.code) == (403, "AccessDenied")
    answer = await call(app, "GET", "/none/key")
    assert (answer.status, answer.code) == (404, "NoSuchBucket")


async def test_virtual_hosts_name_buckets() -> None:
    app = await make_app(config=S3Config(domains=("localhost", "store.test")))
    await signed_call(app, "PUT", "/bucket", {"x-amz-acl": "public-read"})
    await signed_call(app, "PUT", "/bucket/a/b", {"x-amz-acl": "public-read"}, b"virtual")
    for host in ("bucket.localhost:9000", "BUCKET.store.test"):
        assert (await call(app, "GET", "/a/b", {"host": host})).body == b"virtual"
    assert (await call(app, "GET", "/a/b", {"host": "bucket.elsewhere"})).status == 404


@pytest.mark.parametrize(
    ("headers", "status", "content_range"),
    [
        ({"range": "bytes=2-4"}, 206, "bytes 2-4/10"),
        ({"range": "bytes=2-99"}, 206, "bytes 2-9/10"),
        ({"range": "bytes=-4"}, 206, "bytes 6-9/10"),
        ({"range": "bytes=10-"}, 416, "bytes */10"),
        ({"range": "bytes=-0"}, 416, "bytes */10"),
        ({"range": "bytes=4-2"}, 200, None),
        ({"range": "bytes=1-2,4-5"}, 200, None),
        ({"range": "lines=1-2"}, 200, None),
        ({"range": "bytes=2-4", "if-range": '"other"'}, 200, None),
    ],
)
async def test_ranges(
    app: S3App, headers: dict[str, str], status: int, content_range: str | None
) -> None:
    answer = await signed_call(app, "GET", "/bucket/key", headers)
    assert (answer.status, answer.headers.get("content-range")) == (status, content_range)
    assert int(answer.headers["content-length"]) == len(answer.body)
    head = await signed_call(app, "HEAD", "/bucket/key", headers)
    assert (head.status, head.body) == (status, b"")


ETAG = f'"{md5(b"0123456789").hexdigest()}"'
LONG_AGO, LATER = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-match": ETAG}, 200),
        ({"if-match": f'"x", {ETAG}'}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": '"x"'}, 412),
        ({"if-match": ETAG, "if-unmodified-since": LONG_AGO}, 200),  # If-Match goes first
        ({"if-unmodified-since": LONG_AGO}, 412),
        ({"if-unmodified-since": LATER}, 200),
        ({"if-none-match": ETAG}, 304),
        ({"if-none-match": f"W/{ETAG}"}, 304),
        ({"if-none-match": '"x"', "if-modified-since": LATER}, 200),  # If-None-Match goes first
        ({"if-modified-since": LATER}, 304),
        ({"if-modified-since": LONG_AGO}, 200),
        ({"if-modified-since": "nonsense"}, 200),
        ({"if-match": '"x"', "if-none-match": ETAG}, 412),
    ],
)
async def test_conditions_in_the_order_of_rfc_9110(
    app: S3App, headers: dict[str, str], status: int
) -> None:
    answer = await signed_call(app, "GET", "/bucket/key", headers)
    assert answer.status == status
    if status == 304:
        assert answer.body == b""
        assert answer.headers["etag"] == ETAG


async def put(app: S3App, headers: dict[str, str], body: list[bytes], **options: bool) -> str:
    unsigned = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    target, signed = sign("PUT", "/bucket/new", headers | unsigned)
    answer = await call(app, "PUT", target, signed | headers, body, **options)
    code = answer.code or str(answer.status)
    if code != "200":
        assert (await signed_call(app, "GET", "/bucket/new")).code == "NoSuchKey"
    return code


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-length": "3"}, "200"),
        ({}, "MissingContentLength"),
        ({"content-length": "x"}, "InvalidArgument"),
        ({"content-length": "5368709121"}, "EntityTooLarge"),
        ({"content-length": "4"}, "IncompleteBody"),
        ({"content-length": "2"}, "IncompleteBody"),
        ({"content-length": "3", "content-md5": "nonsense"}, "InvalidDigest"),
        ({"content-length": "3", "content-md5": b64encode(bytes(16)).decode()}, "BadDigest"),
        ({"content-length": "3", "x-amz-checksum-crc32": "AAAAAA=="}, "BadDigest"),
        ({"content-length": "3", "x-amz-checksum-crc32": "AAAA"}, "BadDigest"),
        ({"content-length": "3", "x-amz-checksum-sha512": "AAAA"}, "NotImplemented"),
        ({"content-length": "3", "x-amz-checksum-nonsense": "AAAA"}, "InvalidRequest"),
        ({"content-length": "3", "x-amz-storage-class": "GLACIER"}, "InvalidStorageClass"),
        ({"content-length": "3", "x-amz-storage-class": "mirror"}, "200"),
        ({"content-length": "3", "x-amz-acl": "public-read"}, "200"),
        ({"content-length": "3", "x-amz-acl": "aws-exec-read"}, "NotImplemented"),
        ({"content-length": "3", "x-amz-grant-read": "nobody"}, "InvalidArgument"),
        ({"content-length": "3", "x-amz-acl": "nonsense"}, "InvalidArgument"),
        ({"content-length": "3", "x-amz-tagging": "a=b&a=c"}, "InvalidTag"),
        ({"content-length": "3", "x-amz-object-lock-mode": "GOVERNANCE"}, "InvalidRequest"),
        ({"content-length": "3", "x-amz-server-side-encryption": "AES256"}, "200"),
        ({"content-length": "3", "x-amz-server-side-encryption": "aws:kms"}, "200"),
        ({"content-length": "3", "x-amz-server-side-encryption": "aes:kms"}, "InvalidArgument"),
        ({"content-length": "3", "if-none-match": '"x", "y"'}, "NotImplemented"),
        ({"content-length": "3", "if-match": '"x"'}, "NoSuchKey"),
    ],
)
async def test_a_wrong_upload_is_refused_and_leaves_nothing(
    app: S3App, headers: dict[str, str], code: str
) -> None:
    assert await put(app, headers, [b"ab", b"c"]) == code


async def test_a_client_that_leaves_leaves_nothing(app: S3App) -> None:
    assert await put(app, {"content-length": "9"}, [b"abc"], leave=True) == "IncompleteBody"


async def test_the_signed_hash_of_the_body_is_verified(app: S3App) -> None:
    target, headers = sign("PUT", "/bucket/new", {}, b"abc")
    answer = await call(app, "PUT", target, headers | {"content-length": "3"}, [b"abd"])
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
    assert (await signed_call(app, "HEAD", "/bucket/new")).status == 404


async def test_an_unsigned_trailer_is_verified(app: S3App) -> None:
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "3",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    target, signed = sign("PUT", "/bucket/new", headers)
    signed["content-length"] = "99"
    for value, code in (("NSRBwg==", ""), ("AAAAAA==", "BadDigest"), ("", "BadDigest")):
        body = b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:" + value.encode() + b"\r\n\r\n"
        assert (await call(app, "PUT", target, signed, [body])).code == code
    missing = await call(app, "PUT", target, signed, [b"3\r\nabc\r\n0\r\n\r\n"])
    assert missing.code == "MalformedTrailerError"


async def test_a_refusal_before_a_body_that_waits_for_100_closes_the_connection(app: S3App) -> None:
    target, headers = sign("PUT", "/none/key")
    extra = {"expect": "100-continue", "content-length": "5"}
    answer = await call(app, "PUT", target, headers | extra)
    assert (answer.code, answer.headers["connection"]) == ("NoSuchBucket", "close")


@pytest.mark.parametrize(("target", "code"), [("/bucket/%ff", "InvalidURI"),
    ("/bucket/%zz", "InvalidURI"), ("/bucket/" + "x" * 1025, "KeyTooLongError"),
    ("/bucket?acl&policy", "InvalidArgument"), ("/bucket?max-keys=x", "InvalidArgument"),
    ("/bucket?encoding-type=gzip", "InvalidArgument"),
    ("/bucket/key?partNumber=0", "InvalidArgument"),
    ("/bucket?list-type=2&continuation-token=%21", "InvalidArgument")])  # fmt: skip
async def test_wrong_addresses_have_their_codes(app: S3App, target: str, code: str) -> None:
    assert (await signed_call(app, "GET", target)).code == code


async def test_metadata_is_stored_as_text_and_encoded_by_rfc_2047(app: S3App) -> None:
    await signed_call(app, "PUT", "/bucket/m", {
        "x-amz-meta-word": "=?UTF-8?Q?gr=C3=BCn?= =?utf-8?B?4pyT?=",
        "x-amz-meta-plain": "a =?b", "x-amz-meta-cid": "mine",
    }, b"x")  # fmt: skip
    head = await signed_call(app, "HEAD", "/bucket/m")
    word = b64encode("grün✓".encode()).decode()
    assert head.headers["x-amz-meta-word"] == f"=?UTF-8?B?{word}?="
    assert head.headers["x-amz-meta-plain"] == "a =?b"
    assert "x-amz-meta-cid" not in head.headers


async def test_what_is_published_has_its_cid_in_every_reply_that_makes_or_shows_it(
    app: S3App,
) -> None:
    hello = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    both = {"x-amz-meta-cid": hello, "x-ipfs-cid": hello}
    public = {"x-amz-meta-ipfs": "publish"}
    put = await signed_call(app, "PUT", "/bucket/h", public, b"hello world")
    begun = await signed_call(app, "POST", "/bucket/m?uploads", public)
    upload = fromstring(begun.body).findtext("{*}UploadId")
    target = f"/bucket/m?partNumber=1&uploadId={upload}"
    part = await signed_call(app, "PUT", target, {}, b"hello world")
    document = (
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
        f"<ETag>{part.headers['etag']}</ETag></Part></CompleteMultipartUpload>"
    )
    made = await signed_call(app, "POST", f"/bucket/m?uploadId={upload}", {}, document.encode())
    for answer in (
        put,
        made,
        await signed_call(app, "HEAD", "/bucket/h"),
        await signed_call(app, "GET", "/bucket/h", {"range": "bytes=0-1"}),
        await signed_call(app, "GET", "/bucket/m"),
    ):
        assert answer.headers.items() >= both.items(), answer
    private = await signed_call(app, "PUT", "/bucket/h", {}, b"hello world")
    for answer in (private, await signed_call(app, "HEAD", "/bucket/h")):
        assert not answer.headers.keys() & both.keys()


async def test_an_unforeseen_failure_is_an_internal_error_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def bucket(self, name: str) -> None:
            raise ZeroDivisionError(name)

    app = S3App(Broken(), CREDENTIALS.get, clock=FixedClock())  # type: ignore[arg-type]
    answer = await call(app, "GET", "/bucket/key")
    assert (answer.status, answer.code) == (500, "InternalError")
    assert answer.headers["x-amz-request-id"] in caplog.text


METHODS = st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"])
NAMES = st.sampled_from(
    [
        "acl",
        "uploads",
        "uploadId",
        "partNumber",
        "delete",
        "versions",
        "cors",
        "list-type",
        "prefix",
        "delimiter",
        "marker",
        "max-keys",
        "continuation-token",
        "start-after",
        "encoding-type",
        "location",
        "tagging",
        "attributes",
        "versionId",
        "response-expires",
        "key-marker",
        "upload-id-marker",
        "select",
        "restore",
        "policyStatus",
        "ownershipControls",
        "requestPayment",
        "X-Amz-Algorithm",
    ]
)
VALUES = st.sampled_from(["", "1", "2", "url", "-1", "%00", "%ff", "%C3%BC", "99999999999999999999",
    "a%0D%0Ab", "null", "/", "x" * 300])  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(["range", "if-match", "if-modified-since", "content-md5", "x-amz-acl",
        "x-amz-grant-read", "x-amz-grant-write", "x-amz-object-ownership", "x-amz-request-payer",
        "x-amz-copy-source", "x-amz-copy-source-range", "x-amz-checksum-crc32", "x-amz-trailer",
        "x-amz-decoded-content-length", "x-amz-meta-a", "x-amz-storage-class", "expect",
        "x-amz-metadata-directive", "x-amz-checksum-algorithm", "x-amz-checksum-type",
        "x-amz-object-attributes", "x-amz-mp-object-size", "transfer-encoding"]),
    st.sampled_from(["", "1", "bytes=0-", "*", '"x"', "AAAAAA==", "/bucket/key", "bucket/key",
        "=?UTF-8?B?!!?=", "=?utf-8?Q?=0D=0A?=", "\xff\xfe", "CRC32", "COMPOSITE", "chunked", "-1",
        "/bucket/key?versionId=%ff", "REPLACE", "private",
        "public-read", 'id="bob-id"', "uri=x", "ObjectWriter",
        "Mon, 99 Foo", "x-amz-checksum-sha1"]),
    max_size=4,
)  # fmt: skip
BODIES = st.sampled_from(
    [
        b"",
        b"x",
        b"<a/>",
        b"<Delete><Object><Key>a</Key></Object></Delete>",
        b"<CompleteMultipartUpload><Part/></CompleteMultipartUpload>",
        b"\xff<",
        b"<!DOCTYPE a>",
        b"<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>"
        b"</OwnershipControls>",
        b'<AccessControlPolicy xmlns:x="http://www.w3.org/2001/XMLSchema-instance"><Owner>'
        b"<ID>alice-id</ID></Owner><AccessControlList><Grant><Grantee x:type='CanonicalUser'>"
        b"<ID>bob-id</ID></Grantee><Permission>READ</Permission></Grant></AccessControlList>"
        b"</AccessControlPolicy>",
    ]
)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
async def test_no_request_of_the_owner_makes_a_server_error(data: st.DataObject) -> None:
    app = await make_app()
    await signed_call(app, "PUT", "/bucket")
    await signed_call(app, "PUT", "/bucket/key", {}, b"0123456789")
    for _ in range(4):
        path = data.draw(st.sampled_from(["/", "/bucket", "/bucket/key", "/bucket/%F0%9F%8D%8E//"]))
        query = data.draw(st.dictionaries(NAMES, VALUES, max_size=4))
        target = path + "?" + "&".join(f"{n}={v}" for n, v in query.items()) if query else path
        method, body = data.draw(METHODS), data.draw(BODIES)
        answer = await signed_call(app, method, target, data.draw(HEADERS), body)
        assert answer.status < 500 or answer.status == 501, (method, target, answer.body)
        assert answer.finished
        if answer.status >= 400 and method != "HEAD":
            assert answer.code


@pytest.mark.parametrize("digits", ["0" * 5000, "9" * 5000, "0" * 4999 + "1"])
@pytest.mark.parametrize(
    "target",
    ["/bucket?max-keys=", "/bucket?uploads&max-uploads=", "/?max-buckets=",
     f"/bucket/key?uploadId={'0' * 32}&part-number-marker=", "/bucket/key?partNumber="],
)  # fmt: skip
async def test_a_number_of_thousands_of_digits_is_an_invalid_argument(
    app: S3App, target: str, digits: str
) -> None:
    answer = await signed_call(app, "GET", target + digits)
    assert (answer.status, answer.code) == (400, "InvalidArgument")


async def test_deleting_many_keys_without_a_catalog_names_each_key(
    app: S3App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise CatalogUnavailable("restarting")

    monkeypatch.setattr(app._objects, "delete", away)
    keys = "".join(f"<Object><Key>k{n}</Key></Object>" for n in range(3))
    document = f"<Delete>{keys}</Delete>".encode()
    checked = {"content-md5": b64encode(md5(document).digest()).decode()}
    answer = await signed_call(app, "POST", "/bucket?delete", checked, document)
    assert answer.status == 200
    assert answer.body.count(b"<Code>ServiceUnavailable</Code>") == 3


@pytest.mark.parametrize("size", [3 << 20, 5 << 20])
async def test_a_client_that_leaves_a_download_is_no_error_of_ours(
    app: S3App, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    await signed_call(app, "PUT", "/bucket/large", {}, bytes(size))
    target, headers = sign("GET", "/bucket/large")
    sent = 0

    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))
        if sent:
            raise ClientDisconnected

    with pytest.raises(ClientDisconnected):
        await app(scope_of("GET", target, headers), receive, send)
    assert 0 < sent < size
    assert not caplog.records
