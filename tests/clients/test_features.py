"""Each feature of S3, IAM and STS by boto3 and by the aws command line, over http and https."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.clients.callers import Boto, Caller, CommandLine, Refused
from tests.clients.running import RunningNetwork

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

CALLERS: dict[str, type[Boto] | type[CommandLine]] = {"boto3": Boto, "aws": CommandLine}
SECRET = "0123456789abcdef0123456789abcdef"
HOOK = "arn:cumulus:sqs::hook:webhook"


@pytest.fixture(scope="module")
def callers() -> Iterator[dict[tuple[int, str], Caller]]:
    made: dict[tuple[int, str], Caller] = {}
    yield made
    for caller in made.values():
        caller.close()


@pytest.fixture(params=list(CALLERS))
def call(
    network: RunningNetwork,
    callers: dict[tuple[int, str], Caller],
    request: pytest.FixtureRequest,
) -> Caller:
    place = (id(network), str(request.param))
    if place not in callers:
        callers[place] = CALLERS[request.param](network)
    return callers[place]


@pytest.fixture
def bucket(call: Caller, request: pytest.FixtureRequest) -> str:
    name = f"{call.name}-{request.node.originalname.removeprefix('test_')[:40]}"
    name = name.replace("_", "-")
    call("CreateBucket", Bucket=name, ObjectLockEnabledForBucket="lock" in name)
    return name


def refused(call: Caller, operation: str, service: str = "s3", **params: Any) -> str:
    with pytest.raises(Refused) as caught:
        call(operation, service, **params)
    return caught.value.code


def put(call: Caller, bucket: str, key: str = "k", body: str = "x", **more: Any) -> dict[str, Any]:
    return call("PutObject", Bucket=bucket, Key=key, Body=body, **more)


def policy(action: str | list[str], resource: str, **more: Any) -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource} | more
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def kept(call: Caller, bucket: str, name: str, key: str, value: Any, field: str = "") -> None:
    """A setting of a bucket comes back as it was put, and goes."""
    call(f"PutBucket{name}", Bucket=bucket, **{key: value})
    found = call(f"GetBucket{name}", Bucket=bucket)
    found = found[field] if field else found
    for one, wanted in value.items():
        assert found[one] == wanted, found


def anyone_s(network: RunningNetwork) -> urllib3.PoolManager:
    """Connections of somebody without keys; names of websites are not the certificate's."""
    if not network.authority:
        return urllib3.PoolManager()
    return urllib3.PoolManager(ca_certs=str(network.authority), assert_hostname=False)


def keys_of(made: dict[str, Any]) -> tuple[str, ...]:
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
    return tuple(made[name] for name in names if name in made)


