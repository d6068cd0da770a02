"""Access control lists, ownership and who pays, by boto3: an owner, another account, nobody."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from tests.conformance.s3_server import BOB, Server
from tests.conformance.test_s3_boto3 import refused

NAME = "lists"
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
AUTHENTICATED = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
LOGS = "http://acs.amazonaws.com/groups/s3/LogDelivery"
ALICES = {"ID": "alice-id", "DisplayName": "Alice A."}
BOBS = {"ID": "bob-id", "DisplayName": "Bob"}
RIGHTS = ("READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL")


@pytest.fixture(scope="module")
def alice(server: Server) -> Any:
    return server.client()


@pytest.fixture
def s3(alice: Any) -> Iterator[Any]:
    """The owner's client, and a bucket."""
    client = alice
    client.create_bucket(Bucket=NAME)
    yield client
    for setting in (client.delete_public_access_block, client.delete_bucket_ownership_controls):
        setting(Bucket=NAME)
    for row in client.list_objects_v2(Bucket=NAME).get("Contents", []):
        client.delete_object(Bucket=NAME, Key=row["Key"])
    client.delete_bucket(Bucket=NAME)


@pytest.fixture(scope="module")
def bob(server: Server) -> Any:
    return server.client(BOB)


@pytest.fixture(scope="module")
def anonymous(server: Server) -> Any:
    return server.client(signature_version=UNSIGNED)


def user(right: str, who: dict[str, str] = BOBS) -> dict[str, Any]:
    return {"Grantee": who | {"Type": "CanonicalUser"}, "Permission": right}


def group(right: str, uri: str = ALL_USERS) -> dict[str, Any]:
    return {"Grantee": {"Type": "Group", "URI": uri}, "Permission": right}


OWN = user("FULL_CONTROL", ALICES)


def policy(*grants: dict[str, Any], owner: dict[str, str] = ALICES) -> dict[str, Any]:
    return {"Owner": owner, "Grants": list(grants)}


def may(call: Callable[..., Any], **arguments: Any) -> bool:
    """Whether it is allowed: either it goes well or it is AccessDenied."""
    try:
        call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("AccessDenied", "403"):
            raise
        return False
    return True


# ------------------------------------------------------------------ how lists look
CANNED: dict[str, list[dict[str, Any]]] = {
    "private": [],
    "public-read": [group("READ")],
    "public-read-write": [group("READ"), group("WRITE")],
    "authenticated-read": [group("READ", AUTHENTICATED)],
}


@pytest.mark.parametrize("name", CANNED)
def test_a_canned_list_is_what_its_name_says(s3: Any, name: str) -> None:
    wanted = [*CANNED[name], OWN]
    s3.put_object(Bucket=NAME, Key="given", ACL=name)
    s3.put_object(Bucket=NAME, Key="put")
    assert s3.get_object_acl(Bucket=NAME, Key="put")["Grants"] == [OWN]
    s3.put_object_acl(Bucket=NAME, Key="put", ACL=name, VersionId="null")
    s3.put_bucket_acl(Bucket=NAME, ACL=name)
    for got in (
        s3.get_bucket_acl(Bucket=NAME),
        s3.get_object_acl(Bucket=NAME, Key="given"),
        s3.get_object_acl(Bucket=NAME, Key="put", VersionId="null"),
    ):
        assert (got["Owner"], got["Grants"]) == (ALICES, wanted)
    s3.put_bucket_acl(Bucket=NAME, ACL="private")
    assert s3.get_bucket_acl(Bucket=NAME)["Grants"] == [OWN]
    s3.create_bucket(Bucket="canned", ACL=name)
    assert s3.get_bucket_acl(Bucket="canned")["Grants"] == wanted
    s3.delete_bucket(Bucket="canned")


def test_a_bucket_of_logs_is_written_by_their_delivery(s3: Any, bob: Any, anonymous: Any) -> None:
    s3.put_bucket_acl(Bucket=NAME, ACL="log-delivery-write")
    grants = [group("WRITE", LOGS), group("READ_ACP", LOGS), OWN]
    assert s3.get_bucket_acl(Bucket=NAME)["Grants"] == grants
    assert not may(bob.put_object, Bucket=NAME, Key="k")
    assert not may(anonymous.put_object, Bucket=NAME, Key="k")


