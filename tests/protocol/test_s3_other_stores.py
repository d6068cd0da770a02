"""Answers that clients know from other stores and on which AWS is silent or alone."""

import json
import re
from typing import Any

import pytest

from gateway.s3.app import S3App
from tests.protocol.s3_asgi import call, make_app, sign, signed_call

CORS = (
    b"<CORSConfiguration><CORSRule><AllowedOrigin>http://page.test</AllowedOrigin>"
    b"<AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>"
)
ASKS = {"origin": "http://page.test", "access-control-request-method": "PUT"}


@pytest.fixture
async def app() -> S3App:
    app = await make_app()
    assert (await signed_call(app, "PUT", "/bucket")).status == 200
    return app


# ------------------------------------------------------------------ pages of other origins
async def test_a_browser_may_ask_before_it_uses_a_presigned_url(app: S3App) -> None:
    await signed_call(app, "PUT", "/bucket?cors", {}, CORS)
    for scheme in ("v4-query", "v2-query"):
        target, _ = sign("PUT", "/bucket/key", {}, scheme=scheme)
        answer = await call(app, "OPTIONS", target, ASKS)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (
            200, "http://page.test"
        )  # fmt: skip
        for missing in ASKS:
            rest = {name: value for name, value in ASKS.items() if name != missing}
            assert (await call(app, "OPTIONS", target, rest)).status == 400


async def test_a_request_may_say_itself_what_a_preflight_says(app: S3App) -> None:
    await signed_call(app, "PUT", "/bucket?cors", {}, CORS)
    for method, allowed in (("PUT", True), ("GET", False)):
        headers = ASKS | {"access-control-request-method": method}
        answer = await signed_call(app, "GET", "/bucket", headers)
        assert ("access-control-allow-origin" in answer.headers) is allowed


# ------------------------------------------------------------------ conditions
async def test_a_write_may_be_refused_for_one_entity_tag(app: S3App) -> None:
    put = await signed_call(app, "PUT", "/bucket/key", {}, b"1")
    same, other = {"if-none-match": put.headers["etag"]}, {"if-none-match": '"another"'}
    refused = await signed_call(app, "PUT", "/bucket/key", same, b"2")
    assert (refused.status, refused.code) == (412, "PreconditionFailed")
    assert (await signed_call(app, "PUT", "/bucket/key", other, b"2")).status == 200
    assert (await signed_call(app, "GET", "/bucket/key")).body == b"2"
    assert (await signed_call(app, "PUT", "/bucket/key", same, b"1")).status == 200
    assert (await signed_call(app, "PUT", "/bucket/new", same, b"1")).status == 200


# ------------------------------------------------------------------ lists
async def test_the_prefix_of_a_first_list_reads_the_same_decoded_or_not(app: S3App) -> None:
    for prefix, shown in (("%0A", "&#10;"), ("a%20b", "a b"), ("a%2Bb", "a%2Bb"), ("%01", "%01")):
        for listing, url in (("", shown), ("&list-type=2", prefix)):
            target = f"/bucket?encoding-type=url{listing}&prefix={prefix}"
            answer = await signed_call(app, "GET", target)
            found = re.search(r"<Prefix>(.*?)</Prefix>", answer.body.decode(), re.DOTALL)
            assert found
            assert found[1] == url


async def test_an_empty_token_is_a_first_page_and_unordered_pages_have_no_groups(
    app: S3App,
) -> None:
    await signed_call(app, "PUT", "/bucket/key", {}, b"1")
    answer = await signed_call(app, "GET", "/bucket?list-type=2&continuation-token=")
    assert b"<ContinuationToken></ContinuationToken>" in answer.body
    assert b"<Key>key</Key>" in answer.body
    for listing in ("", "&list-type=2"):
        target = f"/bucket?allow-unordered=true{listing}"
        assert b"<Key>key</Key>" in (await signed_call(app, "GET", target)).body
        assert (await signed_call(app, "GET", f"{target}&delimiter=%2F")).code == "InvalidArgument"


# ------------------------------------------------------------------ names and headers
@pytest.mark.parametrize("name", ["foo-.bar", "foo.-bar", "foo..bar", "foo-"])
async def test_a_bucket_s_labels_are_those_of_the_dns(name: str) -> None:
    answer = await signed_call(await make_app(), "PUT", f"/{name}")
    assert (answer.status, answer.code) == (400, "InvalidBucketName")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("deflate, gzip", "deflate, gzip"), ("aws-chunked,gzip", "gzip"), ("aws-chunked", None)],
)
async def test_an_encoding_is_given_back_as_it_came(
    app: S3App, given: str, kept: str | None
) -> None:
    await signed_call(app, "PUT", "/bucket/key", {"content-encoding": given}, b"1")
    head = await signed_call(app, "HEAD", "/bucket/key")
    assert head.headers.get("content-encoding") == kept


