"""RenameObject: one commit, all or nothing."""

import pytest

from gateway.s3.addressing import parse_rename_source
from gateway.s3.app import S3App
from tests.protocol.s3_asgi import Answer, make_app, signed_call


async def with_objects() -> S3App:
    app = await make_app()
    await signed_call(app, "PUT", "/bucket")
    given = {"x-amz-meta-who": "ann", "x-amz-tagging": "k=v", "content-type": "text/x"}
    for key, size in (("small", 100), ("large", 3_000_000)):
        await signed_call(app, "PUT", f"/bucket/{key}", given, bytes([7]) * size)
    await signed_call(app, "PUT", "/bucket/there", {}, b"there")
    return app


async def rename(app: S3App, source: str, key: str, **headers: str) -> Answer:
    given = {"x-amz-rename-source": source} | {n.replace("_", "-"): v for n, v in headers.items()}
    return await signed_call(app, "PUT", f"/bucket/{key}?renameObject", given)


@pytest.mark.parametrize("key", ["small", "large"])
async def test_an_object_has_another_key_and_all_else_stays(key: str) -> None:
    app = await with_objects()
    before = await signed_call(app, "GET", f"/bucket/{key}")
    assert (await rename(app, key, "new/name")).status == 200
    after = await signed_call(app, "GET", "/bucket/new/name")
    assert after.body == before.body
    for name in ("etag", "last-modified", "content-type", "x-amz-meta-who", "x-amz-tagging-count"):
        assert after.headers[name] == before.headers[name]
    assert (await signed_call(app, "GET", f"/bucket/{key}")).code == "NoSuchKey"
    back = await rename(app, "/bucket/new%2Fname", key)
    assert (back.status, (await signed_call(app, "GET", f"/bucket/{key}")).body) == (
        200, before.body
    )  # fmt: skip


async def test_a_rename_replaces_unless_told_not_to() -> None:
    app = await with_objects()
    refused = await rename(app, "small", "there", if_none_match="*")
    assert (refused.status, refused.code) == (412, "PreconditionFailed")
    assert (await signed_call(app, "GET", "/bucket/there")).body == b"there"
    assert (await rename(app, "small", "there")).status == 200
    assert (await signed_call(app, "GET", "/bucket/there")).body == bytes([7]) * 100


@pytest.mark.parametrize(
    ("source", "headers", "status", "code"),
    [
        ("none", {}, 404, "NoSuchKey"),
        ("", {}, 400, "InvalidArgument"),
        ("x", {}, 400, "InvalidRequest"),
        ("small", {"x-amz-rename-source-if-match": '"0"'}, 412, "PreconditionFailed"),
        ("%zz", {}, 400, "InvalidURI"),
    ],
)
async def test_what_cannot_be_renamed_stays(
    source: str, headers: dict[str, str], status: int, code: str
) -> None:
    app = await with_objects()
    answer = await rename(app, source, "x", **headers)
    assert (answer.status, answer.code) == (status, code)
    assert (await signed_call(app, "GET", "/bucket/small")).status == 200
    assert (await signed_call(app, "GET", "/bucket/x")).status == 404


async def test_with_versions_the_old_key_gets_a_marker() -> None:
    app = await with_objects()
    state = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    await signed_call(app, "PUT", "/bucket?versioning", {}, state)
    put = await signed_call(app, "PUT", "/bucket/a", {}, b"a")
    assert (await rename(app, "a", "b")).headers["x-amz-version-id"]
    assert (await signed_call(app, "GET", "/bucket/a")).headers["x-amz-delete-marker"] == "true"
    kept = await signed_call(app, "GET", f"/bucket/a?versionId={put.headers['x-amz-version-id']}")
    assert (kept.body, (await signed_call(app, "GET", "/bucket/b")).body) == (b"a", b"a")


def test_a_source_is_a_key_with_or_without_its_bucket() -> None:
    for value in ("a%20b", "/a%20b", "bucket/a%20b", "/bucket/a%20b"):
        assert parse_rename_source(value, "bucket") == "a b"
