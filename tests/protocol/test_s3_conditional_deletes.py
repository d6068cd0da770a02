"""Deletions on conditions: entity tag, size and time, of a key or of a version."""

import pytest

from gateway.s3.app import S3App
from tests.protocol.s3_asgi import make_app, signed_call

VERSIONED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
SIZE, TIME = "x-amz-if-match-size", "x-amz-if-match-last-modified-time"


async def with_object() -> tuple[S3App, dict[str, str]]:
    """The application, and headers that say what /bucket/key is."""
    app = await make_app()
    await signed_call(app, "PUT", "/bucket")
    await signed_call(app, "PUT", "/bucket/key", {}, b"12345")
    head = (await signed_call(app, "HEAD", "/bucket/key")).headers
    return app, {"if-match": head["etag"], SIZE: "5", TIME: head["last-modified"]}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("if-match", '"0"'), (SIZE, "6"), (TIME, "Mon, 21 Sep 2020 14:13:20 GMT")],
)
async def test_a_key_goes_only_if_it_is_what_was_said(name: str, wrong: str) -> None:
    app, said = await with_object()
    # There is nothing to lose where there is nothing.
    assert (await signed_call(app, "DELETE", "/bucket/none", {name: wrong})).status == 204
    refused = await signed_call(app, "DELETE", "/bucket/key", {name: wrong})
    assert (refused.status, refused.code) == (412, "PreconditionFailed")
    assert (await signed_call(app, "HEAD", "/bucket/key")).status == 200
    assert (await signed_call(app, "DELETE", "/bucket/key", {name: said[name]})).status == 204
    assert (await signed_call(app, "HEAD", "/bucket/key")).status == 404


async def test_a_version_is_judged_by_itself_and_not_by_the_latest() -> None:
    app, said = await with_object()
    await signed_call(app, "PUT", "/bucket?versioning", {}, VERSIONED)
    second = await signed_call(app, "PUT", "/bucket/key", {}, b"another")
    old = "/bucket/key?versionId=null"
    for headers in ({"if-match": second.headers["etag"]}, {SIZE: "7"}):
        assert (await signed_call(app, "DELETE", old, headers)).status == 412
    assert (await signed_call(app, "DELETE", old, said)).status == 204
    assert (await signed_call(app, "GET", old)).status == 404
    assert (await signed_call(app, "GET", "/bucket/key")).body == b"another"


async def test_each_entry_of_a_batch_has_its_own_conditions() -> None:
    app, said = await with_object()
    for key in ("a", "b", "c"):
        await signed_call(app, "PUT", f"/bucket/{key}", {}, b"12345")
    entries = [
        f"<Key>a</Key><ETag>{said['if-match']}</ETag>",
        "<Key>b</Key><Size>6</Size>",
        f"<Key>c</Key><LastModifiedTime>{said[TIME]}</LastModifiedTime><Size>5</Size>",
        "<Key>key</Key><Size>many</Size>",
        "<Key>none</Key><LastModifiedTime>2026-01-01T00:00:00Z</LastModifiedTime>",
    ]
    document = "".join(f"<Object>{entry}</Object>" for entry in entries)
    answer = await signed_call(
        app, "POST", "/bucket?delete", {}, f"<Delete>{document}</Delete>".encode()
    )
    assert answer.body.count(b"<Deleted>") == 3
    assert answer.body.count(b"<Code>PreconditionFailed</Code>") == 1
    assert answer.body.count(b"<Code>InvalidArgument</Code>") == 1
    listed = await signed_call(app, "GET", "/bucket")
    assert [name in listed.body for name in (b">a<", b">b<", b">c<", b">key<")] == [
        False, True, False, True
    ]  # fmt: skip


@pytest.mark.parametrize("header", [{SIZE: "-1"}, {SIZE: "1e3"}, {TIME: "yesterday"}, {TIME: ""}])
async def test_what_is_no_size_or_time_deletes_nothing(header: dict[str, str]) -> None:
    app, _ = await with_object()
    answer = await signed_call(app, "DELETE", "/bucket/key", header)
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert (await signed_call(app, "HEAD", "/bucket/key")).status == 200