def test_headers_name_accounts_and_groups(s3: Any) -> None:
    header = 'id="bob-id"'
    given = {
        "GrantRead": f'uri="{ALL_USERS}", emailAddress="BOB@store.test"',
        "GrantReadACP": header,
        "GrantWriteACP": "id=bob-id",
        "GrantFullControl": "id=alice-id,id=bob-id",
    }
    wanted = [group("READ"), user("READ"), user("READ_ACP"), user("WRITE_ACP"), OWN,
              user("FULL_CONTROL")]  # fmt: skip
    s3.put_object(Bucket=NAME, Key="k", **given)
    assert s3.get_object_acl(Bucket=NAME, Key="k")["Grants"] == wanted
    s3.put_object_acl(Bucket=NAME, Key="k", ACL="private")
    s3.put_object_acl(Bucket=NAME, Key="k", GrantWrite=header, **given)
    s3.put_bucket_acl(Bucket=NAME, GrantWrite=header, **given)
    wanted.insert(2, user("WRITE"))
    for got in (s3.get_object_acl(Bucket=NAME, Key="k"), s3.get_bucket_acl(Bucket=NAME)):
        assert got["Grants"] == wanted
    s3.create_bucket(Bucket="granted", GrantWrite=header)
    assert s3.get_bucket_acl(Bucket="granted")["Grants"] == [user("WRITE")]
    s3.delete_bucket(Bucket="granted")


def test_a_document_replaces_the_list_and_may_revoke_all(s3: Any) -> None:
    s3.put_object(Bucket=NAME, Key="k", Body=b"x", ACL="public-read")
    before = s3.head_object(Bucket=NAME, Key="k")
    by_email = {"Grantee": {"Type": "AmazonCustomerByEmail", "EmailAddress": "bob@store.test"},
                "Permission": "READ_ACP"}  # fmt: skip
    given = policy(by_email, OWN, by_email, group("READ", AUTHENTICATED))
    wanted = [group("READ", AUTHENTICATED), user("READ_ACP"), OWN]
    s3.put_object_acl(Bucket=NAME, Key="k", AccessControlPolicy=given)
    s3.put_bucket_acl(Bucket=NAME, AccessControlPolicy=given)
    assert s3.get_object_acl(Bucket=NAME, Key="k")["Grants"] == wanted
    assert s3.get_bucket_acl(Bucket=NAME)["Grants"] == wanted
    after = s3.head_object(Bucket=NAME, Key="k")
    for name in ("ETag", "LastModified", "ContentType"):
        assert after[name] == before[name], "the object stays as it was"
    s3.put_bucket_acl(Bucket=NAME, AccessControlPolicy=policy())
    s3.put_object_acl(Bucket=NAME, Key="k", AccessControlPolicy=policy())
    assert s3.get_bucket_acl(Bucket=NAME)["Grants"] == []
    assert s3.get_object_acl(Bucket=NAME, Key="k")["Grants"] == []


MANY = [user("READ", {"ID": "bob-id", "DisplayName": str(n)}) for n in range(101)]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"ACL": "nonsense"}, "InvalidArgument"),
        ({"ACL": "private", "GrantRead": "id=bob-id"}, "InvalidRequest"),
        ({"ACL": "private", "AccessControlPolicy": policy(OWN)}, "UnexpectedContent"),
        ({"GrantRead": "id=bob-id", "AccessControlPolicy": policy(OWN)}, "UnexpectedContent"),
        ({"GrantRead": "id=nobody"}, "InvalidArgument"),
        ({"GrantRead": "name=bob-id"}, "InvalidArgument"),
        ({"GrantRead": 'id="bob-id'}, "InvalidArgument"),
        ({"GrantRead": "uri=http://elsewhere/"}, "InvalidArgument"),
        ({"GrantRead": "emailAddress=nobody@store.test"}, "UnresolvableGrantByEmailAddress"),
        ({"AccessControlPolicy": policy(user("READ", {"ID": "_foo"}))}, "InvalidArgument"),
        ({"AccessControlPolicy": policy(group("READ", "http://x/"))}, "InvalidArgument"),
        ({"AccessControlPolicy": policy(user("EVERYTHING"))}, "MalformedACLError"),
        ({"AccessControlPolicy": {"Grants": [OWN]}}, "MalformedACLError"),
        ({"AccessControlPolicy": policy(OWN, owner=BOBS)}, "AccessDenied"),
        ({}, "MissingSecurityHeader"),
    ],
    ids=str,
)
def test_a_wrong_list_is_refused_and_the_old_one_stays(
    s3: Any, given: dict[str, Any], code: str
) -> None:
    s3.put_object(Bucket=NAME, Key="k", ACL="public-read")
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read")
    assert refused(s3.put_object_acl, Bucket=NAME, Key="k", **given) == code
    assert refused(s3.put_bucket_acl, Bucket=NAME, **given) == code
    for got in (s3.get_object_acl(Bucket=NAME, Key="k"), s3.get_bucket_acl(Bucket=NAME)):
        assert got["Grants"] == [group("READ"), OWN]


