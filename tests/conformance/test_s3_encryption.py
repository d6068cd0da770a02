"""Server-side encryption as boto3 asks for it: SSE-C, SSE-S3, SSE-KMS, a bucket's default."""

import base64
import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from tests.conformance.s3_server import Server

NAME = "safe"
BUCKET = {"Bucket": NAME}
BODY = random.Random(5).randbytes(3000)
MIB = 1 << 20
KEY_A, KEY_B = b"a" * 31 + b"\xff", b"b" * 32
C_A = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY_A}
C_B = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY_B}
FROM_A = {f"CopySource{name}": value for name, value in C_A.items()}
FROM_B = {f"CopySource{name}": value for name, value in C_B.items()}


def md5_of(key: bytes) -> str:
    return base64.b64encode(hashlib.md5(key).digest()).decode()


# As it is sent: botocore does not encode the key where the MD5 is given, or of GetObjectAttributes.
RAW_A = {
    "SSECustomerAlgorithm": "AES256",
    "SSECustomerKey": base64.b64encode(KEY_A).decode(),
    "SSECustomerKeyMD5": md5_of(KEY_A),
}
# What it is to be encrypted with, and what replies say of it.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "AES256": {"ServerSideEncryption": "AES256"},
    "KMS": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "team-key"},
    "SSE-C": C_A,
}


@pytest.fixture
def s3(server: Server) -> Iterator[Any]:
    client = server.client()
    client.create_bucket(**BUCKET)
    yield client
    for row in client.list_objects_v2(**BUCKET).get("Contents", []):
        client.delete_object(**BUCKET, Key=row["Key"])
    client.delete_bucket(**BUCKET)


def refused(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    reply = caught.value.response
    return reply["ResponseMetadata"]["HTTPStatusCode"], reply["Error"]["Code"]


def said(reply: dict[str, Any]) -> dict[str, Any]:
    """What a reply says of encryption."""
    names = ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled", "SSECustomerAlgorithm",
             "SSECustomerKeyMD5", "SSEKMSEncryptionContext")  # fmt: skip
    return {name: reply[name] for name in names if name in reply}


def echo(kind: str, key: bytes = KEY_A) -> dict[str, Any]:
    if kind == "SSE-C":
        return {"SSECustomerAlgorithm": "AES256", "SSECustomerKeyMD5": md5_of(key)}
    return KINDS[kind]


def read_with(kind: str) -> dict[str, Any]:
    return C_A if kind == "SSE-C" else {}


# ------------------------------------------------------------------ SSE-C
@pytest.mark.parametrize("size", [0, 1, 13, 1024, 200_000, 2 * MIB + 5])
def test_an_object_under_a_client_s_key_comes_back_with_it(s3: Any, size: int) -> None:
    body = random.Random(size).randbytes(size)
    put = s3.put_object(**BUCKET, Key="k", Body=body, **C_A)
    assert said(put) == echo("SSE-C")
    got = s3.get_object(**BUCKET, Key="k", **C_A)
    assert (got["Body"].read(), said(got), got["ETag"]) == (body, echo("SSE-C"), put["ETag"])
    head = s3.head_object(**BUCKET, Key="k", **C_A)
    assert (said(head), head["ContentLength"]) == (echo("SSE-C"), size)
    assert s3.list_objects_v2(**BUCKET)["Contents"][0]["Size"] == size
    if size > 20:
        part = s3.get_object(**BUCKET, Key="k", Range=f"bytes=7-{size - 5}", **C_A)
        assert part["Body"].read() == body[7 : size - 4]