# ------------------------------------------------------------------ objects
def test_versions(call: Caller, bucket: str) -> None:
    call("PutBucketVersioning", Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first, second = put(call, bucket, body="1")["VersionId"], put(call, bucket, body="2")
    assert call("GetObject", Bucket=bucket, Key="k", VersionId=first)["Body"] == "1"
    assert call("GetObject", Bucket=bucket, Key="k")["Body"] == "2"
    marker = call("DeleteObject", Bucket=bucket, Key="k")
    assert marker["DeleteMarker"]
    assert refused(call, "GetObject", Bucket=bucket, Key="k") == "NoSuchKey"
    listed = call("ListObjectVersions", Bucket=bucket)
    assert [row["VersionId"] for row in listed["Versions"]] == [second["VersionId"], first]
    call("DeleteObject", Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert call("GetObject", Bucket=bucket, Key="k")["Body"] == "2"


def test_object_lock(call: Caller, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    config = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    call("PutObjectLockConfiguration", Bucket=bucket, ObjectLockConfiguration=config)
    found = call("GetObjectLockConfiguration", Bucket=bucket)["ObjectLockConfiguration"]
    assert found == config
    one = where | {"VersionId": put(call, bucket)["VersionId"]}
    assert call("GetObjectRetention", **where)["Retention"]["Mode"] == "GOVERNANCE"
    assert refused(call, "DeleteObject", **one) == "AccessDenied"
    call("PutObjectLegalHold", **where, LegalHold={"Status": "ON"})
    assert call("GetObjectLegalHold", **where)["LegalHold"] == {"Status": "ON"}
    assert refused(call, "DeleteObject", **one, BypassGovernanceRetention=True) == "AccessDenied"
    call("PutObjectLegalHold", **where, LegalHold={"Status": "OFF"})
    call("DeleteObject", **one, BypassGovernanceRetention=True)


def test_tags(call: Caller, bucket: str) -> None:
    tags = {"TagSet": [{"Key": "colour", "Value": "blue"}]}
    call("PutBucketTagging", Bucket=bucket, Tagging=tags)
    assert call("GetBucketTagging", Bucket=bucket)["TagSet"] == tags["TagSet"]
    put(call, bucket, Tagging="a=1")
    assert call("GetObjectTagging", Bucket=bucket, Key="k")["TagSet"][0]["Key"] == "a"
    call("PutObjectTagging", Bucket=bucket, Key="k", Tagging=tags)
    assert call("HeadObject", Bucket=bucket, Key="k")["TagCount"] == 1
    call("DeleteObjectTagging", Bucket=bucket, Key="k")
    call("DeleteBucketTagging", Bucket=bucket)
    assert refused(call, "GetBucketTagging", Bucket=bucket) == "NoSuchTagSet"


def test_conditions(call: Caller, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    etag = put(call, bucket, IfNoneMatch="*")["ETag"]
    assert refused(call, "PutObject", **where, Body="2", IfNoneMatch="*") == "PreconditionFailed"
    etag = put(call, bucket, body="2", IfMatch=etag)["ETag"]
    assert refused(call, "GetObject", **where, IfMatch='"no"') == "PreconditionFailed"
    assert refused(call, "GetObject", **where, IfNoneMatch=etag) in {"304", "NotModified"}
    source = {"CopySource": f"{bucket}/k", "CopySourceIfMatch": etag}
    call("CopyObject", Bucket=bucket, Key="copy", **source)
    assert refused(call, "DeleteObject", **where, IfMatch='"no"') == "PreconditionFailed"
    call("DeleteObject", **where, IfMatch=etag)


def test_checksums_and_attributes(call: Caller, bucket: str) -> None:
    for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        if algorithm in {"CRC32C", "CRC64NVME"} and call.name == "aws":
            continue  # they need awscrt, which CLI 1 does not bring
        made = put(call, bucket, algorithm, "body", ChecksumAlgorithm=algorithm)
        name = f"Checksum{algorithm}"
        got = call("GetObject", Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
        assert (got["Body"], got[name]) == ("body", made[name])
        asked = ["Checksum", "ObjectSize", "ETag"]
        found = call("GetObjectAttributes", Bucket=bucket, Key=algorithm, ObjectAttributes=asked)
        assert (found["ObjectSize"], found["Checksum"][name]) == (4, made[name])
        break_it = {"Body": "other", name: made[name]}
        assert refused(call, "PutObject", Bucket=bucket, Key="k", **break_it) == "BadDigest"


def test_rename_and_parts(call: Caller, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "made"}
    upload = where | {"UploadId": call("CreateMultipartUpload", **where)["UploadId"]}
    etag = call("UploadPart", **upload, PartNumber=1, Body="part")["ETag"]
    assert [p["Size"] for p in call("ListParts", **upload)["Parts"]] == [4]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    call("CompleteMultipartUpload", **upload, MultipartUpload=parts)
    call("RenameObject", Bucket=bucket, Key="moved", RenameSource=f"{bucket}/made")
    assert call("GetObject", Bucket=bucket, Key="moved")["Body"] == "part"
    assert refused(call, "GetObject", **where) == "NoSuchKey"
    again = where | {"UploadId": call("CreateMultipartUpload", **where)["UploadId"]}
    assert len(call("ListMultipartUploads", Bucket=bucket)["Uploads"]) == 1
    call("AbortMultipartUpload", **again)


def test_encryption(call: Caller, bucket: str) -> None:
    mine = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": SECRET}
    put(call, bucket, "mine", "closed", **mine)
    assert call("GetObject", Bucket=bucket, Key="mine", **mine)["Body"] == "closed"
    assert refused(call, "GetObject", Bucket=bucket, Key="mine") == "InvalidRequest"
    kms = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "features"}
    assert "features" in put(call, bucket, "kms", **kms)["SSEKMSKeyId"]
    assert call("HeadObject", Bucket=bucket, Key="kms")["ServerSideEncryption"] == "aws:kms"
    default = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    config = {"Rules": [default]}
    call("PutBucketEncryption", Bucket=bucket, ServerSideEncryptionConfiguration=config)
    assert put(call, bucket)["ServerSideEncryption"] == "aws:kms"
    call("DeleteBucketEncryption", Bucket=bucket)
    assert "SSEKMSKeyId" not in put(call, bucket, ServerSideEncryption="AES256")
    assert call("HeadObject", Bucket=bucket, Key="k")["ServerSideEncryption"] == "AES256"


# ------------------------------------------------------------------ who may
def test_lists_and_policies(network: RunningNetwork, call: Caller, bucket: str) -> None:
    put(call, bucket, "open", ACL="public-read")
    put(call, bucket, "closed")
    grants = call("GetObjectAcl", Bucket=bucket, Key="open")["Grants"]
    assert {"READ", "FULL_CONTROL"} == {grant["Permission"] for grant in grants}
    pool = anyone_s(network)

    def anyone(key: str) -> int:
        answer = pool.request("GET", f"{network.url('s3')}/{bucket}/{key}")
        return int(answer.status)

    assert (anyone("open"), anyone("closed")) == (200, 403)
    text = policy("s3:GetObject", f"arn:aws:s3:::{bucket}/*", Principal="*")
    call("PutBucketPolicy", Bucket=bucket, Policy=text)
    assert json.loads(call("GetBucketPolicy", Bucket=bucket)["Policy"]) == json.loads(text)
    assert call("GetBucketPolicyStatus", Bucket=bucket)["PolicyStatus"] == {"IsPublic": True}
    assert anyone("closed") == 200
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    block = dict.fromkeys(names, True)
    call("PutPublicAccessBlock", Bucket=bucket, PublicAccessBlockConfiguration=block)
    found = call("GetPublicAccessBlock", Bucket=bucket)
    assert found["PublicAccessBlockConfiguration"] == block
    assert (anyone("open"), anyone("closed")) == (403, 403)
    assert refused(call, "PutBucketPolicy", Bucket=bucket, Policy=text) == "AccessDenied"
    call("DeleteBucketPolicy", Bucket=bucket)
    rules = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    call("PutBucketOwnershipControls", Bucket=bucket, OwnershipControls=rules)
    assert call("GetBucketOwnershipControls", Bucket=bucket)["OwnershipControls"] == rules
    acl = {"Bucket": bucket, "Key": "closed", "ACL": "public-read"}
    assert refused(call, "PutObjectAcl", **acl) == "AccessControlListNotSupported"


def test_users_and_sessions(network: RunningNetwork, call: Caller, bucket: str) -> None:
    name, everything = f"ann-{call.name}", policy("s3:*", "*")
    arn = call("CreateUser", "iam", UserName=name)["User"]["Arn"]
    keys = keys_of(call("CreateAccessKey", "iam", UserName=name)["AccessKey"])
    user = CALLERS[call.name](network, keys)
    assert refused(user, "ListObjectsV2", Bucket=bucket) == "AccessDenied"
    named = {"UserName": name, "PolicyName": "all"}
    call("PutUserPolicy", "iam", **named, PolicyDocument=everything)
    assert user("ListObjectsV2", Bucket=bucket)["KeyCount"] == 0
    assert user("GetCallerIdentity", "sts")["Arn"] == arn
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": arn}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = {"RoleName": f"role-{call.name}"}
    made = call("CreateRole", "iam", **role, AssumeRolePolicyDocument=document)["Role"]
    read = policy("s3:ListBucket", "*")
    call("PutRolePolicy", "iam", **role, PolicyName="read", PolicyDocument=read)
    taken = user("AssumeRole", "sts", RoleArn=made["Arn"], RoleSessionName="one")
    user.close()
    session = CALLERS[call.name](network, keys_of(taken["Credentials"]))
    assert session("ListObjectsV2", Bucket=bucket)["KeyCount"] == 0
    assert refused(session, "PutObject", Bucket=bucket, Key="k", Body="x") == "AccessDenied"
    session.close()
    assert refused(call, "DeleteUser", "iam", UserName=name) == "DeleteConflict"


def test_forms_and_origins(network: RunningNetwork, call: Caller, bucket: str) -> None:
    rule = {"AllowedOrigins": ["https://page.test"], "AllowedMethods": ["POST", "GET"]}
    kept(call, bucket, "Cors", "CORSConfiguration", {"CORSRules": [rule]})
    form = network.boto().generate_presigned_post(bucket, "form/${filename}", ExpiresIn=60)
    pool = anyone_s(network)
    fields = form["fields"] | {"file": ("name.txt", b"by form")}
    origin = {"Origin": "https://page.test"}
    sent = pool.request("POST", form["url"], fields=fields, headers=origin)
    assert sent.status == 204
    assert sent.headers["access-control-allow-origin"] == "https://page.test"
    assert call("GetObject", Bucket=bucket, Key="form/name.txt")["Body"] == "by form"
    call("DeleteBucketCors", Bucket=bucket)
    assert refused(call, "GetBucketCors", Bucket=bucket) == "NoSuchCORSConfiguration"


# ------------------------------------------------------------------ what a bucket does itself
def test_lifecycle(call: Caller, bucket: str) -> None:
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "k"}, "Expiration": {"Days": 9}}
    name = "LifecycleConfiguration"
    kept(call, bucket, name, name, {"Rules": [rule]})
    assert 'rule-id="old"' in put(call, bucket)["Expiration"]
    call("DeleteBucketLifecycle", Bucket=bucket)
    assert refused(call, f"GetBucket{name}", Bucket=bucket) == "NoSuchLifecycleConfiguration"


def test_notifications(call: Caller, bucket: str) -> None:
    queue = {"Id": "all", "QueueArn": HOOK, "Events": ["s3:ObjectCreated:*"]}
    name = "NotificationConfiguration"
    kept(call, bucket, name, name, {"QueueConfigurations": [queue]})
    put(call, bucket)
    twice = {"QueueConfigurations": [queue, queue | {"Id": "again"}]}
    operation = f"PutBucket{name}"
    assert refused(call, operation, Bucket=bucket, NotificationConfiguration=twice) == (
        "InvalidArgument"
    )
    call(operation, Bucket=bucket, NotificationConfiguration={})


def test_websites(network: RunningNetwork, call: Caller, bucket: str) -> None:
    config = {"IndexDocument": {"Suffix": "i.html"}, "ErrorDocument": {"Key": "e.html"}}
    kept(call, bucket, "Website", "WebsiteConfiguration", config)
    for key in ("i.html", "e.html"):
        put(call, bucket, key, key, ACL="public-read", ContentType="text/html")
    call("PutBucketAcl", Bucket=bucket, ACL="public-read")
    pool = anyone_s(network)
    host = {"Host": f"{bucket}.s3-website.localhost"}
    for path, body in (("/", "i.html"), ("/none", "e.html")):
        got = pool.request("GET", network.url("s3") + path, headers=host)
        assert got.data.decode() == body, got.status
    call("DeleteBucketWebsite", Bucket=bucket)


def test_logs_inventories_and_replication(
    network: RunningNetwork, call: Caller, bucket: str
) -> None:
    logging = {"TargetBucket": bucket, "TargetPrefix": "logs/"}
    config = {"LoggingEnabled": logging}
    call("PutBucketLogging", Bucket=bucket, BucketLoggingStatus=config)
    assert call("GetBucketLogging", Bucket=bucket)["LoggingEnabled"] == logging
    place = {"Bucket": f"arn:aws:s3:::{bucket}", "Format": "CSV", "Prefix": "inventory"}
    inventory = {
        "Id": "daily",
        "IsEnabled": True,
        "IncludedObjectVersions": "All",
        "Schedule": {"Frequency": "Daily"},
        "Destination": {"S3BucketDestination": place},
        "OptionalFields": ["Size", "ETag"],
    }
    one = {"Bucket": bucket, "Id": "daily"}
    call("PutBucketInventoryConfiguration", **one, InventoryConfiguration=inventory)
    found = call("GetBucketInventoryConfiguration", **one)["InventoryConfiguration"]
    assert found == inventory
    call("DeleteBucketInventoryConfiguration", **one)
    call("PutBucketVersioning", Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put(call, bucket, "copied/old")
    rule = {
        "ID": "r",
        "Priority": 1,
        "Status": "Enabled",
        "Filter": {"Prefix": "copied/"},
        "Destination": {"Bucket": "arn:cumulus:replication::there:other"},
        "DeleteMarkerReplication": {"Status": "Disabled"},
    }
    replication = {"Role": "arn:aws:iam::1:role/r", "Rules": [rule]}
    call("PutBucketReplication", Bucket=bucket, ReplicationConfiguration=replication)
    got = call("GetBucketReplication", Bucket=bucket)["ReplicationConfiguration"]["Rules"]
    assert [(one["ID"], one["Filter"]) for one in got] == [("r", {"Prefix": "copied/"})]
    assert "sent: 1" in network.cumulus("bucket", "replicate", bucket, "--all").stdout
    old = call("HeadObject", Bucket=bucket, Key="copied/old")
    assert old["ReplicationStatus"] == "PENDING"
    call("DeleteBucketReplication", Bucket=bucket)
    call("PutBucketLogging", Bucket=bucket, BucketLoggingStatus={})


def test_limits(network: RunningNetwork, call: Caller, bucket: str) -> None:
    network.cumulus("bucket", "limit", bucket, "--bytes", "4")
    put(call, bucket, body="four")
    assert refused(call, "PutObject", Bucket=bucket, Key="more", Body="x") == "QuotaExceeded"
    call("DeleteObject", Bucket=bucket, Key="k")
    put(call, bucket, "more")
