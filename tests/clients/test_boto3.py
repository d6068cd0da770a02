"""boto3 with its defaults, over http and https."""

import base64
import hashlib
import io
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.config import Config

from tests.clients.running import RunningNetwork

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

MIB = 1 << 20


def test_objects_come_back_whole_and_in_ranges(network: RunningNetwork) -> None:
    client = network.boto()
    client.create_bucket(Bucket="boto")
    body = random.Random(1).randbytes(5 * MIB + 3)
    put = client.put_object(Bucket="boto", Key="k/é", Body=body, Metadata={"who": "ann"})
    got = client.get_object(Bucket="boto", Key="k/é")
    assert got["Body"].read() == body
    assert got["ETag"] == put["ETag"]
    assert got["Metadata"] == {"who": "ann"}
    for start, end in ((0, 0), (MIB - 1, MIB), (5 * MIB, 5 * MIB + 2), (100, 4 * MIB)):
        part = client.get_object(Bucket="boto", Key="k/é", Range=f"bytes={start}-{end}")
        assert part["Body"].read() == body[start : end + 1]
    client.delete_object(Bucket="boto", Key="k/é")
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket="boto", Key="k/é")
    client.delete_bucket(Bucket="boto")


def test_the_transfer_manager_uploads_in_parts(network: RunningNetwork) -> None:
    client = network.boto()
    client.create_bucket(Bucket="parts")
    body = random.Random(2).randbytes(25 * MIB + 1)
    client.upload_fileobj(io.BytesIO(body), "parts", "large")
    head = client.head_object(Bucket="parts", Key="large")
    assert head["ContentLength"] == len(body)
    assert head["ETag"].strip('"').endswith("-4")
    back = io.BytesIO()
    client.download_fileobj("parts", "large", back)
    assert back.getvalue() == body
    client.delete_object(Bucket="parts", Key="large")
    client.delete_bucket(Bucket="parts")


def test_listing_pages_through_everything_in_order(network: RunningNetwork) -> None:
    client = network.boto()
    client.create_bucket(Bucket="pages")
    keys = sorted(f"d{n % 7}/k{n:03}" for n in range(120))
    for key in keys:
        client.put_object(Bucket="pages", Key=key, Body=b"x")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket="pages", PaginationConfig={"PageSize": 17}
    )
    assert [item["Key"] for page in pages for item in page["Contents"]] == keys
    tops = client.list_objects_v2(Bucket="pages", Delimiter="/")["CommonPrefixes"]
    assert [top["Prefix"] for top in tops] == [f"d{n}/" for n in range(7)]
    client.delete_objects(Bucket="pages", Delete={"Objects": [{"Key": key} for key in keys]})
    client.delete_bucket(Bucket="pages")


