"""Uploads by browser forms, signed by boto3 or by nobody."""

import hmac
import json
from base64 import b64encode
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.s3.app import S3App
from gateway.s3.errors import InvalidPolicyDocument, PolicyViolated
from gateway.s3.forms import FormBody
from gateway.s3.post_policy import Condition, PostPolicy, check_post_policy, parse_post_policy
from tests.conformance.s3_server import ALICE
from tests.protocol.s3_asgi import NOW, Answer, call, make_app, moment, signed_call

BOUNDARY = "b0undary"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
LATER = "2099-01-01T00:00:00Z"


def form(fields: dict[str, str], file: bytes = b"file's bytes", name: str = "a/b.txt") -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    end = f"\r\n--{BOUNDARY}--\r\n"
    return "".join(parts).encode() + head.encode() + b"\r\n" + file + end.encode()


def signed(conditions: list[Any], fields: dict[str, str], expires: str = LATER) -> dict[str, str]:
    """The fields with a policy of these conditions, signed by version 2."""
    document = {"expiration": expires, "conditions": conditions}
    policy = b64encode(json.dumps(document).encode()).decode()
    digest = hmac.digest(ALICE.secret_key.encode(), policy.encode(), "sha1")
    proof = {"AWSAccessKeyId": ALICE.access_key, "signature": b64encode(digest).decode()}
    return fields | proof | {"policy": policy}


async def with_bucket() -> S3App:
    app = await make_app()
    assert (await signed_call(app, "PUT", "/bucket")).status == 200
    return app


async def post(app: S3App, fields: dict[str, str], **file: Any) -> Answer:
    return await call(app, "POST", "/bucket", FORM, [form(fields, **file)])


OPEN = [{"bucket": "bucket"}, ["starts-with", "$key", ""]]


async def test_a_form_signed_by_boto3_stores_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    app = await with_bucket()
    monkeypatch.setattr("botocore.auth.get_current_datetime", moment)
    s3 = boto3.client(
        "s3", "us-east-1", aws_access_key_id=ALICE.access_key,
        aws_secret_access_key=ALICE.secret_key, config=Config(signature_version="s3v4"),
        endpoint_url="http://s3.test:9000",
    )  # fmt: skip
    given_fields = {"Content-Type": "text/plain", "x-amz-meta-colour": "blü", "tagging":
                    "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
                    "success_action_status": "201"}  # fmt: skip
    made = s3.generate_presigned_post(
        "bucket", "dir/${filename}", given_fields, [given_fields, ["content-length-range", 1, 20]]
    )
    answer = await post(app, made["fields"])
    assert (answer.status, answer.body.count(b"<Key>dir/b.txt</Key>")) == (201, 1), answer.body
    assert answer.headers["location"] == "http://s3.test:9000/bucket/dir/b.txt"
    got = await signed_call(app, "GET", "/bucket/dir/b.txt")
    assert (got.body, got.headers["content-type"]) == (b"file's bytes", "text/plain")
    assert got.headers["x-amz-meta-colour"] == "=?UTF-8?B?YmzDvA==?="
    assert got.headers["x-amz-tagging-count"] == "1"
    for tampered in ("policy", "x-amz-signature", "x-amz-credential", "x-amz-date"):
        other = made["fields"][tampered]
        refused = await post(app, made["fields"] | {tampered: chr(ord(other[0]) ^ 1) + other[1:]})
        assert refused.status in (400, 403), tampered
        assert refused.code not in ("", "InternalError")


async def test_a_large_file_is_stored_whatever_the_pieces_it_comes_in() -> None:
    app = await with_bucket()
    file = bytes(range(256)) * 9_000 + b"\r\n--b0undar\r\n--b0undary"[:12]
    body = form(signed(OPEN, {"key": "large"}), file)
    for size in (1_000, 65_536, len(body)):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        assert (await call(app, "POST", "/bucket", FORM, pieces)).status == 204
        assert (await signed_call(app, "GET", "/bucket/large")).body == file


@pytest.mark.parametrize(
    ("asked", "status"),
    [({}, 204), ({"success_action_status": "200"}, 200), ({"success_action_status": "404"}, 204)],
)
async def test_the_form_chooses_the_status(asked: dict[str, str], status: int) -> None:
    app = await with_bucket()
    fields = signed([*OPEN, ["starts-with", "$success_action_status", ""]], {"key": "k"} | asked)
    assert (await post(app, fields)).status == status


async def test_the_form_chooses_the_page_that_follows() -> None:
    app = await with_bucket()
    for field in ("success_action_redirect", "redirect"):
        fields = {"key": "k", field: "http://page.test/done?a=1"}
        answer = await post(app, signed([*OPEN, ["starts-with", f"${field}", ""]], fields))
        assert answer.status == 303
        assert answer.headers["location"].startswith(
            "http://page.test/done?a=1&bucket=bucket&key=k&etag=%22"
        )
    script = signed(
        [*OPEN, ["starts-with", "$redirect", ""]], {"key": "k", "redirect": "javascript:1"}
    )
    assert (await post(app, script)).status == 204


RANGE = ["content-length-range", 5, 10]