async def test_tags_come_in_order_of_their_names(app: S3App) -> None:
    await signed_call(app, "PUT", "/bucket/key", {"x-amz-tagging": "b=2&a=1"}, b"1")
    body = (await signed_call(app, "GET", "/bucket/key?tagging")).body
    assert re.findall(rb"<Key>(.)</Key>", body) == [b"a", b"b"]


# ------------------------------------------------------------------ uploads in parts
async def test_parts_are_told_in_pages(app: S3App) -> None:
    begun = await signed_call(app, "POST", "/bucket/key?uploads")
    upload = begun.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    body, rows = bytes(5 << 20), ""
    for number in (2, 5, 9):
        part = await signed_call(
            app, "PUT", f"/bucket/key?partNumber={number}&uploadId={upload}", {}, body
        )
        etag = part.headers["etag"]
        rows += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
    empty = await signed_call(app, "POST", f"/bucket/key?uploadId={upload}")
    assert (empty.status, empty.code) == (400, "MalformedXML")
    document = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
    done = await signed_call(app, "POST", f"/bucket/key?uploadId={upload}", {}, document)
    assert done.status == 200, done.body

    async def page(**headers: str) -> tuple[Any, ...]:
        asked = {f"x-amz-{name.replace('_', '-')}": value for name, value in headers.items()}
        asked["x-amz-object-attributes"] = "ObjectParts"
        text = (await signed_call(app, "GET", "/bucket/key?attributes", asked)).body.decode()
        values = [
            text.partition(f"<{name}>")[2].partition("<")[0]
            for name in ("IsTruncated", "PartNumberMarker", "NextPartNumberMarker")
        ]
        assert "<PartsCount>3</PartsCount>" in text
        return re.findall(r"<PartNumber>(\d+)</PartNumber>", text), *values

    assert await page() == (["2", "5", "9"], "false", "0", "9")
    assert await page(max_parts="1", part_number_marker="2") == (["5"], "true", "2", "5")
    assert await page(max_parts="9", part_number_marker="5") == (["9"], "false", "5", "9")
    assert await page(part_number_marker="9") == ([], "false", "9", "")
    assert await page(max_parts="0") == ([], "false", "0", "")
    wrong = {"x-amz-object-attributes": "ObjectParts", "x-amz-max-parts": "-1"}
    answer = await signed_call(app, "GET", "/bucket/key?attributes", wrong)
    assert (answer.status, answer.code) == (400, "InvalidArgument")


async def test_a_range_outside_of_a_copy_s_source_is_no_range(app: S3App) -> None:
    await signed_call(app, "PUT", "/bucket/source", {}, b"12345")
    begun = await signed_call(app, "POST", "/bucket/key?uploads")
    upload = begun.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    target = f"/bucket/key?partNumber=1&uploadId={upload}"
    for given, code in (("bytes=0-21", "InvalidRange"), ("0-2", "InvalidArgument")):
        headers = {"x-amz-copy-source": "/bucket/source", "x-amz-copy-source-range": given}
        answer = await signed_call(app, "PUT", target, headers)
        assert (answer.status, answer.code) == (400, code)


# ------------------------------------------------------------------ policies
def allow(**more: object) -> bytes:
    statement = {"Effect": "Allow", "Principal": "*"} | more
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()


async def test_who_may_list_a_prefix_hears_what_is_not_there(app: S3App) -> None:
    policy = allow(
        Action="s3:ListBucket",
        Resource="arn:aws:s3:::bucket",
        Condition={"StringLike": {"s3:prefix": "public/*"}},
    )
    assert (await signed_call(app, "PUT", "/bucket?policy", {}, policy)).status == 204
    for method in ("GET", "HEAD"):
        assert (await call(app, method, "/bucket/public/none")).status == 404
        assert (await call(app, method, "/bucket/private/none")).status == 403


async def test_a_policy_may_name_a_service_and_gives_nobody_anything_by_it(app: S3App) -> None:
    policy = allow(
        Principal={"Service": "logging.s3.amazonaws.com"},
        Action="s3:*",
        Resource=["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"],
        Condition={"ArnLike": {"aws:SourceArn": "arn:aws:s3:::other"}},
    )
    assert (await signed_call(app, "PUT", "/bucket?policy", {}, policy)).status == 204
    assert (await call(app, "GET", "/bucket")).status == 403
    status = (await signed_call(app, "GET", "/bucket?policyStatus")).body
    assert b"<IsPublic>false</IsPublic>" in status
    for wrong in ("logging.s3.amazonaws.com/x", "", "*"):
        policy = allow(Principal={"Service": wrong}, Action="s3:*", Resource="arn:aws:s3:::bucket")
        answer = await signed_call(app, "PUT", "/bucket?policy", {}, policy)
        assert answer.code == "MalformedPolicy"


async def test_no_object_has_a_torrent(app: S3App) -> None:
    await signed_call(app, "PUT", "/bucket/key", {}, b"1")
    answer = await signed_call(app, "GET", "/bucket/key?torrent")
    assert (answer.status, answer.code) == (404, "NoSuchKey")
