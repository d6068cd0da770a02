"""Lifecycle configurations over HTTP, and what replies say of them."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from gateway.s3.app import S3App
from tests.protocol.s3_asgi import make_app, signed_call
from tests.unit.object_parts import FakeClock

STORED = datetime.fromtimestamp(FakeClock().now_ns() / 1e9, UTC)  # when everything is stored
RULES = "<Rule><ID>{}</ID><Filter>{}</Filter><Status>Enabled</Status>{}</Rule>"
ABORT = (
    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation>"
    "</AbortIncompleteMultipartUpload>"
)
ONE_DAY = "<Expiration><Days>1</Days></Expiration>"
HEADER = "x-amz-transition-default-minimum-object-size"


async def app_with(*rules: str) -> S3App:
    app = await make_app()
    assert (await signed_call(app, "PUT", "/bucket")).status == 200
    await configure(app, *rules)
    return app


async def configure(app: S3App, *rules: str) -> None:
    body = f"<LifecycleConfiguration>{''.join(rules)}</LifecycleConfiguration>".encode()
    assert (await signed_call(app, "PUT", "/bucket?lifecycle", {}, body)).status == 200


def rule_of(name: str, where: str, action: str) -> str:
    return RULES.format(name, where, action)


async def test_the_least_size_of_a_transition_is_said_back() -> None:
    app = await app_with(rule_of("r", "", ONE_DAY))
    got = await signed_call(app, "GET", "/bucket?lifecycle")
    assert got.headers[HEADER] == "all_storage_classes_128K"
    put = await signed_call(
        app, "PUT", "/bucket?lifecycle", {HEADER: "varies_by_storage_class"}, got.body
    )
    assert (put.status, put.headers[HEADER]) == (200, "varies_by_storage_class")
    got = await signed_call(app, "GET", "/bucket?lifecycle")
    assert got.headers[HEADER] == "varies_by_storage_class"
    wrong = await signed_call(app, "PUT", "/bucket?lifecycle", {HEADER: "value"}, got.body)
    assert (wrong.status, wrong.code) == (400, "InvalidRequest")
    assert b"Invalid TransitionDefaultMinimumObjectSize found: value" in wrong.body


async def test_an_object_says_when_it_expires_and_by_which_rule() -> None:
    app = await app_with(rule_of("Delete after 1 day, &quot;at once&quot; é", "", ONE_DAY))
    put = await signed_call(app, "PUT", "/bucket/k", {}, b"x")
    for method in ("GET", "HEAD", None):
        reply = put if method is None else await signed_call(app, method, "/bucket/k")
        match = re.fullmatch(
            'expiry-date="(.+)", rule-id="(.+)"', reply.headers["x-amz-expiration"]
        )
        assert match is not None
        assert match[2] == "Delete after 1 day, %22at once%22 %C3%A9"
        when = parsedate_to_datetime(match[1])
        assert (when - STORED).days == 1
        assert (when.hour, when.minute, when.second) == (0, 0, 0)
    copied = await signed_call(app, "PUT", "/bucket/copy", {"x-amz-copy-source": "bucket/k"})
    assert copied.headers["x-amz-expiration"] == put.headers["x-amz-expiration"]
    ranged = await signed_call(app, "GET", "/bucket/k", {"range": "bytes=0-0"})
    assert ranged.headers["x-amz-expiration"] == put.headers["x-amz-expiration"]
    # The version that is asked for by its name has no such date.
    named = await signed_call(app, "HEAD", "/bucket/k?versionId=null")
    assert "x-amz-expiration" not in named.headers


async def test_tags_decide_what_is_said() -> None:
    two = (
        "<And><Tag><Key>k</Key><Value>v</Value></Tag><Tag><Key>l</Key><Value>w</Value></Tag></And>"
    )
    app = await app_with(rule_of("r", two, ONE_DAY))
    put = await signed_call(app, "PUT", "/bucket/k", {"x-amz-tagging": "k=v"}, b"x")
    assert "x-amz-expiration" not in put.headers
    tags = (
        b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag><Tag><Key>l</Key>"
        b"<Value>w</Value></Tag></TagSet></Tagging>"
    )
    assert (await signed_call(app, "PUT", "/bucket/k?tagging", {}, tags)).status == 200
    assert "x-amz-expiration" in (await signed_call(app, "HEAD", "/bucket/k")).headers
    assert (await signed_call(app, "DELETE", "/bucket?lifecycle")).status == 204
    assert "x-amz-expiration" not in (await signed_call(app, "HEAD", "/bucket/k")).headers


async def test_an_upload_says_when_it_is_given_up() -> None:
    app = await app_with(rule_of("gone", "<Prefix>a/</Prefix>", ABORT))
    begun = await signed_call(app, "POST", "/bucket/a/k?uploads")
    upload = begun.body.decode().partition("<UploadId>")[2].partition("<")[0]
    listed = await signed_call(app, "GET", f"/bucket/a/k?uploadId={upload}")
    for reply in (begun, listed):
        assert reply.headers["x-amz-abort-rule-id"] == "gone"
        when = parsedate_to_datetime(reply.headers["x-amz-abort-date"])
        after = when - STORED
        assert timedelta(days=2) <= after < timedelta(days=3)
        assert (when.hour, when.minute, when.second) == (0, 0, 0)
    other = await signed_call(app, "POST", "/bucket/b/k?uploads")
    assert "x-amz-abort-date" not in other.headers
