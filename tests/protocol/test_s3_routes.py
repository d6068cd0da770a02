"""Every operation of S3's own model is served or answered properly; none is unrouted."""

import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.serialize import create_serializer

from gateway.s3.app import S3App
from gateway.s3.handlers import HANDLERS
from gateway.s3.operations import Fixed, Operation, name_of
from gateway.s3.router import route
from gateway.s3.xml import url_encode
from tests.protocol.s3_asgi import HOST, as_request, make_app, signed_call

MODEL = botocore.session.get_session().get_service_model("s3")
SERVED = {
    "ListBuckets", "CreateBucket", "HeadBucket", "DeleteBucket", "GetBucketLocation",
    "PutObject", "GetObject", "HeadObject", "DeleteObject", "CopyObject", "DeleteObjects",
    "ListObjects", "ListObjectsV2", "ListObjectVersions", "CreateMultipartUpload", "UploadPart",
    "UploadPartCopy", "ListParts", "ListMultipartUploads", "CompleteMultipartUpload",
    "AbortMultipartUpload", "GetBucketAcl", "PutBucketAcl", "GetObjectAcl", "PutObjectAcl",
    "GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy", "PutPublicAccessBlock",
    "GetPublicAccessBlock", "DeletePublicAccessBlock", "GetBucketPolicyStatus",
    "RenameObject", "GetObjectTagging", "GetObjectAttributes",
    "GetBucketCors", "PutBucketCors", "DeleteBucketCors",
    "GetBucketEncryption", "PutBucketEncryption", "DeleteBucketEncryption",
    "UpdateObjectEncryption",
    "GetBucketTagging", "PutBucketTagging", "DeleteBucketTagging",
    "PutObjectTagging", "DeleteObjectTagging",
    "GetBucketWebsite", "PutBucketWebsite", "DeleteBucketWebsite",
    "GetBucketReplication", "PutBucketReplication", "DeleteBucketReplication",
    "GetBucketVersioning", "PutBucketVersioning",
    "GetObjectLockConfiguration", "PutObjectLockConfiguration",
    "GetObjectRetention", "PutObjectRetention", "GetObjectLegalHold", "PutObjectLegalHold",
    *(f"{verb}Bucket{noun}Configuration{plural}"
      for noun in ("Analytics", "IntelligentTiering", "Inventory", "Metrics")
      for verb, plural in (("Put", ""), ("Get", ""), ("Delete", ""), ("List", "s"))),
    "GetBucketLogging", "PutBucketLogging",
    "GetBucketNotificationConfiguration", "PutBucketNotificationConfiguration",
    "GetBucketOwnershipControls", "PutBucketOwnershipControls", "DeleteBucketOwnershipControls",
    "GetBucketRequestPayment", "PutBucketRequestPayment",
    "GetBucketLifecycleConfiguration", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycle",
}  # fmt: skip
# Older or other names of the same request.
SAME = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
    "ListDirectoryBuckets": "ListBuckets",
    "ListObjectAnnotations": "GetObjectAnnotation",
}
UNROUTABLE = {"WriteGetObjectResponse"}  # an operation of S3 Object Lambda's own host


def sample(shape: Any, name: str = "") -> Any:  # noqa: PLR0911 - one line for each type
    """The smallest value of a shape: required members only."""
    match shape.type_name:
        case "structure":
            union = list(shape.members)[:1] if shape.is_tagged_union else []
            return {m: sample(shape.members[m], m) for m in [*shape.required_members, *union]}
        case "list":
            return [sample(shape.member)]
        case "map":
            return {}
        case "integer" | "long":
            return 1
        case "boolean":
            return True
        case "timestamp":
            return 0
        case "blob":
            return b""
        case _:
            if shape.enum:
                return shape.enum[0]
            shortest = "x" * int(shape.metadata.get("min", 1))
            names = {"Bucket": "bucket", "Key": "k/ey", "CopySource": "bucket/k"}
            return names.get(name, shortest)


def serialised(name: str) -> tuple[str, str, dict[str, str], bytes]:
    model = MODEL.operation_model(name)
    values = sample(model.input_shape) if model.input_shape else {}
    made = create_serializer("rest-xml").serialize_to_request(values, model)
    path, _, fixed = made["url_path"].partition("?")
    query = made["query_string"]
    pairs = [f"{url_encode(k)}={url_encode(str(v))}" for k, v in dict(query or {}).items()]
    parts = ([fixed] if fixed else []) + pairs
    target = path + ("?" + "&".join(parts) if parts else "")
    body = made["body"] if isinstance(made["body"], bytes) else b""
    return made["method"], target, {k.lower(): str(v) for k, v in made["headers"].items()}, body


def routed(name: str) -> Operation:
    method, target, headers, _ = serialised(name)
    return route(as_request(method, target, {"host": HOST} | headers))


@pytest.mark.parametrize("name", [n for n in MODEL.operation_names if n not in UNROUTABLE])
def test_each_operation_of_the_model_is_recognised_by_name(name: str) -> None:
    operation = routed(name)
    assert name_of(operation) == SAME.get(name, name)
    assert type(operation) in HANDLERS
    assert isinstance(operation, Fixed) == (SAME.get(name, name) not in SERVED)


@pytest.mark.parametrize("name", MODEL.operation_names)
def test_the_document_says_of_each_operation_whether_it_is_served(name: str) -> None:
    document = (Path(__file__).parents[2] / "docs" / "s3-compatibility.md").read_text()
    _, not_served = document.split("## Not served, and why")
    named = re.search(rf"\b{name}\b", not_served.partition("\n## ")[0]) is not None
    assert named == (SAME.get(name, name) not in SERVED)


def test_the_model_is_the_one_that_was_counted() -> None:
    assert len(MODEL.operation_names) >= 116


async def prepared() -> S3App:
    app = await make_app()
    assert (await signed_call(app, "PUT", "/bucket")).status == 200
    put = await signed_call(app, "PUT", "/bucket/k/ey", {}, b"body")
    assert put.status == 200, put.body
    return app


@pytest.mark.parametrize("name", [n for n in MODEL.operation_names if SAME.get(n, n) not in SERVED])
async def test_each_operation_that_is_not_served_says_so_properly(name: str) -> None:
    app = await prepared()
    method, target, headers, body = serialised(name)
    answer = await signed_call(app, method, target, headers, body)
    assert answer.finished
    if answer.status in (200, 204):
        assert name.startswith(("Get", "List", "Delete"))
    elif answer.status == 404:
        assert answer.code.startswith("NoSuch") or answer.code.endswith(
            ("NotFoundError", "NotFound")
        )
        assert not name.startswith("Put")
    else:
        assert (answer.status, answer.code) == (501, "NotImplemented")
        assert answer.headers["content-type"] == "application/xml"


@pytest.mark.parametrize("name", [n for n in MODEL.operation_names if SAME.get(n, n) in SERVED])
async def test_each_served_operation_answers_without_a_server_error(name: str) -> None:
    app = await prepared()
    method, target, headers, body = serialised(name)
    answer = await signed_call(app, method, target, headers, body)
    assert answer.finished
    assert answer.status < 500
