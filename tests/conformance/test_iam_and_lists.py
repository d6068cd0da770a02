"""Users and sessions where buckets have access control lists, by boto3."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.iam_server import IamServer, code_of, running_iam
from tests.conformance.test_iam_users import policy


@pytest.fixture(scope="module")
def server() -> Iterator[IamServer]:
    with running_iam() as server:
        yield server


@pytest.fixture(scope="module")
def bucket(server: IamServer) -> str:
    """Ann's, whose lists count."""
    server.root("s3").create_bucket(Bucket="lists", ObjectOwnership="ObjectWriter")
    return "lists"


def allow(server: IamServer, who: Any, name: str, *actions: str) -> dict[str, str]:
    user = server.user(name, who)
    server.root("iam", who).put_user_policy(
        UserName=name, PolicyName="p", PolicyDocument=policy(list(actions))
    )
    return user


@pytest.mark.parametrize("grantee", ["id=bob-id", "emailAddress=bob@example.org"])
def test_a_list_that_names_an_account_needs_the_policy_of_its_user_too(
    server: IamServer, bucket: str, grantee: str
) -> None:
    name = f"by-{grantee.partition('=')[0]}"
    owner, user = server.root("s3"), server.user(name, server.bob)
    other, iam = server.of("s3", user), server.root("iam", server.bob)
    owner.put_bucket_acl(Bucket=bucket, ACL="private")
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy("s3:*"))
    assert code_of(other.list_objects, Bucket=bucket) == "AccessDenied"
    owner.put_bucket_acl(Bucket=bucket, GrantRead=grantee)
    other.list_objects(Bucket=bucket)
    iam.delete_user_policy(UserName=name, PolicyName="p")
    assert code_of(other.list_objects, Bucket=bucket) == "AccessDenied"
    server.root("s3", server.bob).list_objects(Bucket=bucket)


def test_a_list_that_names_the_account_gives_its_users_nothing(
    server: IamServer, bucket: str
) -> None:
    user = server.of("s3", server.user("of-the-owner"))
    owner = server.root("s3")
    owner.put_bucket_acl(Bucket=bucket, GrantFullControl="id=ann-id")
    assert code_of(user.list_objects, Bucket=bucket) == "AccessDenied"
    owner.put_bucket_acl(Bucket=bucket, ACL="public-read")
    user.list_objects(Bucket=bucket)
    owner.put_bucket_acl(Bucket=bucket, ACL="private")


def test_who_puts_with_a_list_needs_the_right_to_give_it(server: IamServer, bucket: str) -> None:
    user = allow(server, server.ann, "putter", "s3:PutObject", "s3:CreateBucket")
    s3, put = server.of("s3", user), {"Bucket": bucket, "Key": "k", "Body": b"x"}
    s3.put_object(**put)
    assert code_of(s3.put_object, **put, ACL="public-read") == "AccessDenied"
    s3.create_bucket(Bucket="by-the-putter")
    assert code_of(s3.create_bucket, Bucket="by-the-putter-2", ACL="private") == "AccessDenied"
    server.root("iam").put_user_policy(
        UserName="putter", PolicyName="acl",
        PolicyDocument=policy(["s3:PutObjectAcl", "s3:PutBucketAcl"]),
    )  # fmt: skip
    s3.put_object(**put, ACL="public-read")
    s3.create_bucket(Bucket="by-the-putter-2", ACL="private")


def test_parts_copies_and_batches_are_asked_one_by_one(server: IamServer, bucket: str) -> None:
    user = allow(server, server.ann, "copier", "s3:PutObject")
    s3, root = server.of("s3", user), server.root("s3")
    root.put_object(Bucket=bucket, Key="source", Body=b"x" * 10)
    source = {"Bucket": bucket, "Key": "source"}
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": source}
    assert code_of(s3.copy_object, **copy) == "AccessDenied", "it may not read the source"
    server.root("iam").put_user_policy(
        UserName="copier", PolicyName="read",
        PolicyDocument=policy(["s3:GetObject", "s3:DeleteObject"], f"arn:aws:s3:::{bucket}/s*"),
    )  # fmt: skip
    s3.copy_object(**copy)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    part = s3.upload_part(
        Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"part"
    )["ETag"]  # fmt: skip
    s3.complete_multipart_upload(
        Bucket=bucket, Key="parts", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]},
    )  # fmt: skip
    batch = {"Objects": [{"Key": "source"}, {"Key": "copy"}]}
    answer = s3.delete_objects(Bucket=bucket, Delete=batch)
    assert [one["Key"] for one in answer["Deleted"]] == ["source"]
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("copy", "AccessDenied")]
    assert code_of(s3.get_object_tagging, Bucket=bucket, Key="copy") == "AccessDenied"
    tagged = {"Bucket": bucket, "Key": "copy", "Body": b"", "Tagging": "a=b"}
    assert code_of(s3.put_object, **tagged) == "AccessDenied"
