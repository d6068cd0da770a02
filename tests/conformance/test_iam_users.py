"""Users, their keys and their policies, by boto3."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.iam_server import IamServer, code_of, running_iam


@pytest.fixture(scope="module")
def server() -> Iterator[IamServer]:
    with running_iam() as server:
        yield server


@pytest.fixture(scope="module")
def iam(server: IamServer) -> Any:
    return server.root("iam")


def policy(action: Any, resource: Any = "*", effect: str = "Allow", **more: Any) -> str:
    one = {"Effect": effect, "Action": action, "Resource": resource} | more
    return json.dumps({"Version": "2012-10-17", "Statement": [one]})


def test_a_user_has_a_name_a_path_an_id_and_tags(iam: Any) -> None:
    made = iam.create_user(UserName="ZoX", Path="/a/b/",
                           Tags=[{"Key": "team", "Value": "x y"}])["User"]  # fmt: skip
    assert made["Arn"] == "arn:aws:iam::ann-id:user/a/b/ZoX"
    assert (made["Path"], made["UserName"]) == ("/a/b/", "ZoX")
    assert made["UserId"].startswith("AIDA")
    assert iam.get_user(UserName="zox")["User"] == made
    assert code_of(iam.create_user, UserName="zOX") == "EntityAlreadyExists"
    iam.tag_user(UserName="ZoX", Tags=[{"Key": "Team", "Value": "y"}, {"Key": "b", "Value": ""}])
    assert iam.list_user_tags(UserName="ZoX")["Tags"] == [
        {"Key": "b", "Value": ""}, {"Key": "Team", "Value": "y"}
    ]  # fmt: skip
    iam.untag_user(UserName="ZoX", TagKeys=["TEAM"])
    assert [tag["Key"] for tag in iam.list_user_tags(UserName="ZoX")["Tags"]] == ["b"]
    iam.update_user(UserName="ZoX", NewUserName="Zoe", NewPath="/c/")
    assert code_of(iam.get_user, UserName="ZoX") == "NoSuchEntity"
    renamed = iam.get_user(UserName="zoe")["User"]
    assert (renamed["Arn"], renamed["UserId"]) == ("arn:aws:iam::ann-id:user/c/Zoe", made["UserId"])
    iam.delete_user(UserName="Zoe")
    assert code_of(iam.delete_user, UserName="Zoe") == "NoSuchEntity"


def test_lists_go_by_name_without_case_and_in_pages(iam: Any) -> None:
    for name, path in (("Ad", "/l/w/"), ("ac", "/l/x/"), ("Ab", "/l/y/"), ("aa", "/l/z/")):
        iam.create_user(UserName=name, Path=path)
    for size in (1, 3, 100):
        pages = iam.get_paginator("list_users").paginate(
            PathPrefix="/l/", PaginationConfig={"PageSize": size}
        )
        assert [u["UserName"] for p in pages for u in p["Users"]] == ["aa", "Ab", "ac", "Ad"]
    assert [u["UserName"] for u in iam.list_users(PathPrefix="/l/x")["Users"]] == ["ac"]
    assert iam.list_users(PathPrefix="/none/")["Users"] == []


@pytest.mark.parametrize(
    "wrong",
    [{"UserName": "a b"}, {"UserName": "x" * 65}, {"UserName": "u", "Path": "no"},
     {"UserName": "u", "Tags": [{"Key": "a", "Value": "1"}, {"Key": "A", "Value": "2"}]},
     {"UserName": "u", "Tags": [{"Key": "<", "Value": "1"}]}],
    ids=str,
)  # fmt: skip
def test_what_breaks_the_rules_is_refused(iam: Any, wrong: dict[str, Any]) -> None:
    assert code_of(iam.create_user, **wrong) in ("ValidationError", "InvalidInput")


def test_a_user_without_policies_can_do_nothing(server: IamServer) -> None:
    user = server.user("nobody")
    s3 = server.of("s3", user)
    server.root("s3").create_bucket(Bucket="nothing")
    assert code_of(s3.list_buckets) == "AccessDenied"
    assert code_of(s3.create_bucket, Bucket="of-nobody") == "AccessDenied"
    assert code_of(s3.list_objects_v2, Bucket="nothing") == "AccessDenied"
    assert code_of(s3.put_object, Bucket="nothing", Key="k", Body=b"") == "AccessDenied"
    assert code_of(server.of("iam", user).list_users) == "AccessDenied"
    deleted = s3.delete_objects(Bucket="nothing", Delete={"Objects": [{"Key": "k"}]})
    assert deleted["Errors"][0]["Code"] == "AccessDenied"


@pytest.mark.parametrize("signature", ["s3v4", "s3"], ids=["v4", "v2"])
def test_a_policy_opens_what_it_says_and_the_bucket_is_the_accounts(
    server: IamServer, iam: Any, signature: str
) -> None:
    name = f"writer-{signature}"
    bucket = f"of-{name}"
    user = server.user(name)
    s3 = server.of("s3", user, signature_version=signature)
    iam.put_user_policy(UserName=name, PolicyName="P", PolicyDocument=policy(
        ["s3:CreateBucket", "s3:PutObject", "s3:GetObject"], "arn:aws:s3:::of-writer*"
    ))  # fmt: skip
    s3.create_bucket(Bucket=bucket)
    assert server.root("s3").get_bucket_acl(Bucket=bucket)["Owner"]["ID"] == "ann-id"
    s3.put_object(Bucket=bucket, Key="k", Body=b"body")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"
    assert code_of(s3.get_object, Bucket=bucket, Key="missing") == "AccessDenied", "no ListBucket"
    assert code_of(s3.delete_object, Bucket=bucket, Key="k") == "AccessDenied"
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"})
    assert urllib.request.urlopen(url).read() == b"body"
    iam.put_user_policy(UserName=name, PolicyName="Deny",
                        PolicyDocument=policy("s3:GetObject", effect="Deny"))  # fmt: skip
    assert code_of(s3.get_object, Bucket=bucket, Key="k") == "AccessDenied"
    iam.delete_user_policy(UserName=name, PolicyName="Deny")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"


def test_inline_policies_come_back_as_they_were_given(iam: Any) -> None:
    iam.create_user(UserName="inline")
    document = policy("s3:ListBucket", "arn:aws:s3:::ü %+&<x>")
    assert code_of(iam.get_user_policy, UserName="inline", PolicyName="p") == "NoSuchEntity"
    iam.put_user_policy(UserName="inline", PolicyName="p", PolicyDocument=document)
    got = iam.get_user_policy(UserName="inline", PolicyName="p")
    assert json.dumps(got["PolicyDocument"]) == document
    assert iam.list_user_policies(UserName="inline")["PolicyNames"] == ["p"]
    assert code_of(iam.delete_user, UserName="inline") == "DeleteConflict"
    iam.delete_user_policy(UserName="inline", PolicyName="p")
    assert code_of(iam.delete_user_policy, UserName="inline", PolicyName="p") == "NoSuchEntity"
    iam.delete_user(UserName="inline")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("{}", "MalformedPolicyDocument"),
        ('{"Version": "2012-10-17"}', "MalformedPolicyDocument"),
        (policy("s3:*").replace("2012", "2010"), "MalformedPolicyDocument"),
        (policy("s3:*", Principal="*"), "MalformedPolicyDocument"),
        (policy("nothing"), "MalformedPolicyDocument"),
        (policy("s3:*", "bucket"), "MalformedPolicyDocument"),
        (policy("s3:*", Condition={"StringEquals": {"aws:nonsense": "1"}}),
         "MalformedPolicyDocument"),
        (policy("s3:*", [f"arn:aws:s3:::bucket-{n}" for n in range(100)]), "LimitExceeded"),
    ],
    ids=["empty", "no statement", "version", "principal", "action", "resource", "key", "long"],
)  # fmt: skip
def test_a_bad_policy_is_refused(iam: Any, document: str, code: str) -> None:
    if "bad" not in [u["UserName"] for u in iam.list_users()["Users"]]:
        iam.create_user(UserName="bad")
    given = {"UserName": "bad", "PolicyName": "p", "PolicyDocument": document}
    assert code_of(iam.put_user_policy, **given) == code


def test_a_key_works_until_it_is_switched_off_or_deleted(server: IamServer, iam: Any) -> None:
    user = server.user("keys")
    iam.put_user_policy(UserName="keys", PolicyName="p", PolicyDocument=policy("s3:*"))
    s3, key = server.of("s3", user), user["access_key"]
    s3.list_buckets()
    created = iam.list_access_keys(UserName="keys")["AccessKeyMetadata"][0]
    assert (created["AccessKeyId"], created["Status"]) == (key, "Active")
    iam.update_access_key(UserName="keys", AccessKeyId=key, Status="Inactive")
    assert code_of(s3.list_buckets) == "InvalidAccessKeyId"
    assert code_of(server.of("iam", user).get_user) == "InvalidClientTokenId"
    switched = iam.list_access_keys(UserName="keys")["AccessKeyMetadata"][0]
    assert (switched["Status"], switched["CreateDate"]) == ("Inactive", created["CreateDate"])
    iam.update_access_key(UserName="keys", AccessKeyId=key, Status="Active")
    s3.list_buckets()
    second = iam.create_access_key(UserName="keys")["AccessKey"]["AccessKeyId"]
    assert code_of(iam.create_access_key, UserName="keys") == "LimitExceeded"
    pages = iam.get_paginator("list_access_keys").paginate(
        UserName="keys", PaginationConfig={"PageSize": 1}
    )
    found = [k["AccessKeyId"] for p in pages for k in p["AccessKeyMetadata"]]
    assert sorted(found) == sorted([key, second])
    assert iam.get_access_key_last_used(AccessKeyId=second)["UserName"] == "keys"
    assert code_of(iam.delete_user, UserName="keys") == "DeleteConflict"
    iam.update_user(UserName="keys", NewUserName="renamed")
    s3.list_buckets()
    iam.delete_access_key(UserName="renamed", AccessKeyId=key)
    assert code_of(s3.list_buckets) == "InvalidAccessKeyId"
    for call in (iam.delete_access_key, iam.update_access_key):
        given = {"Status": "Active"} if call == iam.update_access_key else {}
        assert code_of(call, UserName="renamed", AccessKeyId=key, **given) == "NoSuchEntity"


def test_the_account_itself_has_keys_too_and_nobody_elses_are_seen(server: IamServer) -> None:
    iam, bob = server.root("iam"), server.root("iam", server.bob)
    assert iam.get_user()["User"]["Arn"] == "arn:aws:iam::ann-id:root"
    made = iam.create_access_key()["AccessKey"]
    server.client("s3", made["AccessKeyId"], made["SecretAccessKey"]).list_buckets()
    held = {k["AccessKeyId"] for k in iam.list_access_keys()["AccessKeyMetadata"]}
    assert held == {server.ann.access_key, made["AccessKeyId"]}
    assert code_of(bob.delete_access_key, AccessKeyId=made["AccessKeyId"]) == "NoSuchEntity"
    assert code_of(bob.get_user, UserName="nobody") == "NoSuchEntity"
    other = server.user("others-key")["access_key"]
    iam.create_user(UserName="no-keys")
    for name in ({}, {"UserName": "no-keys"}):
        assert code_of(iam.delete_access_key, AccessKeyId=other, **name) == "NoSuchEntity"
    given = {"UserName": "others-key", "AccessKeyId": server.ann.access_key}
    assert code_of(iam.delete_access_key, **given) == "NoSuchEntity", "the account's own"
    iam.delete_access_key(AccessKeyId=made["AccessKeyId"])
    assert code_of(iam.delete_access_key, AccessKeyId=made["AccessKeyId"]) == "NoSuchEntity"


def test_a_user_asks_iam_what_its_policies_allow(server: IamServer, iam: Any) -> None:
    user = server.user("reader")
    own = server.of("iam", user)
    document = policy(["iam:GetUser", "iam:ListAccessKeys"], "arn:aws:iam::*:user/${aws:username}")
    iam.put_user_policy(UserName="reader", PolicyName="p", PolicyDocument=document)
    assert own.get_user()["User"]["Arn"] == user["arn"]
    assert own.list_access_keys()["AccessKeyMetadata"][0]["UserName"] == "reader"
    assert code_of(own.get_user, UserName="nobody") == "AccessDenied"
    assert code_of(own.create_access_key) == "AccessDenied"


def test_a_bucket_policy_names_users(server: IamServer) -> None:
    user, s3 = server.user("named"), server.root("s3")
    s3.create_bucket(Bucket="names-users")
    statement = {"Effect": "Allow", "Principal": {"AWS": user["arn"]}, "Action": "s3:ListBucket",
                 "Resource": "arn:aws:s3:::names-users"}  # fmt: skip
    s3.put_bucket_policy(Bucket="names-users", Policy=json.dumps({"Statement": [statement]}))
    server.of("s3", user).list_objects(Bucket="names-users")
    stranger = server.of("s3", server.user("not-named"))
    assert code_of(stranger.list_objects, Bucket="names-users") == "AccessDenied"
    whole = statement | {"Principal": {"AWS": "arn:aws:iam::ann-id:root"}}
    s3.put_bucket_policy(Bucket="names-users", Policy=json.dumps({"Statement": [whole]}))
    assert code_of(stranger.list_objects, Bucket="names-users") == "AccessDenied", "the account's"


def test_another_accounts_user_needs_both_sides(server: IamServer) -> None:
    user, s3 = server.user("abroad", server.bob), server.root("s3")
    s3.create_bucket(Bucket="both-sides")
    other, iam = server.of("s3", user), server.root("iam", server.bob)
    for principal in (user["arn"], "arn:aws:iam::bob-id:root", "bob-id"):
        statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "s3:ListBucket",
                     "Resource": "arn:aws:s3:::both-sides"}  # fmt: skip
        s3.put_bucket_policy(Bucket="both-sides", Policy=json.dumps({"Statement": [statement]}))
        assert code_of(other.list_objects, Bucket="both-sides") == "AccessDenied"
        iam.put_user_policy(UserName="abroad", PolicyName="p", PolicyDocument=policy("s3:*"))
        other.list_objects(Bucket="both-sides")
        iam.delete_user_policy(UserName="abroad", PolicyName="p")
    iam.put_user_policy(UserName="abroad", PolicyName="p", PolicyDocument=policy("s3:*"))
    s3.delete_bucket_policy(Bucket="both-sides")
    assert code_of(other.list_objects, Bucket="both-sides") == "AccessDenied"


def test_what_no_user_has_is_listed_as_nothing(iam: Any) -> None:
    iam.create_user(UserName="plain")
    for noun in ("mfa_devices", "ssh_public_keys", "signing_certificates",
                 "service_specific_credentials"):  # fmt: skip
        answer = getattr(iam, f"list_{noun}")(UserName="plain")
        assert [value for value in answer.values() if isinstance(value, list)] == [[]], noun
        assert code_of(getattr(iam, f"list_{noun}"), UserName="nobody-here") == "NoSuchEntity"
    for call in (iam.get_login_profile, iam.delete_login_profile):
        assert code_of(call, UserName="plain") == "NoSuchEntity"
    assert iam.list_account_aliases()["AccountAliases"] == []
    assert iam.list_virtual_mfa_devices()["VirtualMFADevices"] == []