def test_a_list_has_a_hundred_grants_at_most(s3: Any) -> None:
    header = ",".join(f'uri="{uri}"' for uri in (ALL_USERS, AUTHENTICATED, LOGS))
    many = {f"Grant{n}": f"{header},id=alice-id,id=bob-id" for n in ("Read", "ReadACP", "Write")}
    s3.put_bucket_acl(Bucket=NAME, **many)
    assert len(s3.get_bucket_acl(Bucket=NAME)["Grants"]) == 15
    ids = [user("READ", {"ID": f"x{n}"}) for n in range(101)]
    code = refused(s3.put_bucket_acl, Bucket=NAME, AccessControlPolicy=policy(*ids))
    assert code == "MalformedACLError"
    s3.put_bucket_acl(Bucket=NAME, AccessControlPolicy=policy(*MANY)), "the same grant again"
    assert s3.get_bucket_acl(Bucket=NAME)["Grants"] == [user("READ")]


# ------------------------------------------------------------------ what rights are worth
@pytest.mark.parametrize("right", RIGHTS)
def test_a_bucket_grants_an_account_what_its_list_says(s3: Any, bob: Any, right: str) -> None:
    s3.put_object(Bucket=NAME, Key="old", Body=b"old")
    s3.put_bucket_acl(Bucket=NAME, AccessControlPolicy=policy(OWN, user(right)))
    allowed = {one for one in RIGHTS if right in (one, "FULL_CONTROL")}
    assert may(bob.head_bucket, Bucket=NAME) == ("READ" in allowed)
    assert may(bob.list_objects_v2, Bucket=NAME) == ("READ" in allowed)
    assert may(bob.get_bucket_acl, Bucket=NAME) == ("READ_ACP" in allowed)
    assert may(bob.put_object, Bucket=NAME, Key="new") == ("WRITE" in allowed)
    assert may(bob.delete_object, Bucket=NAME, Key="new") == ("WRITE" in allowed)
    for call in (bob.get_object, bob.get_object_acl, bob.get_object_tagging):
        assert not may(call, Bucket=NAME, Key="old"), "an object has its own list"
    assert not may(bob.get_bucket_cors, Bucket=NAME)
    assert not may(bob.delete_bucket, Bucket=NAME)
    assert may(bob.put_bucket_acl, Bucket=NAME, ACL="public-read") == ("WRITE_ACP" in allowed)
    assert s3.get_bucket_acl(Bucket=NAME)["Owner"] == ALICES
    assert s3.list_objects_v2(Bucket=NAME)["KeyCount"] == 1, "the owner may everything"


@pytest.mark.parametrize("right", RIGHTS)
def test_an_object_grants_an_account_what_its_list_says(s3: Any, bob: Any, right: str) -> None:
    s3.put_object(Bucket=NAME, Key="k", Body=b"x")
    s3.put_object_acl(Bucket=NAME, Key="k", AccessControlPolicy=policy(user(right)))
    allowed = {one for one in RIGHTS if right in (one, "FULL_CONTROL")}
    named = {"Bucket": NAME, "Key": "k"}
    for call in (bob.get_object, bob.head_object):
        assert may(call, **named) == ("READ" in allowed)
    bob.create_bucket(Bucket="bobs")
    source = {"Bucket": "bobs", "Key": "k", "CopySource": f"{NAME}/k"}
    assert may(bob.copy_object, **source) == ("READ" in allowed)
    bob.delete_object(Bucket="bobs", Key="k")
    bob.delete_bucket(Bucket="bobs")
    assert may(bob.get_object_acl, **named) == ("READ_ACP" in allowed)
    for call in (bob.put_object, bob.delete_object, bob.get_object_tagging):
        assert not may(call, **named), "a bucket's matter"
    given = {"AccessControlPolicy": policy(user("READ_ACP"))}
    assert may(bob.put_object_acl, **named, **given) == ("WRITE_ACP" in allowed)
    assert s3.get_object_acl(**named)["Owner"] == ALICES
    assert s3.get_object(**named)["Body"].read() == b"x", "the owner may everything"


