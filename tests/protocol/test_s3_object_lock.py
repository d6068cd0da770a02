"""Object lock over HTTP: documents, headers, what is refused and what is told."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from gateway.s3.app import S3App
from tests.protocol.s3_asgi import Answer, make_app, signed_call

Call = Callable[..., Any]
# The store's clock stands in 2027; the front end's at an earlier time.
SOON = datetime(2027, 6, 1, tzinfo=UTC)
ON = b"<LegalHold><Status>ON</Status></LegalHold>"
OFF = b"<LegalHold><Status>OFF</Status></LegalHold>"
MODE, UNTIL = "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"
HOLD = "x-amz-object-lock-legal-hold"
BYPASS = {"x-amz-bypass-governance-retention": "true"}
MD5 = {"content-md5": "xMpCOKC5I4INzFCab3WEmw=="}  # of b"1"


def date(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def retention(mode: str, until: datetime) -> bytes:
    return (
        f"<Retention><Mode>{mode}</Mode><RetainUntilDate>{date(until)}</RetainUntilDate>"
        "</Retention>"
    ).encode()


def configuration(mode: str, days: int) -> bytes:
    return (
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>"
        f"<DefaultRetention><Mode>{mode}</Mode><Days>{days}</Days></DefaultRetention></Rule>"
        "</ObjectLockConfiguration>"
    ).encode()


@pytest.fixture
async def app() -> S3App:
    app = await make_app()
    headers = {"x-amz-bucket-object-lock-enabled": "true"}
    assert (await signed_call(app, "PUT", "/bucket", headers)).status == 200
    return app


@pytest.fixture
def call(app: S3App) -> Call:
    return partial(signed_call, app)


async def put(call: Call, **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer: Answer = await call("PUT", "/bucket/k", MD5 | named, b"1")
    assert answer.status == 200, answer.body
    return answer.headers["x-amz-version-id"]


async def test_a_bucket_made_with_it_has_versioning_that_stays(call: Call) -> None:
    assert b"<Status>Enabled</Status>" in (await call("GET", "/bucket?versioning")).body
    got = await call("GET", "/bucket?object-lock")
    assert b"<ObjectLockEnabled>Enabled</ObjectLockEnabled></" in got.body
    suspended = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
    answer = await call("PUT", "/bucket?versioning", {}, suspended)
    assert (answer.status, answer.code) == (409, "InvalidBucketState")


async def test_a_bucket_without_it_says_so(call: Call) -> None:
    await call("PUT", "/other")
    await call("PUT", "/other/k", {}, b"1")
    for name in ("retention", "legal-hold"):
        for method, body in (("GET", b""), ("PUT", ON)):
            answer = await call(method, f"/other/k?{name}", {}, body)
            assert (answer.status, answer.code) == (400, "InvalidRequest")
    answer = await call("PUT", "/other/k", MD5 | {HOLD: "ON"}, b"1")
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    answer = await call("PUT", "/other?object-lock", {}, configuration("GOVERNANCE", 1))
    assert (answer.status, answer.code) == (409, "InvalidBucketState")
    answer = await call("GET", "/other?object-lock")
    assert (answer.status, answer.code) == (404, "ObjectLockConfigurationNotFoundError")


async def test_headers_of_an_upload_are_echoed_and_bind(call: Call) -> None:
    name = await put(
        call, x_amz_object_lock_mode="COMPLIANCE",
        x_amz_object_lock_retain_until_date="2027-06-01T02:00:00+02:00",
        x_amz_object_lock_legal_hold="OFF",
    )  # fmt: skip
    for method in ("GET", "HEAD"):
        got = await call(method, f"/bucket/k?versionId={name}")
        assert (got.headers[MODE], got.headers[HOLD]) == ("COMPLIANCE", "OFF")
        assert got.headers[UNTIL] == "2027-06-01T00:00:00.000Z"
    for headers in ({}, BYPASS):
        refused = await call("DELETE", f"/bucket/k?versionId={name}", headers)
        assert (refused.status, refused.code) == (403, "AccessDenied")
    batch = f"<Delete><Object><Key>k</Key><VersionId>{name}</VersionId></Object></Delete>"
    answer = await call("POST", "/bucket?delete", BYPASS, batch.encode())
    assert b"<Code>AccessDenied</Code>" in answer.body
    assert (await call("DELETE", "/bucket/k")).headers["x-amz-delete-marker"] == "true"
    assert (await call("DELETE", "/bucket")).code == "BucketNotEmpty"


async def test_governance_is_passed_by_with_the_header(call: Call) -> None:
    name = await put(
        call, x_amz_object_lock_mode="GOVERNANCE", x_amz_object_lock_retain_until_date=date(SOON)
    )
    target = f"/bucket/k?versionId={name}"
    assert (await call("DELETE", target)).status == 403
    answer = await call("DELETE", target, BYPASS)
    assert (answer.status, answer.headers["x-amz-version-id"]) == (204, name)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({MODE: "GOVERNANCE"}, "InvalidArgument"),
        ({UNTIL: date(SOON)}, "InvalidArgument"),
        ({MODE: "governance", UNTIL: date(SOON)}, "InvalidArgument"),
        ({MODE: "GOVERNANCE", UNTIL: "2020-01-01T00:00:00Z"}, "InvalidArgument"),
        ({MODE: "GOVERNANCE", UNTIL: "9999-01-01T00:00:00Z"}, "InvalidArgument"),
        ({MODE: "GOVERNANCE", UNTIL: "2027-06-01"}, "InvalidArgument"),
        ({MODE: "GOVERNANCE", UNTIL: "2027-06-01T00:00:00"}, "InvalidArgument"),
        ({MODE: "GOVERNANCE", UNTIL: "soon"}, "InvalidArgument"),
        ({HOLD: "on"}, "InvalidArgument"),
    ],
)
async def test_a_lock_that_cannot_be_is_refused(
    call: Call, headers: dict[str, str], code: str
) -> None:
    answer = await call("PUT", "/bucket/k", MD5 | headers, b"1")
    assert (answer.status, answer.code) == (400, code)
    answer = await call("POST", "/bucket/k?uploads", headers)
    assert (answer.status, answer.code) == (400, code)


async def test_what_is_kept_long_comes_with_a_checksum(call: Call) -> None:
    locked = {MODE: "GOVERNANCE", UNTIL: date(SOON)}
    assert (await call("PUT", "/bucket/k", locked, b"1")).code == "InvalidRequest"
    assert (await call("PUT", "/bucket/k", {HOLD: "ON"}, b"1")).status == 200
    for proof in (MD5, {"x-amz-checksum-crc32": "g9zvtw=="}):
        assert (await call("PUT", "/bucket/k", locked | proof, b"1")).status == 200
    await call("PUT", "/bucket?object-lock", {}, configuration("GOVERNANCE", 3))
    assert (await call("PUT", "/bucket/k", {}, b"1")).code == "InvalidRequest"
    name = await put(call)
    got = await call("GET", f"/bucket/k?versionId={name}&retention")
    assert b"<Mode>GOVERNANCE</Mode>" in got.body


async def test_a_copy_and_an_upload_in_parts_have_locks_of_their_own(call: Call) -> None:
    await put(call, x_amz_object_lock_legal_hold="ON")
    source = {"x-amz-copy-source": "/bucket/k"}
    plain = await call("PUT", "/bucket/plain", source)
    assert plain.status == 200
    assert HOLD not in (await call("HEAD", "/bucket/plain")).headers
    locked = {MODE: "GOVERNANCE", UNTIL: date(SOON)}
    assert (await call("PUT", "/bucket/copy", source | locked)).status == 200
    assert (await call("HEAD", "/bucket/copy")).headers[MODE] == "GOVERNANCE"
    # Onto itself: the lock is a change.
    assert (
        await call("PUT", "/bucket/plain", {"x-amz-copy-source": "/bucket/plain"})
    ).status == 400
    again = await call("PUT", "/bucket/plain", {"x-amz-copy-source": "/bucket/plain"} | locked)
    assert again.status == 200
    begun = await call("POST", "/bucket/parts?uploads", locked | {HOLD: "ON"})
    upload = begun.body.decode().partition("<UploadId>")[2].partition("<")[0]
    part = await call("PUT", f"/bucket/parts?partNumber=1&uploadId={upload}", {}, b"1")
    document = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
        f"<ETag>{part.headers['etag']}</ETag></Part></CompleteMultipartUpload>"
    )
    done = await call("POST", f"/bucket/parts?uploadId={upload}", {}, document.encode())
    assert done.status == 200, done.body
    got = await call("HEAD", "/bucket/parts")
    assert (got.headers[MODE], got.headers[HOLD]) == ("GOVERNANCE", "ON")


async def test_a_retention_is_put_extended_and_only_bypassed_shorter(call: Call) -> None:
    name = await put(call)
    target = f"/bucket/k?retention&versionId={name}"
    assert (await call("GET", target)).code == "NoSuchObjectLockConfiguration"
    later = SOON + timedelta(days=9)
    for mode, until, headers, status in (
        ("GOVERNANCE", SOON, {}, 200),
        ("GOVERNANCE", later, {}, 200),
        ("GOVERNANCE", SOON, {}, 403),
        ("COMPLIANCE", later, {}, 403),
        ("GOVERNANCE", SOON, BYPASS, 200),
        ("COMPLIANCE", SOON, BYPASS, 200),
        ("COMPLIANCE", later, {}, 200),
        ("COMPLIANCE", SOON, BYPASS, 403),
        ("GOVERNANCE", later, BYPASS, 403),
    ):
        answer = await call("PUT", target, headers, retention(mode, until))
        assert answer.status == status, (mode, until, answer.body)
    got = await call("GET", target)
    assert b"<Mode>COMPLIANCE</Mode><RetainUntilDate>2027-06-10T" in got.body
    assert (await call("PUT", target, BYPASS, b"<Retention/>")).status == 403
    other = await put(call)
    target = f"/bucket/k?retention&versionId={other}"
    await call("PUT", target, {}, retention("GOVERNANCE", SOON))
    assert (await call("PUT", target, {}, b"<Retention/>")).status == 403
    assert (await call("PUT", target, BYPASS, b"<Retention/>")).status == 200
    assert (await call("GET", target)).code == "NoSuchObjectLockConfiguration"
    for garbage in (
        retention("governance", SOON), b"<Retention><Mode>GOVERNANCE</Mode></Retention>", b"<x/>",
    ):  # fmt: skip
        assert (await call("PUT", target, {}, garbage)).code == "MalformedXML"
    past = await call("PUT", target, {}, retention("GOVERNANCE", datetime(2020, 1, 1, tzinfo=UTC)))
    assert past.code == "InvalidArgument"


async def test_a_legal_hold_is_put_and_taken_away(call: Call) -> None:
    name = await put(call)
    target = f"/bucket/k?legal-hold&versionId={name}"
    assert (await call("GET", target)).code == "NoSuchObjectLockConfiguration"
    for body, shown, status in ((ON, b"ON", 403), (OFF, b"OFF", 204)):
        answer = await call("PUT", target, {}, body)
        assert (answer.status, answer.headers["x-amz-version-id"]) == (200, name)
        assert b"<Status>" + shown in (await call("GET", target)).body
        assert (await call("HEAD", "/bucket/k")).headers[HOLD] == shown.decode()
        assert (await call("DELETE", f"/bucket/k?versionId={name}", BYPASS)).status == status
    await put(call)
    for garbage in (b"<LegalHold><Status>on</Status></LegalHold>", b"<LegalHold/>"):
        assert (await call("PUT", "/bucket/k?legal-hold", {}, garbage)).code == "MalformedXML"
    marker = (await call("DELETE", "/bucket/k")).headers["x-amz-version-id"]
    answer = await call("PUT", f"/bucket/k?legal-hold&versionId={marker}", {}, ON)
    assert (answer.status, answer.code) == (405, "MethodNotAllowed")


async def test_a_policy_may_deny_bypassing_and_ask_for_a_mode(call: Call) -> None:
    def deny(action: str, condition: str = "") -> bytes:
        return (
            '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*",'
            f'"Action": "s3:{action}", "Resource": "arn:aws:s3:::bucket/*"{condition}}}]}}'
        ).encode()

    locked = {
        "x_amz_object_lock_mode": "GOVERNANCE",
        "x_amz_object_lock_retain_until_date": date(SOON),
    }
    name = await put(call, **locked)
    answer = await call("PUT", "/bucket?policy", {}, deny("BypassGovernanceRetention"))
    assert answer.status == 204, answer.body
    assert (await call("DELETE", f"/bucket/k?versionId={name}", BYPASS)).status == 403
    condition = (
        ', "Condition": {"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": "1"}}'
    )
    answer = await call("PUT", "/bucket?policy", {}, deny("PutObject", condition))
    assert answer.status == 204, answer.body
    headers = {name.replace("_", "-"): value for name, value in locked.items()}
    assert (await call("PUT", "/bucket/k", MD5 | headers, b"1")).status == 403
    await put(call)


@pytest.mark.parametrize(
    ("parameter", "key", "allowed", "denied"),
    [
        ("retention", "object-lock-mode", ("GOVERNANCE", SOON), ("COMPLIANCE", SOON)),
        ("legal-hold", "object-lock-legal-hold", "OFF", "ON"),
    ],
)
async def test_a_policy_sees_the_lock_that_comes_in_a_body(
    call: Call, parameter: str, key: str, allowed: Any, denied: Any
) -> None:
    def body(given: Any) -> bytes:
        if parameter == "retention":
            return retention(*given)
        return f"<LegalHold><Status>{given}</Status></LegalHold>".encode()

    wrong = denied if isinstance(denied, str) else denied[0]
    action = {"retention": "PutObjectRetention", "legal-hold": "PutObjectLegalHold"}[parameter]
    await put(call)
    policy = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*",'
        f'"Action": "s3:{action}", "Resource": "arn:aws:s3:::bucket/*",'
        f'"Condition": {{"StringEquals": {{"s3:{key}": "{wrong}"}}}}}}]}}'
    )
    assert (await call("PUT", "/bucket?policy", {}, policy.encode())).status == 204
    assert (await call("PUT", f"/bucket/k?{parameter}", {}, body(denied))).status == 403
    assert (await call("GET", f"/bucket/k?{parameter}")).status == 404
    assert (await call("PUT", f"/bucket/k?{parameter}", {}, body(allowed))).status == 200