def test_a_client_s_key_opens_what_the_data_directory_does_not(network: RunningNetwork) -> None:
    from botocore.exceptions import ClientError

    client = network.boto()
    client.create_bucket(Bucket="closed")
    secret, other = random.Random(3).randbytes(32), bytes(32)
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": secret}
    small, large = b"a small secret body", random.Random(4).randbytes(12 * MIB + 5)
    client.put_object(Bucket="closed", Key="small", Body=small, **key)
    client.upload_fileobj(io.BytesIO(large), "closed", "large", ExtraArgs=key)
    for name, body in (("small", small), ("large", large)):
        back = io.BytesIO()
        client.download_fileobj("closed", name, back, ExtraArgs=key)
        assert back.getvalue() == body
        wrong = key | {"SSECustomerKey": other}
        for given, status in (({}, 400), (wrong, 403)):
            with pytest.raises(ClientError) as refused:
                client.get_object(Bucket="closed", Key=name, **given)
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    digest = hashlib.md5(secret).digest()
    forms = [base64.b64encode(secret), secret.hex().encode(), secret, small, large[:64],
             digest, base64.b64encode(digest), hashlib.md5(small).digest()]  # fmt: skip
    files = [path for path in network.data_dir.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        held = path.read_bytes()
        assert not any(form in held for form in forms), path
    for name in ("small", "large"):
        client.delete_object(Bucket="closed", Key=name)
    client.delete_bucket(Bucket="closed")


def test_encryption_by_default_and_by_kms_is_said(network: RunningNetwork) -> None:
    client = network.boto()
    client.create_bucket(Bucket="default")
    kms = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "team"}
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": kms, "BucketKeyEnabled": True}]}
    client.put_bucket_encryption(Bucket="default", ServerSideEncryptionConfiguration=rules)
    got = client.get_bucket_encryption(Bucket="default")["ServerSideEncryptionConfiguration"]
    assert got == rules
    body = random.Random(5).randbytes(9 * MIB)
    client.upload_fileobj(io.BytesIO(body), "default", "k")
    head = client.head_object(Bucket="default", Key="k")
    said = [head[name] for name in ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled")]
    assert said == ["aws:kms", "team", True]
    back = io.BytesIO()
    client.download_fileobj("default", "k", back)
    assert back.getvalue() == body
    client.delete_object(Bucket="default", Key="k")
    client.delete_bucket(Bucket="default")


def test_another_account_sees_nothing_until_the_bucket_is_public(
    plain_network: RunningNetwork,
) -> None:
    import json

    import boto3
    from botocore.exceptions import ClientError

    made = plain_network.cumulus("account", "create", "Bob B. $mith", "--json").stdout
    other = json.loads(made)
    bob = boto3.client(
        "s3",
        endpoint_url=plain_network.url("s3"),
        aws_access_key_id=other["access_key"],
        aws_secret_access_key=other["secret_key"],
        region_name="us-east-1",
    )
    owner = plain_network.boto()
    owner.create_bucket(Bucket="mine")
    owner.put_object(Bucket="mine", Key="k", Body=b"secret")
    with pytest.raises(ClientError, match="AccessDenied"):
        bob.get_object(Bucket="mine", Key="k")
    plain_network.cumulus("bucket", "public", "mine", "on")
    assert plain_network.curl(f"{plain_network.url('s3')}/mine/k") == b"secret"
    plain_network.cumulus("bucket", "public", "mine", "off")
    with pytest.raises(ClientError, match="AccessDenied"):
        bob.get_object(Bucket="mine", Key="k")
    plain_network.cumulus("bucket", "rm", "mine", "--force")


def test_a_form_made_by_boto3_is_posted_by_somebody_without_keys(network: RunningNetwork) -> None:
    import ssl

    import httpx

    trust = ssl.create_default_context(cafile=network.authority) if network.authority else True
    client = network.boto()
    client.create_bucket(Bucket="forms")
    made = client.generate_presigned_post(
        "forms", "in/${filename}", Conditions=[["content-length-range", 1, 3 * MIB]]
    )
    body = random.Random(3).randbytes(2 * MIB)
    for file, status in ((body, 204), (body * 2, 400)):
        answer = httpx.post(
            made["url"],
            data=made["fields"],
            files={"file": ("picture.png", file)},
            verify=trust,
        )
        assert answer.status_code == status, answer.text
    assert client.get_object(Bucket="forms", Key="in/picture.png")["Body"].read() == body
    client.delete_object(Bucket="forms", Key="in/picture.png")
    client.delete_bucket(Bucket="forms")


def test_versions_are_kept_hidden_and_locked(network: RunningNetwork) -> None:
    client = network.boto()
    where = {"Bucket": "versions"}
    client.create_bucket(**where, ObjectLockEnabledForBucket=True)
    bodies = [random.Random(n).randbytes(size) for n, size in enumerate((9, 3 * MIB, 100))]
    names = [client.put_object(**where, Key="k", Body=body)["VersionId"] for body in bodies]
    client.put_object_retention(
        **where, Key="k", VersionId=names[1],
        Retention={"Mode": "GOVERNANCE", "RetainUntilDate": datetime(2099, 1, 1, tzinfo=UTC)},
    )  # fmt: skip
    marker = client.delete_object(**where, Key="k")["VersionId"]
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(**where, Key="k")
    for name, body in zip(names, bodies, strict=True):
        assert client.get_object(**where, Key="k", VersionId=name)["Body"].read() == body
    assert client.list_objects_v2(**where)["KeyCount"] == 0
    pages = client.get_paginator("list_object_versions").paginate(
        **where, PaginationConfig={"PageSize": 1}
    )
    listed = [v["VersionId"] for page in pages for v in page.get("Versions", [])]
    assert listed == names[::-1]
    everything = {"Objects": [{"Key": "k", "VersionId": name} for name in (*names, marker)]}
    errors = client.delete_objects(**where, Delete=everything)["Errors"]
    assert [(error["VersionId"], error["Code"]) for error in errors] == [
        (names[1], "AccessDenied")
    ]  # fmt: skip
    assert client.get_object(**where, Key="k")["Body"].read() == bodies[1], "it is the latest now"
    client.delete_object(
        **where, Key="k", VersionId=names[1], BypassGovernanceRetention=True
    )  # fmt: skip
    client.delete_bucket(**where)


def test_a_bucket_is_bounded_in_bytes_and_in_requests(plain_network: RunningNetwork) -> None:
    network, once = plain_network, Config(retries={"max_attempts": 1})
    client = network.boto(config=once)
    client.create_bucket(Bucket="bounded")
    client.put_object(Bucket="bounded", Key="a", Body=bytes(5000))
    said = network.cumulus("bucket", "limit", "bounded", "--bytes", "8KiB", "--json").stdout
    assert json.loads(said) == {"bytes": 8192, "requests": 0, "used": 5000}
    with pytest.raises(client.exceptions.ClientError) as full:
        client.put_object(Bucket="bounded", Key="b", Body=bytes(5000))
    error = full.value.response
    assert error["Error"]["Code"] == "QuotaExceeded"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 403
    network.cumulus("bucket", "limit", "bounded", "--bytes", "off", "--requests", "4")
    codes = set()
    for _ in range(100):
        try:
            client.head_bucket(Bucket="bounded")
        except client.exceptions.ClientError as slow:
            codes.add(slow.response["ResponseMetadata"]["HTTPStatusCode"])
    assert codes == {503}
    shown = network.cumulus("bucket", "limit", "bounded", "--requests", "off").stdout
    assert shown == "bytes     no limit\nrequests  no limit\n"
    wrong = network.cumulus("bucket", "limit", "bounded", "--bytes", "lots", check=False)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    client.delete_object(Bucket="bounded", Key="a")
    client.delete_bucket(Bucket="bounded")


def test_another_account_gets_what_it_is_granted(plain_network: RunningNetwork) -> None:
    network = plain_network
    made = network.cumulus("account", "create", "bob", "--email", "bob@store.test", "--json")
    account = json.loads(made.stdout)
    bob_id, keys = account["account"]["id"], (account["access_key"], account["secret_key"])
    alice, bob = network.boto(), network.boto(keys=keys)
    nobody = network.boto(config=Config(signature_version=UNSIGNED))

    def denied(who: Any, key: str) -> bool:
        with pytest.raises(who.exceptions.ClientError, match="AccessDenied"):
            who.get_object(Bucket="shared", Key=key)
        return True

    alice.create_bucket(Bucket="shared")
    alice.put_object(Bucket="shared", Key="k", Body=b"k")
    assert denied(bob, "k")
    named = ("--bucket", "shared", "--key", "k")
    network.aws("s3api", "put-object-acl", *named, "--grant-read", "emailAddress=bob@store.test")
    assert bob.get_object(Bucket="shared", Key="k")["Body"].read() == b"k"
    assert denied(nobody, "k")
    grants = alice.get_object_acl(Bucket="shared", Key="k")["Grants"]
    assert [grant["Grantee"]["DisplayName"] for grant in grants] == ["bob"]
    # What bob may write is his; the whole bucket opens and closes at once.
    alice.put_bucket_acl(Bucket="shared", GrantWrite=f"id={bob_id}")
    bob.put_object(Bucket="shared", Key="bobs", Body=b"b")
    assert denied(alice, "bobs")
    rows = alice.list_objects_v2(Bucket="shared", FetchOwner=True)["Contents"]
    assert [row["Owner"]["ID"] == bob_id for row in rows] == [True, False]
    network.cumulus("bucket", "public", "shared", "on")
    assert nobody.get_object(Bucket="shared", Key="bobs")["Body"].read() == b"b"
    network.cumulus("bucket", "public", "shared", "off")
    assert denied(nobody, "bobs")
    for key in ("k", "bobs"):
        alice.delete_object(Bucket="shared", Key=key)
    alice.delete_bucket(Bucket="shared")