def test_a_checksum_under_a_client_s_key_is_told_with_it(s3: Any) -> None:
    put = s3.put_object(**BUCKET, Key="k", Body=BODY, ChecksumAlgorithm="SHA256", **C_A)
    head = s3.head_object(**BUCKET, Key="k", ChecksumMode="ENABLED", **C_A)
    expected = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    assert put["ChecksumSHA256"] == head["ChecksumSHA256"] == expected
    asked = {"ObjectAttributes": ["Checksum"], **RAW_A}
    told = s3.get_object_attributes(**BUCKET, Key="k", **asked)["Checksum"]
    assert told == {"ChecksumSHA256": expected, "ChecksumType": "FULL_OBJECT"}
    assert s3.list_objects_v2(**BUCKET)["Contents"][0]["ChecksumAlgorithm"] == ["SHA256"]


def test_the_etag_under_a_client_s_key_tells_nothing_of_the_bytes(s3: Any) -> None:
    tags = {s3.put_object(**BUCKET, Key=f"{n}", Body=BODY, **C_A)["ETag"] for n in range(3)}
    assert len(tags) == 3
    assert f'"{hashlib.md5(BODY).hexdigest()}"' not in tags


def test_without_the_right_key_there_is_no_answer(s3: Any) -> None:
    s3.put_object(**BUCKET, Key="k", Body=BODY, **C_A)
    where = {**BUCKET, "Key": "k"}
    missing, wrong = (400, "InvalidRequest"), (403, "AccessDenied")
    assert refused(s3.get_object, **where) == missing
    assert refused(s3.get_object, **where, **C_B) == wrong
    assert refused(s3.get_object, **where, Range="bytes=0-0") == missing
    assert refused(s3.head_object, **where)[0] == 400
    assert refused(s3.head_object, **where, **C_B)[0] == 403
    asked = {"ObjectAttributes": ["ETag", "ObjectSize"]}
    assert refused(s3.get_object_attributes, **where, **asked) == missing
    got = s3.get_object_attributes(**where, **asked, **RAW_A)
    assert got["ObjectSize"] == len(BODY)
    source = {"Bucket": NAME, "Key": "to", "CopySource": f"{NAME}/k"}
    assert refused(s3.copy_object, **source) == missing
    assert refused(s3.copy_object, **source, **FROM_B) == wrong
    s3.delete_object(**where)  # takes no key