@pytest.mark.parametrize("object_acl", CANNED)
@pytest.mark.parametrize("bucket_acl", CANNED)
def test_a_bucket_and_its_objects_are_open_each_for_itself(
    s3: Any, bob: Any, anonymous: Any, bucket_acl: str, object_acl: str
) -> None:
    s3.put_bucket_acl(Bucket=NAME, ACL=bucket_acl)
    s3.put_object(Bucket=NAME, Key="open", Body=b"x", ACL=object_acl)
    s3.put_object(Bucket=NAME, Key="usual", Body=b"x")
    for who in (bob, anonymous):
        readers = {"public-read", "public-read-write"}
        readers |= {"authenticated-read"} if who is bob else set()
        for call in (who.list_objects, who.list_objects_v2, who.list_multipart_uploads):
            assert may(call, Bucket=NAME) == (bucket_acl in readers)
        assert may(who.get_object, Bucket=NAME, Key="open") == (object_acl in readers)
        assert not may(who.get_object, Bucket=NAME, Key="usual")
        missing = refused(who.get_object, Bucket=NAME, Key="none")
        assert missing == ("NoSuchKey" if bucket_acl in readers else "AccessDenied")
        written = bucket_acl == "public-read-write"
        assert may(who.put_object, Bucket=NAME, Key="new", Body=b"y") == written


def test_what_nobody_signed_for_is_the_bucket_owners(s3: Any, anonymous: Any) -> None:
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read-write")
    anonymous.put_object(Bucket=NAME, Key="k", Body=b"found")
    assert s3.get_object(Bucket=NAME, Key="k")["Body"].read() == b"found"
    assert s3.get_object_acl(Bucket=NAME, Key="k")["Grants"] == [OWN]
    assert not may(anonymous.get_object, Bucket=NAME, Key="k")


def test_a_list_is_not_copied(s3: Any, anonymous: Any) -> None:
    s3.put_object(Bucket=NAME, Key="k", Body=b"x", ACL="public-read")
    for key, given in (("plain", {}), ("open", {"ACL": "public-read"})):
        for metadata in ({}, {"MetadataDirective": "REPLACE", "Metadata": {"a": "b"}}):
            s3.copy_object(Bucket=NAME, Key=key, CopySource=f"{NAME}/k", **given, **metadata)
            assert may(anonymous.get_object, Bucket=NAME, Key=key) == bool(given)
    s3.put_object(Bucket=NAME, Key="k", Body=b"x")
    assert not may(anonymous.get_object, Bucket=NAME, Key="k"), "nor kept by what replaces it"


def test_each_version_has_its_own_list(s3: Any, anonymous: Any) -> None:
    where = {"Bucket": "versioned-lists"}
    named = where | {"Key": "k"}
    s3.create_bucket(**where)
    s3.put_bucket_versioning(**where, VersioningConfiguration={"Status": "Enabled"})
    old, new = (s3.put_object(**named, Body=body)["VersionId"] for body in (b"old", b"new"))
    s3.put_object_acl(**named, VersionId=old, ACL="public-read")
    assert s3.get_object_acl(**named)["Grants"] == [OWN]
    assert s3.get_object_acl(**named, VersionId=old)["Grants"] == [group("READ"), OWN]
    assert anonymous.get_object(**named, VersionId=old)["Body"].read() == b"old"
    for version in ({}, {"VersionId": new}):
        assert not may(anonymous.get_object, **named, **version)
    s3.put_object_acl(**named, ACL="public-read")
    assert anonymous.get_object(**named)["Body"].read() == b"new"
    marker = s3.delete_object(**named)["VersionId"]
    assert refused(anonymous.get_object, **named) == "AccessDenied"
    assert anonymous.get_object(**named, VersionId=old)["Body"].read() == b"old"
    for version in (old, new, marker):
        s3.delete_object(**named, VersionId=version)
    s3.delete_bucket(**where)


