"""Who may see what: anonymous and foreign callers, canned ACLs, changed presigned URLs."""

from urllib.parse import parse_qsl, unquote

import pytest

from gateway.s3.access import Action
from gateway.s3.app import S3App
from gateway.s3.exchange import Exchange, Reply
from gateway.s3.handlers import HANDLERS, Handler
from gateway.s3.operations import GetObject
from gateway.s3.subresources import BUCKET_PARAMETERS, OBJECT_PARAMETERS
from tests.conformance.s3_server import ALICE, BOB, CREDENTIALS
from tests.protocol.s3_asgi import Answer, call, make_app, sign, signed_call

BODY = b"nobody's business"
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
# An upload in progress in each bucket: its id is known to the attacker.
BUCKETS = ("secret", "open")


@pytest.fixture
async def app() -> S3App:
    app = await make_app()
    await signed_call(app, "PUT", "/secret")
    await signed_call(app, "PUT", "/open", {"x-amz-acl": "public-read"})
    for bucket, acl in zip(BUCKETS, ("private", "public-read"), strict=True):
        put = await signed_call(app, "PUT", f"/{bucket}/a%20key", {"x-amz-acl": acl}, BODY)
        assert put.status == 200
    return app


async def begin_upload(app: S3App, bucket: str) -> str:
    answer = await signed_call(app, "POST", f"/{bucket}/a%20key?uploads")
    return answer.body.decode().partition("<UploadId>")[2].partition("<")[0]