def test_a_key_for_what_has_none_is_refused(s3: Any) -> None:
    for kind in ("plain", "AES256", "KMS"):
        s3.put_object(**BUCKET, Key="k", Body=BODY, **KINDS[kind])
        assert refused(s3.get_object, **BUCKET, Key="k", **C_A) == (400, "InvalidRequest")
        assert refused(s3.head_object, **BUCKET, Key="k", **C_A)[0] == 400
        source = {"Bucket": NAME, "Key": "to", "CopySource": f"{NAME}/k"}
        assert refused(s3.copy_object, **source, **FROM_A) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"SSECustomerAlgorithm": "AES192", "SSECustomerKey": KEY_A},
         "InvalidEncryptionAlgorithmError"),
        ({"SSECustomerAlgorithm": "AES256"}, "InvalidArgument"),
        ({"SSECustomerKey": KEY_A}, "InvalidArgument"),
        (RAW_A | {"SSECustomerKeyMD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, "InvalidArgument"),
        (RAW_A | {"SSECustomerKey": "?" * 44}, "InvalidArgument"),
        ({"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"short"}, "InvalidArgument"),
        ({**C_A, "ServerSideEncryption": "AES256"}, "InvalidArgument"),
        ({**C_A, "ServerSideEncryption": "aws:kms"}, "InvalidArgument"),
        ({"ServerSideEncryption": "AES256", "SSEKMSKeyId": "k"}, "InvalidArgument"),
        ({"ServerSideEncryption": "aes:kms"}, "InvalidArgument"),
        ({"SSEKMSKeyId": "k"}, "InvalidArgument"),
        ({"ServerSideEncryption": "aws:kms", "SSEKMSEncryptionContext": "!"}, "InvalidArgument"),
        ({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "aws/s3"}, "KMS.NotFoundException"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(s3: Any, given: dict[str, Any], code: str) -> None:
    assert refused(s3.put_object, **BUCKET, Key="k", Body=b"x", **given) == (400, code)
    assert refused(s3.create_multipart_upload, **BUCKET, Key="k", **given) == (400, code)
    assert "Contents" not in s3.list_objects_v2(**BUCKET)


# ------------------------------------------------------------------ copies
@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("size", [3, 20_000])
def test_a_copy_has_the_target_s_encryption(s3: Any, source: str, target: str, size: int) -> None:
    body = random.Random(7).randbytes(size)
    s3.put_object(**BUCKET, Key="from", Body=body, Metadata={"m": "1"}, **KINDS[source])
    key = FROM_A if source == "SSE-C" else {}
    copied = s3.copy_object(**BUCKET, Key="to", CopySource=f"{NAME}/from", **KINDS[target], **key)
    assert said(copied) == echo(target)
    s3.delete_object(**BUCKET, Key="from")
    got = s3.get_object(**BUCKET, Key="to", **read_with(target))
    assert (got["Body"].read(), got["Metadata"], said(got)) == (body, {"m": "1"}, echo(target))
    # Who compares the ETag of what is not SSE-C with an MD5 finds it right.
    right = got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert right is (target != "SSE-C")


def test_a_client_s_key_is_changed_by_a_copy_onto_itself(s3: Any) -> None:
    s3.put_object(**BUCKET, Key="k", Body=BODY, **C_A)
    s3.copy_object(**BUCKET, Key="k", CopySource=f"{NAME}/k", **FROM_A, **C_B)
    assert refused(s3.get_object, **BUCKET, Key="k", **C_A) == (403, "AccessDenied")
    assert s3.get_object(**BUCKET, Key="k", **C_B)["Body"].read() == BODY


# ------------------------------------------------------------------ uploads in parts
@pytest.mark.parametrize("kind", KINDS)
def test_parts_have_their_upload_s_encryption(s3: Any, kind: str) -> None:
    where, own = {**BUCKET, "Key": "big"}, read_with(kind)
    bodies = [random.Random(n).randbytes(5 * MIB + 1) for n in range(2)]
    made = s3.create_multipart_upload(**where, Metadata={"m": "1"}, **KINDS[kind])
    assert said(made) == echo(kind)
    upload = {**where, "UploadId": made["UploadId"]}
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(**upload, PartNumber=number, Body=body, **own)
        assert said(part) == echo(kind)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.put_object(**BUCKET, Key="source", Body=BODY, **C_B)
    copied = s3.upload_part_copy(
        **upload, PartNumber=3, CopySource=f"{NAME}/source", **FROM_B, **own
    )
    assert said(copied) == echo(kind)
    parts.append({"PartNumber": 3, "ETag": copied["CopyPartResult"]["ETag"]})
    assert len(s3.list_parts(**upload)["Parts"]) == 3
    done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **own)
    if kind != "SSE-C":  # the model does not read them here
        assert said(done) == echo(kind)
    whole = b"".join(bodies) + BODY
    got = s3.get_object(**where, **own)
    assert (got["Body"].read(), said(got), got["Metadata"]) == (whole, echo(kind), {"m": "1"})
    around = s3.get_object(**where, Range=f"bytes={5 * MIB - 9}-{5 * MIB + 9}", **own)
    assert around["Body"].read() == whole[5 * MIB - 9 : 5 * MIB + 10]
    second = s3.get_object(**where, PartNumber=2, **own)
    assert second["Body"].read() == bodies[1]


def test_a_part_with_another_key_than_its_upload_s_is_refused(s3: Any) -> None:
    where = {**BUCKET, "Key": "big"}
    s3.put_object(**BUCKET, Key="source", Body=BODY)
    for kind, keys in (("SSE-C", ({}, C_B)), ("plain", (C_A,)), ("KMS", (C_A,))):
        upload = where | {
            "UploadId": s3.create_multipart_upload(**where, **KINDS[kind])["UploadId"]
        }
        for key in keys:
            at = upload | {"PartNumber": 1}
            assert refused(s3.upload_part, **at, Body=BODY, **key) == (400, "InvalidRequest")
            copy = at | {"CopySource": f"{NAME}/source"}
            assert refused(s3.upload_part_copy, **copy, **key) == (400, "InvalidRequest")
        assert "Parts" not in s3.list_parts(**upload)
        s3.abort_multipart_upload(**upload)


def test_a_checked_upload_under_a_client_s_key_is_completed_with_it(s3: Any) -> None:
    where = {**BUCKET, "Key": "big"}
    made = s3.create_multipart_upload(**where, ChecksumAlgorithm="SHA256", **C_A)
    upload = where | {"UploadId": made["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=BODY, ChecksumAlgorithm="SHA256", **C_A)
    row = {"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}
    parts = {"MultipartUpload": {"Parts": [row]}}
    complete = s3.complete_multipart_upload
    assert refused(complete, **upload, **parts) == (400, "InvalidArgument")
    assert refused(complete, **upload, **parts, **C_B) == (400, "InvalidRequest")
    assert s3.complete_multipart_upload(**upload, **parts, **C_A)["ChecksumSHA256"].endswith("-1")


# ------------------------------------------------------------------ SSE-KMS
def test_a_kms_key_of_aws_s_form_is_called_by_its_arn(s3: Any) -> None:
    name = "1234abcd-12ab-34cd-56ef-1234567890ab"
    arn = f"arn:aws:kms:us-east-1:alice-id:key/{name}"
    for given in (name, arn):
        kms = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": given, "BucketKeyEnabled": True}
        expected = kms | {"SSEKMSKeyId": arn}
        assert said(s3.put_object(**BUCKET, Key="k", Body=BODY, **kms)) == expected
        assert said(s3.head_object(**BUCKET, Key="k")) == expected
        assert s3.get_object(**BUCKET, Key="k")["Body"].read() == BODY


def test_without_a_key_id_the_account_s_own_is_used(s3: Any) -> None:
    for algorithm in ("aws:kms", "aws:kms:dsse"):
        s3.put_object(**BUCKET, Key="k", Body=BODY, ServerSideEncryption=algorithm)
        head = s3.head_object(**BUCKET, Key="k")
        assert head["ServerSideEncryption"] == algorithm
        assert head["SSEKMSKeyId"].startswith("arn:aws:kms:us-east-1:alice-id:key/")
        assert s3.get_object(**BUCKET, Key="k")["Body"].read() == BODY


def test_a_context_is_kept_and_not_shown_to_readers(s3: Any) -> None:
    context = base64.b64encode(json.dumps({"team": "é"}).encode()).decode()
    kms = {**KINDS["KMS"], "SSEKMSEncryptionContext": context}
    put = s3.put_object(**BUCKET, Key="k", Body=BODY, **kms)
    assert put["SSEKMSEncryptionContext"] == context
    got = s3.get_object(**BUCKET, Key="k")
    assert (got["Body"].read(), said(got)) == (BODY, KINDS["KMS"])


def test_a_public_object_does_not_show_what_kms_encrypts(server: Server, s3: Any) -> None:
    anybody = server.client(signature_version=UNSIGNED)
    public = BUCKET | {"Key": "k", "Body": BODY, "ACL": "public-read"}
    for kind in ("plain", "AES256"):
        s3.put_object(**public, **KINDS[kind])
        assert anybody.get_object(**BUCKET, Key="k")["Body"].read() == BODY
    s3.put_object(**public, **KINDS["KMS"])
    assert refused(anybody.get_object, **BUCKET, Key="k") == (400, "InvalidArgument")


@pytest.mark.parametrize("method", ["get_object", "head_object"])
def test_reads_do_not_take_the_headers_of_writes(s3: Any, method: str) -> None:
    def more(request: Any, **_: Any) -> None:
        request.headers["x-amz-server-side-encryption"] = "AES256"

    s3.put_object(**BUCKET, Key="k", Body=BODY)
    s3.meta.events.register("before-sign.s3", more)
    assert refused(getattr(s3, method), **BUCKET, Key="k")[0] == 400
    s3.meta.events.unregister("before-sign.s3", more)


# ------------------------------------------------------------------ a bucket's default
def rule(algorithm: str, **rest: Any) -> dict[str, Any]:
    default = {"SSEAlgorithm": algorithm} | {
        name: rest.pop(name) for name in ("KMSMasterKeyID",) if name in rest
    }
    return {"Rules": [{"ApplyServerSideEncryptionByDefault": default, **rest}]}


def set_default(s3: Any, configuration: dict[str, Any]) -> None:
    s3.put_bucket_encryption(**BUCKET, ServerSideEncryptionConfiguration=configuration)


def test_a_bucket_s_default_comes_back_and_goes(s3: Any) -> None:
    gone = (404, "ServerSideEncryptionConfigurationNotFoundError")
    assert refused(s3.get_bucket_encryption, **BUCKET) == gone
    for given in (rule("AES256"), rule("aws:kms", KMSMasterKeyID="team-key"),
                  rule("aws:kms:dsse"), rule("aws:kms", BucketKeyEnabled=True)):  # fmt: skip
        set_default(s3, given)
        [got] = s3.get_bucket_encryption(**BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
        assert got == {"BucketKeyEnabled": False} | given["Rules"][0]
    for _ in range(2):
        s3.delete_bucket_encryption(**BUCKET)
        assert refused(s3.get_bucket_encryption, **BUCKET) == gone


def test_what_asks_for_nothing_gets_the_default(s3: Any) -> None:
    for kind, given in (("AES256", rule("AES256")),
                        ("KMS", rule("aws:kms", KMSMasterKeyID="team-key"))):  # fmt: skip
        s3.put_object(**BUCKET, Key="before", Body=BODY)
        set_default(s3, given)
        assert said(s3.put_object(**BUCKET, Key="k", Body=BODY)) == echo(kind)
        assert said(s3.get_object(**BUCKET, Key="k")) == echo(kind)
        assert said(s3.copy_object(**BUCKET, Key="c", CopySource=f"{NAME}/before")) == echo(kind)
        made = s3.create_multipart_upload(**BUCKET, Key="m")
        assert said(made) == echo(kind)
        upload = {**BUCKET, "Key": "m", "UploadId": made["UploadId"]}
        assert said(s3.upload_part(**upload, PartNumber=1, Body=b"x")) == echo(kind)
        s3.abort_multipart_upload(**upload)
        assert said(s3.head_object(**BUCKET, Key="before")) == {}
        for other in ("AES256", "SSE-C"):
            put = s3.put_object(**BUCKET, Key="k", Body=BODY, **KINDS[other])
            assert said(put) == echo(other)
        # A copy onto itself is one way to encrypt what was there before.
        s3.copy_object(**BUCKET, Key="before", CopySource=f"{NAME}/before")
        assert said(s3.head_object(**BUCKET, Key="before")) == echo(kind)
        s3.delete_bucket_encryption(**BUCKET)


def test_the_bucket_key_is_the_bucket_s_unless_the_request_says(s3: Any) -> None:
    set_default(s3, rule("aws:kms", KMSMasterKeyID="team-key", BucketKeyEnabled=True))
    for given, expected in (
        ({}, True), (KINDS["KMS"], True), ({"BucketKeyEnabled": False}, None),
        ({"ServerSideEncryption": "aws:kms:dsse"}, None), (KINDS["AES256"], None),
    ):  # fmt: skip
        s3.put_object(**BUCKET, Key="k", Body=BODY, **given)
        assert s3.head_object(**BUCKET, Key="k").get("BucketKeyEnabled") is expected
    s3.delete_bucket_encryption(**BUCKET)


def test_a_bucket_may_block_client_s_keys(s3: Any) -> None:
    s3.put_object(**BUCKET, Key="old", Body=BODY, **C_A)
    made = s3.create_multipart_upload(**BUCKET, Key="m", **C_A)
    upload = {**BUCKET, "Key": "m", "UploadId": made["UploadId"]}
    set_default(s3, {"Rules": [{"BlockedEncryptionTypes": {"EncryptionType": ["SSE-C"]}}]})
    denied = (403, "AccessDenied")
    assert refused(s3.put_object, **BUCKET, Key="k", Body=BODY, **C_A) == denied
    assert refused(s3.create_multipart_upload, **BUCKET, Key="k", **C_A) == denied
    assert refused(s3.upload_part, **upload, PartNumber=1, Body=BODY, **C_A) == denied
    copy = {**BUCKET, "Key": "to", "CopySource": f"{NAME}/old", **FROM_A}
    assert refused(s3.copy_object, **copy, **C_A) == denied
    s3.abort_multipart_upload(**upload)
    s3.put_object(**BUCKET, Key="k", Body=BODY)
    assert s3.get_object(**BUCKET, Key="old", **C_A)["Body"].read() == BODY
    s3.delete_bucket_encryption(**BUCKET)


# ------------------------------------------------------------------ policies
def test_policies_see_what_is_asked_for_and_parts_take_their_upload_s(s3: Any) -> None:
    def deny(condition: dict[str, Any]) -> None:
        statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",
                     "Resource": f"arn:aws:s3:::{NAME}/*", "Condition": condition}  # fmt: skip
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        s3.put_bucket_policy(**BUCKET, Policy=json.dumps(policy))

    sse = "s3:x-amz-server-side-encryption"
    denied = (403, "AccessDenied")
    for condition, good, bad in (
        ({"Null": {sse: "true"}}, "AES256", "plain"),
        ({"StringNotEquals": {sse: "aws:kms"}}, "KMS", "AES256"),
        ({"StringNotEquals": {f"{sse}-aws-kms-key-id": "team-key"}}, "KMS", "plain"),
        ({"Null": {f"{sse}-customer-algorithm": "true"}}, "SSE-C", "KMS"),
    ):
        deny(condition)
        assert refused(s3.put_object, **BUCKET, Key="k", Body=b"x", **KINDS[bad]) == denied
        s3.put_object(**BUCKET, Key="k", Body=b"x", **KINDS[good])
        made = s3.create_multipart_upload(**BUCKET, Key="m", **KINDS[good])
        upload = {**BUCKET, "Key": "m", "UploadId": made["UploadId"]}
        own = read_with(good)
        part = s3.upload_part(**upload, PartNumber=1, Body=b"x", **own)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        s3.complete_multipart_upload(**upload, MultipartUpload=parts, **own)
    deny({"StringNotEqualsIfExists": {f"{sse}-customer-algorithm": "AES256"}})
    wrong = {"SSECustomerAlgorithm": "AES192", "SSECustomerKey": KEY_A}
    assert refused(s3.put_object, **BUCKET, Key="k", Body=b"x", **wrong) == denied
    s3.delete_bucket_policy(**BUCKET)


# ------------------------------------------------------------------ presigned URLs
@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_presigned_url_asks_for_encryption_as_a_request_does(
    server: Server, s3: Any, version: str
) -> None:
    signer = server.client(signature_version=version)
    names = [f"x-amz-server-side-encryption-customer-{n}" for n in ("algorithm", "key", "key-MD5")]
    sent = dict(zip(names, RAW_A.values(), strict=True))
    for kind, given, headers in (
        ("AES256", KINDS["AES256"], {"x-amz-server-side-encryption": "AES256"}),
        ("SSE-C", C_A, sent),
    ):
        where = {**BUCKET, "Key": kind}
        put = signer.generate_presigned_url("put_object", Params={**where, **given})
        own = {} if version == "s3" else headers  # version 2 has them in the URL
        assert httpx.put(put, content=BODY, headers=own).status_code == 200
        assert said(s3.head_object(**where, **read_with(kind))) == echo(kind)
        got = signer.generate_presigned_url("get_object", Params={**where, **read_with(kind)})
        again = httpx.get(got, headers=sent if kind == "SSE-C" and version == "s3v4" else {})
        assert (again.status_code, again.content) == (200, BODY)


def test_what_a_presigned_url_says_cannot_be_changed(server: Server, s3: Any) -> None:
    for version in ("s3", "s3v4"):
        signer = server.client(signature_version=version)
        where = {**BUCKET, "Key": "k"}
        url = signer.generate_presigned_url("put_object", Params=where)
        for more in ("&x-amz-server-side-encryption=AES256", "&X-Amz-Meta-A=b"):
            assert httpx.put(url + more, content=BODY).status_code == 403
        assert httpx.put(url, content=BODY).status_code == 200
    typed = server.client(signature_version="s3").generate_presigned_url(
        "put_object", Params={**BUCKET, "Key": "k", "ContentType": "text/plain"}
    )
    assert "content-type=text" in typed
    for headers, status in (({}, 200), ({"content-type": "image/png"}, 403)):
        assert httpx.put(typed, content=BODY, headers=headers).status_code == status
    assert s3.head_object(**BUCKET, Key="k")["ContentType"] == "text/plain"


# ------------------------------------------------------------------ another key for what is there
def test_an_object_s_encryption_is_changed_where_it_lies(s3: Any) -> None:
    first = s3.put_object(**BUCKET, Key="k", Body=BODY, Metadata={"m": "1"})
    arn = "arn:aws:kms:us-east-1:alice-id:key/"
    for name in ("team-key", "1234abcd-12ab-34cd-56ef-1234567890ab"):
        new = {"SSEKMS": {"KMSKeyArn": arn + name, "BucketKeyEnabled": True}}
        s3.update_object_encryption(**BUCKET, Key="k", ObjectEncryption=new)
        got = s3.get_object(**BUCKET, Key="k")
        assert (got["Body"].read(), got["ETag"], got["Metadata"]) == (
            BODY,
            first["ETag"],
            {"m": "1"},
        )
        assert got["SSEKMSKeyId"] == (name if name == "team-key" else arn + name)
        assert got["BucketKeyEnabled"] is True


def test_not_every_object_s_encryption_can_be_changed(s3: Any) -> None:
    change = s3.update_object_encryption
    good = {"SSEKMS": {"KMSKeyArn": "arn:aws:kms:us-east-1:alice-id:key/team-key"}}
    s3.put_object(**BUCKET, Key="closed", Body=BODY, **C_A)
    s3.put_object(**BUCKET, Key="dsse", Body=BODY, ServerSideEncryption="aws:kms:dsse")
    s3.put_object(**BUCKET, Key="k", Body=BODY)
    for key in ("closed", "dsse"):
        refusal = refused(change, **BUCKET, Key=key, ObjectEncryption=good)
        assert refusal == (400, "InvalidRequest")
    assert refused(change, **BUCKET, Key="no", ObjectEncryption=good) == (404, "NoSuchKey")
    for arn, code in (("alias/not-an-arn-at-all", 400), ("arn:aws:kms:broken-and-long", 400),
                      ("arn:aws:kms:us-east-1:other:key/team-key", 403)):  # fmt: skip
        new = {"SSEKMS": {"KMSKeyArn": arn}}
        assert refused(change, **BUCKET, Key="k", ObjectEncryption=new)[0] == code
    assert said(s3.head_object(**BUCKET, Key="k")) == {}