def test_a_batch_is_deleted_by_whom_the_list_lets(s3: Any, bob: Any) -> None:
    s3.put_object(Bucket=NAME, Key="k")
    batch = {"Objects": [{"Key": "k"}, {"Key": "none"}]}
    assert not may(bob.delete_objects, Bucket=NAME, Delete=batch)
    s3.put_bucket_acl(Bucket=NAME, GrantWrite="id=bob-id")
    assert len(bob.delete_objects(Bucket=NAME, Delete=batch)["Deleted"]) == 2


def test_a_bucket_made_again_stays_as_it_is(s3: Any, bob: Any) -> None:
    s3.put_object(Bucket=NAME, Key="k", Body=b"x")
    s3.create_bucket(Bucket=NAME)
    assert refused(s3.create_bucket, Bucket=NAME, ACL="public-read") == "BucketAlreadyExists"
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read")
    s3.create_bucket(Bucket=NAME, ACL="public-read")
    for given in ({}, {"ACL": "public-read", "ObjectOwnership": "ObjectWriter"}):
        assert refused(s3.create_bucket, Bucket=NAME, **given) == "BucketAlreadyExists"
    elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
    code = refused(s3.create_bucket, Bucket=NAME, ACL="public-read", **elsewhere)
    assert code == "BucketAlreadyOwnedByYou"
    assert refused(bob.create_bucket, Bucket=NAME) == "BucketAlreadyExists"
    assert s3.get_object(Bucket=NAME, Key="k")["Body"].read() == b"x"
    assert s3.get_bucket_acl(Bucket=NAME)["Grants"] == [group("READ"), OWN]


# ------------------------------------------------------------------ whose objects are
def test_who_writes_owns_and_lets_others_read(s3: Any, bob: Any) -> None:
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read-write")
    named = {"Bucket": NAME, "Key": "k"}
    bob.put_object(**named, Body=b"bob's")
    assert bob.get_object_acl(**named)["Owner"] == BOBS
    for call in (s3.get_object, s3.head_object, s3.get_object_acl):
        assert not may(call, **named)
    assert not may(s3.put_object_acl, **named, ACL="public-read")
    assert not may(s3.copy_object, Bucket=NAME, Key="copy", CopySource=f"{NAME}/k")
    owners = (("bucket-owner-read", "READ"), ("bucket-owner-full-control", "FULL_CONTROL"))
    for acl, right in owners:
        bob.put_object_acl(**named, ACL=acl)
        wanted = [user("FULL_CONTROL"), user(right, ALICES)]
        assert bob.get_object_acl(**named)["Grants"] == wanted
        assert s3.get_object(**named)["Body"].read() == b"bob's"
        assert may(s3.get_object_acl, **named) == (right == "FULL_CONTROL")
    s3.copy_object(Bucket=NAME, Key="copy", CopySource=f"{NAME}/k")
    assert s3.get_object_acl(Bucket=NAME, Key="copy")["Owner"] == ALICES
    bob.put_object_acl(**named, ACL="private")
    s3.put_object(**named, Body=b"mine")
    assert s3.get_object_acl(**named)["Grants"] == [OWN], "overwritten, it is the writer's"


def test_a_policy_gives_what_its_owner_owns_alone(s3: Any, bob: Any, anonymous: Any) -> None:
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read-write")
    s3.put_object(Bucket=NAME, Key="mine", Body=b"mine")
    bob.put_object(Bucket=NAME, Key="bobs", Body=b"bob's")
    one = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject*",
           "Resource": f"arn:aws:s3:::{NAME}/*"}  # fmt: skip
    s3.put_bucket_policy(Bucket=NAME, Policy=json.dumps({"Statement": [one]}))
    assert may(anonymous.get_object, Bucket=NAME, Key="mine")
    for who in (s3, anonymous):
        assert not may(who.get_object, Bucket=NAME, Key="bobs")
        assert not may(who.get_object_acl, Bucket=NAME, Key="bobs")
    assert may(bob.get_object, Bucket=NAME, Key="bobs")
    deny = one | {"Effect": "Deny", "Principal": {"AWS": "bob-id"}}
    s3.put_bucket_policy(Bucket=NAME, Policy=json.dumps({"Statement": [deny]}))
    assert not may(bob.get_object, Bucket=NAME, Key="bobs"), "but it denies whatever it wants"
    s3.delete_bucket_policy(Bucket=NAME)