async def as_bob(app: S3App, method: str, target: str, headers: dict[str, str]) -> Answer:
    """Signed by another account."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.protocol.s3_asgi.ALICE", BOB)
        target, headers = sign(method, target, headers)
    return await call(app, method, target, headers)


def requests(bucket: str, upload: str) -> list[tuple[str, str]]:
    """Every method at every sub-resource of a bucket and of its object."""
    found = []
    for path, names in (
        (f"/{bucket}", BUCKET_PARAMETERS),
        (f"/{bucket}/a%20key", OBJECT_PARAMETERS),
    ):
        targets = [path, f"{path}?list-type=2", *(f"{path}?{name}" for name in sorted(names))]
        targets += [f"{path}?uploadId={upload}", f"{path}?partNumber=1&uploadId={upload}"]
        found += [(method, target) for target in targets for method in METHODS]
    return found


@pytest.mark.parametrize("who", ["anonymous", "bob"])
@pytest.mark.parametrize("bucket", BUCKETS)
async def test_a_stranger_reads_public_buckets_and_changes_nothing(
    app: S3App, who: str, bucket: str
) -> None:
    upload = await begin_upload(app, bucket)
    seen = set()
    for method, target in requests(bucket, upload):
        headers = {"content-length": "0"} if method in ("PUT", "POST") else {}
        if who == "anonymous":
            answer = await call(app, method, target, headers)
        else:
            answer = await as_bob(app, method, target, headers)
        if answer.status < 300:
            assert bucket == "open", (method, target)
            assert method in ("GET", "HEAD"), (method, target)
            seen.add(target.partition("?")[2])
        else:
            assert BODY not in answer.body
            assert upload.encode() not in answer.body or upload in target
    # What a stranger gets of a public bucket: lists of objects and uploads, and public objects with
    # their attributes; no settings and no tags.
    settings = {"acl", "policy", "policyStatus", "lifecycle", "cors", "logging", "tagging",
                "notification", "replication", "encryption", "versioning"}  # fmt: skip
    assert ("" in seen) is (bucket == "open")
    assert not seen & settings
    for name in BUCKETS:
        answer = await signed_call(app, "GET", f"/{name}/a%20key")
        assert answer.body == BODY
    assert (await signed_call(app, "GET", f"/{bucket}/a%20key?uploadId={upload}")).status == 200
    policy = await signed_call(app, "GET", f"/{bucket}?acl")
    assert (b"AllUsers" in policy.body) is (bucket == "open")


async def test_a_copy_does_not_reach_into_a_private_bucket(app: S3App) -> None:
    headers = {"x-amz-copy-source": "/secret/a%20key", "content-length": "0"}
    assert (await as_bob(app, "PUT", "/bobs", {"content-length": "0"})).status == 200
    answer = await as_bob(app, "PUT", "/bobs/stolen", headers)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    headers["x-amz-copy-source"] = "/open/a%20key"
    assert (await as_bob(app, "PUT", "/bobs/taken", headers)).status == 200


@pytest.mark.parametrize("target", ["/secret", "/secret/a%20key"])
async def test_a_canned_acl_opens_and_closes_one_thing_alone(app: S3App, target: str) -> None:
    other = "/secret/a%20key" if target == "/secret" else "/secret"
    for acl, status in (("public-read", 200), ("private", 403), ("public-read", 200)):
        empty = {"x-amz-acl": acl, "content-length": "0"}
        assert (await signed_call(app, "PUT", f"{target}?acl", empty)).status == 200
        assert (await call(app, "GET", target)).status == status
        assert (await call(app, "GET", other)).status == 403
    empty = {"x-amz-acl": "authenticated-read", "content-length": "0"}
    assert (await signed_call(app, "PUT", f"{target}?acl", empty)).status == 200
    assert (await call(app, "GET", target)).status == 403
    assert (await as_bob(app, "GET", target, {})).status == 200


async def test_a_bucket_open_as_a_whole_is_closed_by_any_list(app: S3App) -> None:
    await app._objects.configure_bucket("secret", public=True)
    assert (await call(app, "GET", "/secret/a%20key")).body == BODY
    assert b"AllUsers" in (await signed_call(app, "GET", "/secret?acl")).body
    empty = {"x-amz-acl": "private", "content-length": "0"}
    assert (await signed_call(app, "PUT", "/secret?acl", empty)).status == 200
    for target in ("/secret", "/secret/a%20key"):
        assert (await call(app, "GET", target)).status == 403


async def test_a_handler_that_asks_nothing_shows_nothing(
    app: S3App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forgetful(exchange: Exchange, operation: GetObject) -> Reply:
        del exchange, operation
        return Reply(200, body=BODY)

    monkeypatch.setitem(HANDLERS, GetObject, Handler(Action.READ, forgetful))
    answer = await signed_call(app, "GET", "/secret/a%20key")
    assert (answer.status, BODY in answer.body) == (500, False)


# ---------------------------------------------------------------- presigned URLs
def meaning(target: str) -> tuple[str, list[tuple[str, str]]]:
    path, _, query = target.partition("?")
    return unquote(path), sorted(parse_qsl(query, keep_blank_values=True))


@pytest.mark.parametrize("scheme", ["v4-query", "v2-query"])
async def test_a_presigned_url_opens_as_it_is_and_in_no_other_way(app: S3App, scheme: str) -> None:
    target, headers = sign("GET", "/secret/a%20key", scheme=scheme)
    given = {"host": headers["host"]} if "host" in headers else {}
    assert (await call(app, "GET", target, given)).body == BODY
    for at in range(1, len(target)):
        for other in {"a", "0", "%", "&", "A"} - {target[at]}:
            changed = target[:at] + other + target[at + 1 :]
            if meaning(changed) == meaning(target):
                continue
            answer = await call(app, "GET", changed, given)
            assert answer.status >= 400, changed
            assert BODY not in answer.body
    for method in ("HEAD", "PUT", "DELETE", "POST"):
        assert (await call(app, method, target, given)).status in (403, 405, 501)
    for more in ("&versionId=null", "&acl", "&response-content-type=text%2Fhtml", "&uploads"):
        assert (await call(app, "GET", target + more, given)).status >= 400
    for name in ("x-amz-copy-source", "x-amz-acl", "x-amz-security-token"):
        assert (await call(app, "GET", target, given | {name: "x"})).status >= 400


@pytest.mark.parametrize("scheme", ["v4-query", "v2-query"])
async def test_a_presigned_url_of_a_stranger_or_of_yesterday_opens_nothing(
    app: S3App, scheme: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.protocol.s3_asgi.ALICE", BOB)
        target, headers = sign("GET", "/secret/a%20key", scheme=scheme)
    given = {"host": headers["host"]} if "host" in headers else {}
    assert (await call(app, "GET", target, given)).code == "AccessDenied"
    target, headers = sign("GET", "/secret/a%20key", scheme=scheme, expires=1)
    app._clock.now += 2  # type: ignore[attr-defined]
    answer = await call(app, "GET", target, given)
    assert (answer.status, BODY in answer.body) == (403, False)


async def test_a_key_pair_that_was_taken_away_opens_nothing(app: S3App) -> None:
    target, headers = sign("GET", "/secret/a%20key")
    assert (await call(app, "GET", target, headers)).body == BODY
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(CREDENTIALS, ALICE.access_key)
        answer = await call(app, "GET", target, headers)
    assert (answer.status, answer.code) == (403, "InvalidAccessKeyId")
