"""Groups, managed policies, boundaries, roles, issuers and the summary, by boto3."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.iam.managed import MANAGED
from tests.conformance.iam_server import IamServer, code_of, running_iam
from tests.conformance.test_iam_users import policy

FULL = "arn:aws:iam::aws:policy/AmazonS3FullAccess"
READ = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
ANYBODY = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}
]})  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[IamServer]:
    with running_iam() as server:
        yield server


@pytest.fixture(scope="module")
def iam(server: IamServer) -> Any:
    return server.root("iam")


def test_a_groups_policies_hold_for_its_members(server: IamServer, iam: Any) -> None:
    s3 = server.of("s3", server.user("member"))
    group = iam.create_group(GroupName="G", Path="/g/")["Group"]
    assert group["Arn"] == "arn:aws:iam::ann-id:group/g/G"
    assert code_of(iam.create_group, GroupName="g") == "EntityAlreadyExists"
    iam.put_group_policy(GroupName="g", PolicyName="p", PolicyDocument=policy("s3:*"))
    assert code_of(s3.list_buckets) == "AccessDenied"
    iam.add_user_to_group(GroupName="G", UserName="member")
    iam.add_user_to_group(GroupName="G", UserName="member")
    s3.list_buckets()
    assert code_of(iam.delete_group, GroupName="G") == "DeleteConflict"
    assert code_of(iam.delete_user, UserName="member") == "DeleteConflict"
    iam.update_group(GroupName="G", NewGroupName="H", NewPath="/h/")
    iam.update_user(UserName="member", NewUserName="Member2")
    got = iam.get_group(GroupName="H")
    assert [user["UserName"] for user in got["Users"]] == ["Member2"]
    assert got["Group"]["GroupId"] == group["GroupId"]
    groups = iam.list_groups_for_user(UserName="Member2")["Groups"]
    assert [one["Arn"] for one in groups] == ["arn:aws:iam::ann-id:group/h/H"]
    s3.list_buckets()
    iam.remove_user_from_group(GroupName="H", UserName="Member2")
    assert code_of(s3.list_buckets) == "AccessDenied"
    iam.delete_group_policy(GroupName="H", PolicyName="p")
    iam.delete_group(GroupName="H")
    assert code_of(iam.get_group, GroupName="H") == "NoSuchEntity"
    assert iam.list_groups()["Groups"] == []


@pytest.mark.parametrize("noun", ["user", "group", "role"])
def test_managed_policies_are_attached_once_and_detached(iam: Any, noun: str) -> None:
    named = {f"{noun.capitalize()}Name": f"of-{noun}"}

    def call(name: str, **more: str) -> Any:
        return getattr(iam, name.replace("#", noun))(**named, **more)

    def code(name: str, **more: str) -> str:
        return code_of(getattr(iam, name.replace("#", noun)), **named, **more)

    for name in ("attach_#_policy", "detach_#_policy"):
        assert code(name, PolicyArn=FULL) == "NoSuchEntity"
    call("create_#", **({"AssumeRolePolicyDocument": ANYBODY} if noun == "role" else {}))
    assert code("detach_#_policy", PolicyArn=FULL) == "NoSuchEntity"
    assert code("attach_#_policy", PolicyArn=FULL + "No") == "NoSuchEntity"
    for policy_arn in (FULL, FULL, READ):
        call("attach_#_policy", PolicyArn=policy_arn)
    attached = call("list_attached_#_policies")["AttachedPolicies"]
    assert attached == [
        {"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in (FULL, READ)
    ]
    call("detach_#_policy", PolicyArn=READ)
    assert code("delete_#") == "DeleteConflict"
    call("detach_#_policy", PolicyArn=FULL)
    call("delete_#")


def test_a_managed_policy_has_versions_and_the_default_one_holds(
    server: IamServer, iam: Any
) -> None:
    s3 = server.of("s3", server.user("managed"))
    made = iam.create_policy(PolicyName="P", Path="/p/", Description="what it is",
                             PolicyDocument=policy("s3:ListAllMyBuckets"))["Policy"]  # fmt: skip
    arn = made["Arn"]
    assert arn == "arn:aws:iam::ann-id:policy/p/P"
    iam.attach_user_policy(UserName="managed", PolicyArn=arn)
    s3.list_buckets()
    second = iam.create_policy_version(
        PolicyArn=arn, PolicyDocument=policy("s3:GetObject"), SetAsDefault=True
    )["PolicyVersion"]
    assert (second["VersionId"], second["IsDefaultVersion"]) == ("v2", True)
    assert code_of(s3.list_buckets) == "AccessDenied"
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    s3.list_buckets()
    got = iam.get_policy_version(PolicyArn=arn, VersionId="v2")["PolicyVersion"]
    assert json.dumps(got["Document"]) == policy("s3:GetObject")
    versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    assert [one["VersionId"] for one in versions] == ["v2", "v1"]
    shown = iam.get_policy(PolicyArn=arn)["Policy"]
    assert (shown["AttachmentCount"], shown["Description"]) == (1, "what it is")
    users = iam.list_entities_for_policy(PolicyArn=arn)["PolicyUsers"]
    assert [one["UserName"] for one in users] == ["managed"]
    assert code_of(iam.delete_policy, PolicyArn=arn) == "DeleteConflict"
    assert code_of(iam.delete_policy_version, PolicyArn=arn, VersionId="v1") == "DeleteConflict"
    iam.detach_user_policy(UserName="managed", PolicyArn=arn)
    assert code_of(iam.delete_policy, PolicyArn=arn) == "DeleteConflict", "two versions"
    iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
    new = iam.create_policy_version(PolicyArn=arn, PolicyDocument=policy("s3:*"))
    assert new["PolicyVersion"]["VersionId"] == "v3", "numbers never come back"
    iam.delete_policy_version(PolicyArn=arn, VersionId="v3")
    iam.delete_policy(PolicyArn=arn)
    assert code_of(iam.get_policy, PolicyArn=arn) == "NoSuchEntity"


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_policies_are_listed_in_pages(iam: Any, size: int) -> None:
    held = {one["PolicyName"] for one in iam.list_policies(Scope="Local")["Policies"]}
    for name in {"L1", "l2", "L3"} - held:
        iam.create_policy(PolicyName=name, PolicyDocument=policy("s3:*"))
    for scope in ("All", "Local", "AWS"):
        pages = iam.get_paginator("list_policies").paginate(
            Scope=scope, PaginationConfig={"PageSize": size}
        )
        arns = [one["Arn"] for page in pages for one in page["Policies"]]
        own = [f"arn:aws:iam::ann-id:policy/{name}" for name in ("L1", "l2", "L3")]
        expected = {"All": [*sorted(MANAGED), *own], "Local": own, "AWS": sorted(MANAGED)}
        assert arns == expected[scope]
    assert iam.list_policies(OnlyAttached=True)["Policies"] == []
    assert code_of(iam.delete_policy, PolicyArn=FULL) == "InvalidInput"


def test_awss_own_policies_can_be_looked_at(iam: Any) -> None:
    assert iam.get_policy(PolicyArn=READ)["Policy"]["PolicyName"] == "AmazonS3ReadOnlyAccess"
    document = iam.get_policy_version(PolicyArn=READ, VersionId="v1")["PolicyVersion"]["Document"]
    assert document["Statement"][0]["Effect"] == "Allow"
    assert code_of(iam.get_policy_version, PolicyArn=READ, VersionId="v2") == "NoSuchEntity"


def test_a_boundary_is_the_most_that_policies_give(server: IamServer, iam: Any) -> None:
    s3 = server.of("s3", server.user("bounded"))
    boundary = iam.create_policy(PolicyName="B", PolicyDocument=policy("s3:ListAllMyBuckets"))
    arn = boundary["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName="bounded", PermissionsBoundary=arn)
    assert code_of(s3.list_buckets) == "AccessDenied", "a boundary gives nothing"
    iam.attach_user_policy(UserName="bounded", PolicyArn=FULL)
    s3.list_buckets()
    assert code_of(s3.create_bucket, Bucket="out-of-bounds") == "AccessDenied"
    shown = iam.get_user(UserName="bounded")["User"]["PermissionsBoundary"]
    assert shown["PermissionsBoundaryArn"] == arn
    assert code_of(iam.delete_policy, PolicyArn=arn) == "DeleteConflict"
    iam.delete_user_permissions_boundary(UserName="bounded")
    s3.create_bucket(Bucket="out-of-bounds")
    iam.delete_policy(PolicyArn=arn)


def test_a_role_has_a_trust_policy_and_limits(iam: Any) -> None:
    role = iam.create_role(RoleName="R", Path="/r/", AssumeRolePolicyDocument=ANYBODY,
                           Description="why", MaxSessionDuration=43200,
                           Tags=[{"Key": "a", "Value": "b"}])["Role"]  # fmt: skip
    assert role["Arn"] == "arn:aws:iam::ann-id:role/r/R"
    assert json.dumps(role["AssumeRolePolicyDocument"]) == ANYBODY
    got = iam.get_role(RoleName="r")["Role"]
    assert (got["RoleId"], got["Description"], got["MaxSessionDuration"]) == (
        role["RoleId"], "why", 43200,
    )  # fmt: skip
    assert code_of(iam.create_role, RoleName="r", AssumeRolePolicyDocument=ANYBODY) == (
        "EntityAlreadyExists"
    )
    iam.update_role(RoleName="R", Description="", MaxSessionDuration=3600)
    assert iam.get_role(RoleName="R")["Role"]["MaxSessionDuration"] == 3600
    nobody = ANYBODY.replace("Allow", "Deny")
    iam.update_assume_role_policy(RoleName="R", PolicyDocument=nobody)
    shown = iam.get_role(RoleName="R")["Role"]["AssumeRolePolicyDocument"]
    assert json.dumps(shown) == nobody
    bad = policy("sts:AssumeRole")
    assert code_of(iam.update_assume_role_policy, RoleName="R", PolicyDocument=bad) == (
        "MalformedPolicyDocument"
    )
    iam.tag_role(RoleName="R", Tags=[{"Key": "c", "Value": "d"}])
    iam.untag_role(RoleName="R", TagKeys=["a"])
    assert iam.list_role_tags(RoleName="R")["Tags"] == [{"Key": "c", "Value": "d"}]
    assert [one["RoleName"] for one in iam.list_roles(PathPrefix="/r")["Roles"]] == ["R"]
    assert iam.list_instance_profiles_for_role(RoleName="R")["InstanceProfiles"] == []
    iam.delete_role(RoleName="R")
    assert code_of(iam.delete_role, RoleName="R") == "NoSuchEntity"


def test_issuers_are_kept_with_their_audiences(iam: Any) -> None:
    url = "http://issuer.example.com/realm/one"
    arn = iam.create_open_id_connect_provider(
        Url=url, ClientIDList=["app"], ThumbprintList=["3" * 40]
    )["OpenIDConnectProviderArn"]
    assert arn == "arn:aws:iam::ann-id:oidc-provider/issuer.example.com/realm/one"
    named = {"OpenIDConnectProviderArn": arn}
    iam.add_client_id_to_open_id_connect_provider(ClientID="other", **named)
    iam.add_client_id_to_open_id_connect_provider(ClientID="app", **named)
    got = iam.get_open_id_connect_provider(**named)
    assert (got["Url"], got["ClientIDList"]) == (url, ["app", "other"])
    iam.remove_client_id_from_open_id_connect_provider(ClientID="app", **named)
    iam.update_open_id_connect_provider_thumbprint(ThumbprintList=["4" * 40], **named)
    got = iam.get_open_id_connect_provider(**named)
    assert (got["ThumbprintList"], got["ClientIDList"]) == (["4" * 40], ["other"])
    assert code_of(iam.create_open_id_connect_provider, Url=url) == "EntityAlreadyExists"
    for wrong in ("ftp://x.y/", "http://u:p@x.y/", "http://x.y/?q=1", "http:///path"):
        assert code_of(iam.create_open_id_connect_provider, Url=wrong) == "InvalidInput"
    assert iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == [{"Arn": arn}]
    iam.delete_open_id_connect_provider(**named)
    assert code_of(iam.get_open_id_connect_provider, **named) == "NoSuchEntity"


def test_the_summary_counts(server: IamServer) -> None:
    iam = server.root("iam", server.bob)
    iam.create_user(UserName="one")
    summary = iam.get_account_summary()["SummaryMap"]
    assert (summary["Users"], summary["Groups"], summary["AccessKeysPerUserQuota"]) == (1, 0, 2)