def test_parts_are_judged_by_what_their_upload_said(s3: Any, bob: Any) -> None:
    full = {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}}
    one = {"Effect": "Allow", "Principal": {"AWS": "bob-id"}, "Action": "s3:PutObject",
           "Resource": f"arn:aws:s3:::{NAME}/*", "Condition": full}  # fmt: skip
    s3.put_bucket_policy(Bucket=NAME, Policy=json.dumps({"Statement": [one]}))
    named = {"Bucket": NAME, "Key": "k"}
    assert not may(bob.create_multipart_upload, **named)
    assert not may(bob.put_object, **named)
    given = {"ACL": "bucket-owner-full-control"}
    named["UploadId"] = bob.create_multipart_upload(**named, **given)["UploadId"]
    etag = bob.upload_part(**named, PartNumber=1, Body=b"part")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    bob.complete_multipart_upload(**named, MultipartUpload=parts)
    assert s3.get_object(Bucket=NAME, Key="k")["Body"].read() == b"part"
    deny = one | {"Effect": "Deny", "Action": "s3:PutObjectAcl"}
    allow = {name: value for name, value in one.items() if name != "Condition"}
    s3.put_bucket_policy(Bucket=NAME, Policy=json.dumps({"Statement": [allow, deny]}))
    assert may(bob.put_object, Bucket=NAME, Key="k")
    assert not may(bob.put_object, Bucket=NAME, Key="k", **given), "who may not give lists"
    s3.delete_bucket_policy(Bucket=NAME)


def test_an_owner_deletes_what_others_wrote(s3: Any, bob: Any) -> None:
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read-write")
    bob.put_object(Bucket=NAME, Key="k")
    s3.delete_object(Bucket=NAME, Key="k")
    assert s3.list_objects_v2(Bucket=NAME)["KeyCount"] == 0


def test_lists_show_whose_an_object_is(s3: Any, bob: Any) -> None:
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read-write")
    s3.put_object(Bucket=NAME, Key="a")
    bob.put_object(Bucket=NAME, Key="b")
    s3.put_object(Bucket=NAME, Key="c", ACL="public-read")
    for rows in (
        s3.list_objects(Bucket=NAME)["Contents"],
        bob.list_objects_v2(Bucket=NAME, FetchOwner=True)["Contents"],
        s3.list_object_versions(Bucket=NAME)["Versions"],
    ):
        assert [(row["Key"], row["Owner"]) for row in rows] == [
            ("a", ALICES), ("b", BOBS), ("c", ALICES)
        ]  # fmt: skip
    assert "Owner" not in s3.list_objects_v2(Bucket=NAME)["Contents"][0]


def test_an_upload_has_its_initiator_and_gives_the_object_its_owner(s3: Any, bob: Any) -> None:
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read-write")
    mine = s3.create_multipart_upload(Bucket=NAME, Key="a")["UploadId"]
    named = {"Bucket": NAME, "Key": "b"}
    named["UploadId"] = bob.create_multipart_upload(**named, ACL="bucket-owner-read")["UploadId"]
    for who in (s3, bob):
        rows = who.list_multipart_uploads(Bucket=NAME)["Uploads"]
        assert [(row["Initiator"], row["Owner"]) for row in rows] == [
            (ALICES, ALICES), (BOBS, BOBS)
        ]  # fmt: skip
        parts = who.list_parts(**named)
        assert (parts["Initiator"], parts["Owner"]) == (BOBS, BOBS)
    theirs = {"Bucket": NAME, "Key": "a", "UploadId": mine}
    for call in (bob.list_parts, bob.abort_multipart_upload):
        assert not may(call, **theirs)
        assert refused(call, Bucket=NAME, Key="a", UploadId="0" * 32) == "NoSuchUpload"
    etag = bob.upload_part(**named, PartNumber=1, Body=b"part")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    bob.complete_multipart_upload(**named, MultipartUpload=parts)
    assert s3.get_object(Bucket=NAME, Key="b")["Body"].read() == b"part"
    assert bob.get_object_acl(Bucket=NAME, Key="b")["Owner"] == BOBS
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read")
    for upload in (mine, "0" * 32):
        assert not may(bob.list_parts, Bucket=NAME, Key="a", UploadId=upload)
    s3.abort_multipart_upload(**theirs)