@pytest.mark.parametrize(
    ("fields", "file", "status", "code"),
    [
        (signed(OPEN, {"key": "k"}, "2000-01-01T00:00:00Z"), b"x", 403, "AccessDenied"),
        (signed(OPEN, {"key": "k"}, "tomorrow"), b"x", 400, "InvalidPolicyDocument"),
        (signed([*OPEN, RANGE], {"key": "k"}), b"x" * 11, 400, "EntityTooLarge"),
        (signed([*OPEN, RANGE], {"key": "k"}), b"x" * 4, 400, "EntityTooSmall"),
        (signed([*OPEN, ["content-length-range", 5]], {"key": "k"}), b"x", 400,
         "InvalidPolicyDocument"),
        (signed([{}], {"key": "k"}), b"x", 400, "InvalidPolicyDocument"),
        (signed(OPEN, {"key": "k", "x-amz-meta-a": "1"}), b"x", 403, "AccessDenied"),
        (signed([*OPEN, ["eq", "$x-amz-meta-a", "1"]], {"key": "k"}), b"x", 403, "AccessDenied"),
        (signed([{"bucket": "other"}, ["eq", "$key", "k"]], {"key": "k"}), b"x", 403,
         "AccessDenied"),
        (signed(OPEN, {}), b"x", 400, "InvalidArgument"),
        (signed(OPEN, {"key": "k"}) | {"signature": "AAAA"}, b"x", 403, "SignatureDoesNotMatch"),
        (signed(OPEN, {"key": "k"}) | {"signature": ""}, b"x", 400, "InvalidArgument"),
        (signed(OPEN, {"key": "k"}) | {"AWSAccessKeyId": "nobody"}, b"x", 403,
         "InvalidAccessKeyId"),
        (signed(OPEN, {"key": "k" * 1025}), b"x", 400, "KeyTooLongError"),
        ({"key": "k"}, b"x", 403, "AccessDenied"),
        (signed([*OPEN, ["starts-with", "$x-amz-checksum-crc32", ""]],
                {"key": "k", "x-amz-checksum-crc32": "AAAAAA=="}), b"x", 400, "BadDigest"),
        (signed([*OPEN, ["starts-with", "$filler", ""]], {"key": "k", "filler": "x" * 20_000}),
         b"x", 400, "MaxPostPreDataLengthExceededError"),
    ],
)  # fmt: skip
async def test_what_is_not_allowed_stores_nothing(
    fields: dict[str, str], file: bytes, status: int, code: str
) -> None:
    app = await with_bucket()
    answer = await post(app, fields, file=file)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert b"<Key>" not in (await signed_call(app, "GET", "/bucket")).body


async def test_a_form_without_a_file_or_cut_short_stores_nothing() -> None:
    app = await with_bucket()
    whole = form(signed(OPEN, {"key": "k"}), b"x" * 1000)
    no_file = whole.replace(b'name="file"', b'name="other"')
    for body, code in ((no_file, "InvalidArgument"), (whole[:-20], "MalformedPOSTRequest")):
        answer = await call(app, "POST", "/bucket", FORM, [body])
        assert (answer.status, answer.code) == (400, code)
    wrong = {"content-type": "multipart/form-data"}
    assert (await call(app, "POST", "/bucket", wrong, [whole])).code == "MalformedPOSTRequest"
    assert (await call(app, "POST", "/bucket", {}, [whole])).code == "PreconditionFailed"
    assert b"<Key>" not in (await signed_call(app, "GET", "/bucket")).body


# ------------------------------------------------------------------ bytes of any origin
@given(st.binary(max_size=300), st.integers(1, 40))
async def test_no_form_is_more_than_refused(data: bytes, size: int) -> None:
    whole = form({"key": "k"})
    middle = len(whole) // 2
    for raw in (data, whole[:middle] + data + whole[middle:], whole + data):
        messages = [
            {"type": "http.request", "body": raw[at : at + size], "more_body": at + size < len(raw)}
            for at in range(0, max(len(raw), 1), size)
        ]

        async def receive(messages: list[Any] = messages) -> Any:
            return messages.pop(0)

        try:
            body = FormBody(receive, FORM["content-type"])
            await body.fields()
            while (await body.receive())["more_body"]:
                pass
        except StoreError:
            pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(JSON | st.fixed_dictionaries({"expiration": JSON | st.just(LATER), "conditions": JSON}))
def test_no_policy_is_more_than_refused(document: Any) -> None:
    text = b64encode(json.dumps(document).encode()).decode()
    try:
        policy = parse_post_policy(text)
    except InvalidPolicyDocument:
        return
    assert policy.least >= 0


@given(st.text(), st.text())
def test_what_no_condition_names_is_refused(field: str, value: str) -> None:
    policy = PostPolicy(NOW + 1, (Condition("key", "user/", prefix=True),))
    check_post_policy(policy, {"key": "user/x", "x-ignore-me": value}, NOW)
    name = f"x-amz-meta-{field.lower()}"
    with pytest.raises(PolicyViolated):
        check_post_policy(policy, {"key": "user/x", name: value}, NOW)
    with pytest.raises(PolicyViolated):
        check_post_policy(policy, {"key": "other/x"}, NOW)
    with pytest.raises(PolicyViolated):
        check_post_policy(policy, {"key": "user/x"}, NOW + 1)
