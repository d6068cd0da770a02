"""Bucket policies and the public access block, by boto3."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import UNSIGNED

from tests.conformance.s3_server import BOB, Server
from tests.conformance.test_s3_boto3 import refused

NAME = "guarded"
ARN = f"arn:aws:s3:::{NAME}"


@pytest.fixture
def s3(server: Server) -> Iterator[Any]:
    client = server.client()
    client.create_bucket(Bucket=NAME)
    client.put_object(Bucket=NAME, Key="open/k", Body=b"open")
    client.put_object(Bucket=NAME, Key="secret/k", Body=b"secret")
    yield client
    client.delete_bucket_policy(Bucket=NAME)
    client.delete_public_access_block(Bucket=NAME)
    for row in client.list_objects_v2(Bucket=NAME).get("Contents", []):
        client.delete_object(Bucket=NAME, Key=row["Key"])
    client.delete_bucket(Bucket=NAME)


@pytest.fixture
def bob(server: Server) -> Any:
    return server.client(BOB)


@pytest.fixture
def anonymous(server: Server) -> Any:
    return server.client(signature_version=UNSIGNED)


def statement(action: Any, path: str = "/*", **rest: Any) -> dict[str, Any]:
    given = {"Effect": "Allow", "Principal": "*", "Action": action, "Resource": ARN + path}
    return given | rest


def put(s3: Any, *statements: dict[str, Any]) -> str:
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    s3.put_bucket_policy(Bucket=NAME, Policy=document)
    return document


def test_a_policy_comes_back_as_it_was_given_and_goes(s3: Any) -> None:
    assert refused(s3.get_bucket_policy, Bucket=NAME) == "NoSuchBucketPolicy"
    document = put(s3, statement("s3:GetObject", Sid="ünïque"))
    assert s3.get_bucket_policy(Bucket=NAME)["Policy"] == document
    s3.delete_bucket_policy(Bucket=NAME)
    assert refused(s3.get_bucket_policy, Bucket=NAME) == "NoSuchBucketPolicy"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("no json", "MalformedPolicy"), ("{}", "MalformedPolicy"),
        (json.dumps({"Statement": [statement("s3:GetObject", Resource="arn:aws:s3:::other/*")]}),
         "MalformedPolicy"),
        (json.dumps({"Statement": [statement("s3:GetObject", "")]}), "MalformedPolicy"),
        (json.dumps({"Statement": [statement("s3:ListBucket")]}), "MalformedPolicy"),
        ("{" + " " * 20_480, "PolicyTooLarge"), ("{" + " " * (1 << 20), "PolicyTooLarge"),
    ],
    ids=["text", "empty", "other bucket", "no keys", "no bucket", "20 KiB", "1 MiB"],
)  # fmt: skip
def test_a_bad_policy_is_refused_and_the_old_one_stays(s3: Any, document: str, code: str) -> None:
    before = put(s3, statement("s3:GetObject"))
    assert refused(s3.put_bucket_policy, Bucket=NAME, Policy=document) == code
    assert s3.get_bucket_policy(Bucket=NAME)["Policy"] == before


def test_others_do_what_the_policy_allows_and_no_more(s3: Any, bob: Any, anonymous: Any) -> None:
    bobs = statement(["s3:PutObject", "s3:Delete*"], "/bob/*", Principal={"AWS": "bob-id"})
    put(s3, statement("s3:GetObject", "/open/*"), bobs)
    for who in (bob, anonymous):
        assert who.get_object(Bucket=NAME, Key="open/k")["Body"].read() == b"open"
        assert refused(who.get_object, Bucket=NAME, Key="secret/k") == "AccessDenied"
        assert refused(who.list_objects_v2, Bucket=NAME) == "AccessDenied"
        assert refused(who.get_bucket_policy, Bucket=NAME) == "AccessDenied"
    bob.put_object(Bucket=NAME, Key="bob/k", Body=b"mine")
    assert refused(anonymous.put_object, Bucket=NAME, Key="bob/k") == "AccessDenied"
    assert refused(bob.put_object, Bucket=NAME, Key="open/k") == "AccessDenied"
    # Who writes owns: the bucket's owner reads it once its owner lets.
    assert refused(s3.get_object, Bucket=NAME, Key="bob/k") == "AccessDenied"
    bob.put_object(Bucket=NAME, Key="bob/k", Body=b"ours", ACL="bucket-owner-full-control")
    assert s3.get_object(Bucket=NAME, Key="bob/k")["Body"].read() == b"ours"


def test_a_missing_key_shows_only_to_those_who_may_list(s3: Any, bob: Any) -> None:
    put(s3, statement("s3:GetObject"))
    assert refused(bob.get_object, Bucket=NAME, Key="none") == "AccessDenied"
    assert refused(s3.get_object, Bucket=NAME, Key="none") == "NoSuchKey"
    put(s3, statement("s3:GetObject"), statement("s3:ListBucket", ""))
    assert refused(bob.get_object, Bucket=NAME, Key="none") == "NoSuchKey"


def test_lists_are_bound_to_a_prefix(s3: Any, bob: Any) -> None:
    put(s3, statement("s3:ListBucket", "", Condition={"StringLike": {"s3:prefix": "open/*"}}))
    for call in (bob.list_objects_v2, bob.list_objects):
        assert [r["Key"] for r in call(Bucket=NAME, Prefix="open/")["Contents"]] == ["open/k"]
        for prefix in ("", "secret/"):
            assert refused(call, Bucket=NAME, Prefix=prefix) == "AccessDenied"


def test_a_deny_holds_for_the_owner_who_can_still_take_it_back(s3: Any) -> None:
    put(s3, statement("s3:*", Effect="Deny", Resource=[ARN, ARN + "/*"]))
    assert refused(s3.get_object, Bucket=NAME, Key="open/k") == "AccessDenied"
    assert refused(s3.list_objects_v2, Bucket=NAME) == "AccessDenied"
    s3.delete_bucket_policy(Bucket=NAME)
    assert s3.get_object(Bucket=NAME, Key="open/k")["Body"].read() == b"open"


def test_a_batch_deletes_what_each_key_allows(s3: Any, bob: Any, anonymous: Any) -> None:
    put(s3, statement("s3:DeleteObject", "/open/*", Principal={"AWS": "bob-id"}))
    batch = {"Objects": [{"Key": "open/k"}, {"Key": "secret/k"}]}
    reply = anonymous.delete_objects(Bucket=NAME, Delete=batch)
    assert [e["Code"] for e in reply["Errors"]] == ["AccessDenied"] * 2
    reply = bob.delete_objects(Bucket=NAME, Delete=batch)
    assert [row["Key"] for row in reply["Deleted"]] == ["open/k"]
    assert [(e["Key"], e["Code"]) for e in reply["Errors"]] == [("secret/k", "AccessDenied")]
    assert s3.head_object(Bucket=NAME, Key="secret/k")["ContentLength"] == 6


def test_a_copy_needs_both_its_source_and_its_target(s3: Any, bob: Any) -> None:
    put(s3, statement("s3:GetObject", "/open/*"), statement("s3:PutObject", "/bob/*"))
    bob.copy_object(Bucket=NAME, Key="bob/k", CopySource=f"{NAME}/open/k")
    for key, source in (("bob/k", "secret/k"), ("open/k", "open/k"), ("bob/k", "none")):
        code = refused(bob.copy_object, Bucket=NAME, Key=key, CopySource=f"{NAME}/{source}")
        assert code == "AccessDenied"
    bob.create_bucket(Bucket="bobs")
    code = refused(bob.copy_object, Bucket="bobs", Key="k", CopySource=f"{NAME}/open/none")
    assert code == "AccessDenied", "which keys there are is not for everybody"
    bob.delete_bucket(Bucket="bobs")
    put(s3, statement("s3:*", Resource=[ARN, ARN + "/*"]), statement(
        "s3:PutObject", Effect="Deny",
        Condition={"StringNotLike": {"s3:x-amz-copy-source": f"{NAME}/open/*"}},
    ))  # fmt: skip
    bob.copy_object(Bucket=NAME, Key="x", CopySource={"Bucket": NAME, "Key": "open/k"})
    assert refused(bob.put_object, Bucket=NAME, Key="x") == "AccessDenied"


def test_a_stranger_uploads_in_parts_where_the_policy_says_so(
    s3: Any, bob: Any, anonymous: Any
) -> None:
    put(s3, statement("s3:PutObject", "/bob/*"))
    upload = bob.create_multipart_upload(
        Bucket=NAME, Key="bob/big", ACL="bucket-owner-full-control"
    )["UploadId"]
    named = {"Bucket": NAME, "Key": "bob/big", "UploadId": upload}
    part = bob.upload_part(**named, PartNumber=1, Body=b"part")
    for call in (anonymous.list_parts, anonymous.abort_multipart_upload):
        assert refused(call, **named) == "AccessDenied"
    for who in (bob, s3):
        assert [row["Size"] for row in who.list_parts(**named)["Parts"]] == [4]
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    bob.complete_multipart_upload(**named, MultipartUpload=parts)
    assert s3.get_object(Bucket=NAME, Key="bob/big")["Body"].read() == b"part"
    assert refused(bob.create_multipart_upload, Bucket=NAME, Key="big") == "AccessDenied"


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, True),
        ({"NotIpAddress": {"aws:SourceIp": "127.0.0.1"}}, False),
        ({"Bool": {"aws:SecureTransport": "true"}}, False),
        ({"StringLike": {"aws:UserAgent": "Boto3/*"}}, True),
        ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, True),
        ({"StringEquals": {"aws:username": "bob-id"}}, True),
        ({"Null": {"aws:Referer": "false"}}, False),
    ],
    ids=str,
)
def test_conditions_see_the_request(
    s3: Any, bob: Any, condition: dict[str, Any], fits: bool
) -> None:
    put(s3, statement("s3:GetObject", Condition=condition))
    if fits:
        assert bob.get_object(Bucket=NAME, Key="open/k")["Body"].read() == b"open"
    else:
        assert refused(bob.get_object, Bucket=NAME, Key="open/k") == "AccessDenied"


def test_tags_of_objects_and_of_uploads_are_conditions(s3: Any, bob: Any) -> None:
    s3.put_object(Bucket=NAME, Key="tagged", Body=b"t", Tagging="class=public")
    existing = {"StringEquals": {"s3:ExistingObjectTag/class": "public"}}
    given = {"StringEquals": {"s3:RequestObjectTag/class": "public"}}
    put(s3, statement("s3:GetObject", Condition=existing),
        statement(["s3:PutObject", "s3:PutObjectTagging"], "/bob/*", Condition=given))  # fmt: skip
    assert bob.get_object(Bucket=NAME, Key="tagged")["Body"].read() == b"t"
    assert refused(bob.get_object, Bucket=NAME, Key="open/k") == "AccessDenied"
    bob.put_object(Bucket=NAME, Key="bob/k", Tagging="class=public")
    for tagging in ("class=secret", ""):
        code = refused(bob.put_object, Bucket=NAME, Key="bob/k", Tagging=tagging)
        assert code == "AccessDenied"
    tags = {"TagSet": [{"Key": "class", "Value": "secret"}]}
    named = {"Bucket": NAME, "Key": "bob/k"}
    assert refused(bob.put_object_tagging, **named, Tagging=tags) == "AccessDenied"
    tags["TagSet"][0]["Value"] = "public"
    bob.put_object_tagging(**named, Tagging=tags)
    put(s3, statement("s3:PutObject"))
    assert refused(bob.put_object, Bucket=NAME, Key="k", Tagging="a=b") == "AccessDenied"


# ------------------------------------------------------------------ public access block
ALL = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), False
)


def block(s3: Any, **switches: bool) -> None:
    s3.put_public_access_block(Bucket=NAME, PublicAccessBlockConfiguration=switches)


def is_public(s3: Any) -> bool:
    return bool(s3.get_bucket_policy_status(Bucket=NAME)["PolicyStatus"]["IsPublic"])


def test_a_block_comes_back_with_all_its_switches_and_goes(s3: Any) -> None:
    missing = "NoSuchPublicAccessBlockConfiguration"
    assert refused(s3.get_public_access_block, Bucket=NAME) == missing
    block(s3, BlockPublicAcls=True)
    got = s3.get_public_access_block(Bucket=NAME)["PublicAccessBlockConfiguration"]
    assert got == ALL | {"BlockPublicAcls": True}
    s3.delete_public_access_block(Bucket=NAME)
    assert refused(s3.get_public_access_block, Bucket=NAME) == missing


def test_a_block_refuses_public_policies_and_acls(s3: Any) -> None:
    block(s3, BlockPublicPolicy=True, BlockPublicAcls=True)
    document = json.dumps({"Statement": [statement("s3:GetObject")]})
    assert refused(s3.put_bucket_policy, Bucket=NAME, Policy=document) == "AccessDenied"
    put(s3, statement("s3:GetObject", Principal={"AWS": "bob-id"}))
    assert refused(s3.put_bucket_acl, Bucket=NAME, ACL="public-read") == "AccessDenied"
    assert refused(s3.put_object, Bucket=NAME, Key="k", ACL="public-read") == "AccessDenied"
    s3.put_bucket_acl(Bucket=NAME, ACL="private")


def test_a_block_closes_what_was_public_before(s3: Any, bob: Any, anonymous: Any) -> None:
    assert not is_public(s3)
    put(s3, statement("s3:GetObject"))
    assert is_public(s3)
    block(s3, RestrictPublicBuckets=True)
    for who in (bob, anonymous):
        assert refused(who.get_object, Bucket=NAME, Key="open/k") == "AccessDenied"
    assert s3.get_object(Bucket=NAME, Key="open/k")["Body"].read() == b"open"
    s3.delete_bucket_policy(Bucket=NAME)
    s3.delete_public_access_block(Bucket=NAME)
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read")
    s3.put_object_acl(Bucket=NAME, Key="open/k", ACL="public-read")
    assert is_public(s3)
    assert anonymous.get_object(Bucket=NAME, Key="open/k")["Body"].read() == b"open"
    block(s3, IgnorePublicAcls=True)
    assert refused(anonymous.get_object, Bucket=NAME, Key="open/k") == "AccessDenied"
    assert not is_public(s3)


def test_a_new_bucket_of_the_same_name_has_no_policy(s3: Any, bob: Any) -> None:
    put(s3, statement("s3:GetObject"))
    for row in s3.list_objects_v2(Bucket=NAME)["Contents"]:
        s3.delete_object(Bucket=NAME, Key=row["Key"])
    s3.delete_bucket(Bucket=NAME)
    s3.create_bucket(Bucket=NAME)
    assert refused(s3.get_bucket_policy, Bucket=NAME) == "NoSuchBucketPolicy"
    assert refused(bob.get_object, Bucket=NAME, Key="open/k") == "AccessDenied"