def owned(s3: Any, rule: str) -> None:
    controls = {"Rules": [{"ObjectOwnership": rule}]}
    s3.put_bucket_ownership_controls(Bucket=NAME, OwnershipControls=controls)


def test_controls_come_back_and_go(s3: Any) -> None:
    missing = "OwnershipControlsNotFoundError"
    assert refused(s3.get_bucket_ownership_controls, Bucket=NAME) == missing
    for rule in ("ObjectWriter", "BucketOwnerPreferred", "BucketOwnerEnforced"):
        owned(s3, rule)
        got = s3.get_bucket_ownership_controls(Bucket=NAME)["OwnershipControls"]
        assert got == {"Rules": [{"ObjectOwnership": rule}]}
        s3.create_bucket(Bucket="controlled", ObjectOwnership=rule)
        got = s3.get_bucket_ownership_controls(Bucket="controlled")["OwnershipControls"]
        assert got == {"Rules": [{"ObjectOwnership": rule}]}
        s3.delete_bucket(Bucket="controlled")
    s3.delete_bucket_ownership_controls(Bucket=NAME)
    assert refused(s3.get_bucket_ownership_controls, Bucket=NAME) == missing
    for rules in ([], [{"ObjectOwnership": "ObjectWriter"}] * 2, [{"ObjectOwnership": "Nobody"}]):
        given = {"Bucket": NAME, "OwnershipControls": {"Rules": rules}}
        assert refused(s3.put_bucket_ownership_controls, **given) == "MalformedXML"
    given = {"Bucket": "controlled", "ObjectOwnership": "Nobody"}
    assert refused(s3.create_bucket, **given) == "InvalidArgument"


def test_a_preferred_owner_gets_what_is_given_with_full_control(s3: Any, bob: Any) -> None:
    owned(s3, "BucketOwnerPreferred")
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read-write")
    bob.put_object(Bucket=NAME, Key="k")
    assert bob.get_object_acl(Bucket=NAME, Key="k")["Owner"] == BOBS
    bob.put_object(Bucket=NAME, Key="k", ACL="bucket-owner-full-control")
    assert s3.get_object_acl(Bucket=NAME, Key="k")["Grants"] == [OWN]
    assert not may(bob.get_object, Bucket=NAME, Key="k")
    named = {"Bucket": NAME, "Key": "parts"}
    given = {"ACL": "bucket-owner-full-control"}
    upload = bob.create_multipart_upload(**named, **given)["UploadId"]
    row = s3.list_multipart_uploads(Bucket=NAME)["Uploads"][0]
    assert (row["Initiator"], row["Owner"]) == (BOBS, ALICES)
    bob.abort_multipart_upload(**named, UploadId=upload)


def test_an_enforced_owner_owns_all_and_lists_say_nothing(s3: Any, bob: Any) -> None:
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read-write")
    code = "InvalidBucketAclWithObjectOwnership"
    rule = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    given = {"Bucket": NAME, "OwnershipControls": rule}
    assert refused(s3.put_bucket_ownership_controls, **given) == code
    assert refused(
        s3.create_bucket, Bucket="x", ObjectOwnership="BucketOwnerEnforced", ACL="public-read"
    ) == code  # fmt: skip
    named = {"Bucket": NAME, "Key": "k"}
    bob.put_object(**named, Body=b"bob's", GrantRead="id=bob-id")
    s3.put_object(Bucket=NAME, Key="open", ACL="public-read")
    s3.put_bucket_acl(Bucket=NAME, ACL="private")
    owned(s3, "BucketOwnerEnforced")
    assert s3.get_object(**named)["Body"].read() == b"bob's"
    assert s3.get_object_acl(**named)["Owner"] == ALICES
    assert s3.get_object_acl(Bucket=NAME, Key="open")["Grants"] == [OWN]
    for key in ("k", "open"):
        assert not may(bob.get_object, Bucket=NAME, Key=key)
    unsupported = "AccessControlListNotSupported"
    for acl in ("public-read", "private"):
        assert refused(s3.put_object, **named, ACL=acl) == unsupported
        assert refused(s3.put_object_acl, **named, ACL=acl) == unsupported
        assert refused(s3.put_bucket_acl, Bucket=NAME, ACL=acl) == unsupported
    assert refused(s3.put_object, **named, GrantRead="id=bob-id") == unsupported
    s3.put_object(**named, ACL="bucket-owner-full-control")


# ------------------------------------------------------------------ the public access block
@pytest.mark.parametrize("acl", ["public-read", "public-read-write", "authenticated-read"])
def test_a_block_refuses_public_lists_wherever_they_come(s3: Any, acl: str) -> None:
    s3.put_object(Bucket=NAME, Key="k")
    s3.put_public_access_block(
        Bucket=NAME, PublicAccessBlockConfiguration={"BlockPublicAcls": True}
    )
    named = {"Bucket": NAME, "Key": "k"}
    everybody = policy(OWN, group("READ"))
    for call, given in (
        (s3.put_bucket_acl, {"Bucket": NAME, "ACL": acl}),
        (s3.put_object_acl, named | {"ACL": acl}),
        (s3.put_object, named | {"ACL": acl}),
        (s3.put_object, named | {"GrantRead": f"uri={ALL_USERS}"}),
        (s3.copy_object, named | {"ACL": acl, "CopySource": f"{NAME}/k"}),
        (s3.create_multipart_upload, named | {"ACL": acl}),
        (s3.put_bucket_acl, {"Bucket": NAME, "AccessControlPolicy": everybody}),
        (s3.put_object_acl, named | {"AccessControlPolicy": everybody}),
    ):
        assert refused(call, **given) == "AccessDenied"
    s3.put_object_acl(**named, GrantRead="id=bob-id")


def test_a_block_ignores_public_lists_and_heeds_others(s3: Any, bob: Any, anonymous: Any) -> None:
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read-write")
    s3.put_object(Bucket=NAME, Key="k", ACL="public-read")
    s3.put_object(Bucket=NAME, Key="bobs", GrantRead="id=bob-id")
    status = s3.get_bucket_policy_status(Bucket=NAME)["PolicyStatus"]
    assert status["IsPublic"]
    s3.put_public_access_block(
        Bucket=NAME, PublicAccessBlockConfiguration={"IgnorePublicAcls": True}
    )
    for who in (bob, anonymous):
        assert not may(who.list_objects_v2, Bucket=NAME)
        assert not may(who.get_object, Bucket=NAME, Key="k")
        assert not may(who.put_object, Bucket=NAME, Key="k")
    assert may(bob.get_object, Bucket=NAME, Key="bobs")
    assert not s3.get_bucket_policy_status(Bucket=NAME)["PolicyStatus"]["IsPublic"]


# ------------------------------------------------------------------ who pays
def test_others_say_that_they_pay(server: Server, s3: Any, bob: Any, anonymous: Any) -> None:
    assert s3.get_bucket_request_payment(Bucket=NAME)["Payer"] == "BucketOwner"
    s3.put_bucket_acl(Bucket=NAME, ACL="public-read-write")
    s3.put_object(Bucket=NAME, Key="k", Body=b"dear", ACL="public-read")
    s3.put_bucket_request_payment(Bucket=NAME, RequestPaymentConfiguration={"Payer": "Requester"})
    assert s3.get_bucket_request_payment(Bucket=NAME)["Payer"] == "Requester"
    named, pays = {"Bucket": NAME, "Key": "k"}, {"RequestPayer": "requester"}
    assert "RequestCharged" not in s3.get_object(**named)
    for who, given in ((bob, {}), (anonymous, {}), (anonymous, pays)):
        assert not may(who.get_object, **named, **given)
        assert not may(who.list_objects_v2, Bucket=NAME, **given)
        assert not may(who.put_object, **named, **given)
    got = bob.get_object(**named, **pays)
    assert (got["Body"].read(), got["RequestCharged"]) == (b"dear", "requester")
    assert bob.list_objects_v2(Bucket=NAME, **pays)["RequestCharged"] == "requester"
    assert bob.put_object(Bucket=NAME, Key="new", **pays)["RequestCharged"] == "requester"
    for version in ("s3", "s3v4"):
        client = server.client(BOB, signature_version=version)
        url = client.generate_presigned_url("get_object", named | pays)
        if "x-amz-request-payer=" not in url:  # version 4 leaves it a header, which is signed
            request = Request(url, headers={"x-amz-request-payer": "requester"})
        else:
            request = Request(url)
        with urlopen(request) as reply:
            assert reply.read() == b"dear"
    s3.put_bucket_request_payment(Bucket=NAME, RequestPaymentConfiguration={"Payer": "BucketOwner"})
    assert "RequestCharged" not in bob.get_object(**named)
