"""boto3 with its defaults (CRC trailers included) against the front end over plain HTTP."""

import io
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from tests.conformance.s3_server import BOB, Server

MIB = 1 << 20


@pytest.fixture
def s3(server: Server) -> Iterator[Any]:
    client = server.client()
    client.create_bucket(Bucket="test-bucket")
    yield client
    for upload in client.list_multipart_uploads(Bucket="test-bucket").get("Uploads", []):
        client.abort_multipart_upload(
            Bucket="test-bucket", Key=upload["Key"], UploadId=upload["UploadId"]
        )
    for row in client.list_objects_v2(Bucket="test-bucket").get("Contents", []):
        client.delete_object(Bucket="test-bucket", Key=row["Key"])
    client.delete_bucket(Bucket="test-bucket")


def refused(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


KEYS = ["plain", "a//b", "../up", "./.", "a+b c", "percent%2Fslash", "dir/", "ünï/✓", "q?x=1&y#z",
        "quo\"te'<&>", "ctrl\x01\r\n\t", "x" * 1024, "-._~!$&'()*,;=:@"]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_any_key_makes_the_round_trip_and_is_listed(s3: Any, key: str) -> None:
    s3.put_object(Bucket="test-bucket", Key=key, Body=key.encode())
    assert s3.get_object(Bucket="test-bucket", Key=key)["Body"].read() == key.encode()
    assert [r["Key"] for r in s3.list_objects_v2(Bucket="test-bucket")["Contents"]] == [key]
    assert [r["Key"] for r in s3.list_objects(Bucket="test-bucket")["Contents"]] == [key]
    s3.delete_objects(Bucket="test-bucket", Delete={"Objects": [{"Key": "other"}]})
    source = {"Bucket": "test-bucket", "Key": key}
    s3.copy_object(Bucket="test-bucket", Key="copy", CopySource=source)
    assert s3.head_object(Bucket="test-bucket", Key="copy")["ContentLength"] == len(key.encode())


def test_attributes_come_back_as_they_were_given(s3: Any) -> None:
    s3.put_object(
        Bucket="test-bucket", Key="k", Body=b"x", ContentType="text/plain; charset=utf-8",
        CacheControl="max-age=3", ContentDisposition='attachment; filename="x"',
        ContentLanguage="de", ContentEncoding="gzip", StorageClass="STANDARD_IA",
        WebsiteRedirectLocation="/other", Metadata={"Colour": "blue", "n": "1"},
    )  # fmt: skip
    head = s3.head_object(Bucket="test-bucket", Key="k")
    assert head["ContentType"] == "text/plain; charset=utf-8"
    assert (head["CacheControl"], head["ContentLanguage"]) == ("max-age=3", "de")
    assert head["ContentEncoding"] == "gzip"
    assert (head["StorageClass"], head["WebsiteRedirectLocation"]) == ("STANDARD_IA", "/other")
    assert head["Metadata"] == {"colour": "blue", "n": "1"}
    got = s3.get_object(
        Bucket="test-bucket", Key="k", ResponseContentType="image/png", ResponseExpires="0"
    )
    assert got["ContentType"] == "image/png"


def test_metadata_above_two_kilobytes_is_refused(s3: Any) -> None:
    code = refused(s3.put_object, Bucket="test-bucket", Key="k", Metadata={"a": "x" * 2048})
    assert code == "MetadataTooLarge"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_every_checksum_is_verified_kept_and_echoed(s3: Any, algorithm: str) -> None:
    body = io.BytesIO(b"checked" * 9999)
    put = s3.put_object(Bucket="test-bucket", Key="k", Body=body, ChecksumAlgorithm=algorithm)
    name = f"Checksum{algorithm}"
    head = s3.head_object(Bucket="test-bucket", Key="k", ChecksumMode="ENABLED")
    assert head[name] == put[name]
    assert head["ChecksumType"] == "FULL_OBJECT"
    wrong = "AAAAAA==" if algorithm.startswith("CRC32") else None
    if wrong:
        assert refused(
            s3.put_object, Bucket="test-bucket", Key="k", Body=b"y", **{name: wrong}
        ) == ("BadDigest")
    assert s3.get_object(Bucket="test-bucket", Key="k")["Body"].read() == b"checked" * 9999


def test_a_large_file_goes_up_in_parts_and_comes_back(s3: Any) -> None:
    data = bytes(range(256)) * (12 * MIB // 256) + b"tail"
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_fileobj(io.BytesIO(data), "test-bucket", "big", Config=config)
    head = s3.head_object(Bucket="test-bucket", Key="big")
    assert head["ETag"].endswith('-3"')
    back = io.BytesIO()
    s3.download_fileobj("test-bucket", "big", back, Config=config)
    assert back.getvalue() == data
    part = s3.get_object(Bucket="test-bucket", Key="big", PartNumber=3)
    assert part["PartsCount"] == 3
    assert part["Body"].read() == data[10 * MIB :]
    assert refused(s3.get_object, Bucket="test-bucket", Key="big", PartNumber=4) == "InvalidPart"
    s3.put_object(Bucket="test-bucket", Key="whole", Body=b"one")
    assert s3.get_object(Bucket="test-bucket", Key="whole", PartNumber=1)["Body"].read() == b"one"
    assert refused(s3.get_object, Bucket="test-bucket", Key="whole", PartNumber=2) == "InvalidPart"


MULTIPART_CHECKSUMS = [
    ("CRC32", "COMPOSITE"),
    ("CRC32C", "FULL_OBJECT"),
    ("SHA256", "COMPOSITE"),
    ("CRC64NVME", "FULL_OBJECT"),
]


@pytest.mark.parametrize("kind", MULTIPART_CHECKSUMS)
def test_multipart_checksums_of_both_types(s3: Any, kind: tuple[str, str]) -> None:
    algorithm, how = kind
    up = s3.create_multipart_upload(
        Bucket="test-bucket", Key="m", ChecksumAlgorithm=algorithm, ChecksumType=how
    )
    where = {"Bucket": "test-bucket", "Key": "m", "UploadId": up["UploadId"]}
    parts = []
    for number, body in ((1, b"a" * 5 * MIB), (2, b"end")):
        put = s3.upload_part(**where, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
        name = f"Checksum{algorithm}"
        parts.append({"PartNumber": number, "ETag": put["ETag"], name: put[name]})
    listed = s3.list_parts(**where)
    assert [p["PartNumber"] for p in listed["Parts"]] == [1, 2]
    assert listed["ChecksumAlgorithm"] == algorithm
    assert refused(
        s3.complete_multipart_upload, **where, MultipartUpload={"Parts": parts[::-1]}
    ) == ("InvalidPartOrder")
    for _ in range(2):  # idempotent
        done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        assert done["ChecksumType"] == how
    assert done[f"Checksum{algorithm}"].endswith("-2") == (how == "COMPOSITE")
    found = s3.get_object_attributes(
        Bucket="test-bucket", Key="m", ObjectAttributes=["Checksum", "ObjectParts", "ObjectSize"]
    )
    assert found["ObjectSize"] == 5 * MIB + 3
    assert found["ObjectParts"]["TotalPartsCount"] == 2


def test_parts_are_copied_and_uploads_listed_and_aborted(s3: Any) -> None:
    s3.put_object(Bucket="test-bucket", Key="src", Body=b"0123456789")
    up = s3.create_multipart_upload(Bucket="test-bucket", Key="dst")
    where = {"Bucket": "test-bucket", "Key": "dst", "UploadId": up["UploadId"]}
    copied = s3.upload_part_copy(
        **where, PartNumber=1, CopySource="test-bucket/src", CopySourceRange="bytes=2-5"
    )
    listed = s3.list_multipart_uploads(Bucket="test-bucket")
    assert [u["Key"] for u in listed["Uploads"]] == ["dst"]
    parts = [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket="test-bucket", Key="dst")["Body"].read() == b"2345"
    other = s3.create_multipart_upload(Bucket="test-bucket", Key="dst")
    s3.abort_multipart_upload(Bucket="test-bucket", Key="dst", UploadId=other["UploadId"])
    assert refused(
        s3.list_parts, Bucket="test-bucket", Key="dst", UploadId=other["UploadId"]
    ) == "NoSuchUpload"  # fmt: skip


def test_lists_page_and_roll_up(s3: Any) -> None:
    for key in ["a/1", "a/2", "b/1", "c", "d/x", "e"]:
        s3.put_object(Bucket="test-bucket", Key=key)
    for call in ("list_objects", "list_objects_v2", "list_object_versions"):
        pages = s3.get_paginator(call).paginate(
            Bucket="test-bucket", Delimiter="/", PaginationConfig={"PageSize": 1}
        )
        seen: list[str] = []
        for page in pages:
            rows = page.get("Contents", []) or page.get("Versions", [])
            seen += [r["Key"] for r in rows] + [p["Prefix"] for p in page.get("CommonPrefixes", [])]
        assert seen == ["a/", "b/", "c", "d/", "e"], call
    after = s3.list_objects_v2(Bucket="test-bucket", StartAfter="b/1", FetchOwner=True)
    assert [r["Key"] for r in after["Contents"]] == ["c", "d/x", "e"]
    assert after["Contents"][0]["Owner"]["DisplayName"] == "Alice A."
    assert s3.list_objects_v2(Bucket="test-bucket", MaxKeys=0)["KeyCount"] == 0


def test_ranges_and_conditions(s3: Any) -> None:
    etag = s3.put_object(Bucket="test-bucket", Key="k", Body=b"0123456789")["ETag"]
    get = {"Bucket": "test-bucket", "Key": "k"}
    part = s3.get_object(**get, Range="bytes=-3")
    assert (part["Body"].read(), part["ContentRange"]) == (b"789", "bytes 7-9/10")
    assert refused(s3.get_object, **get, Range="bytes=10-") == "InvalidRange"
    assert refused(s3.get_object, **get, IfNoneMatch=etag) == "304"
    assert refused(s3.get_object, **get, IfMatch='"other"') == "PreconditionFailed"
    assert refused(s3.head_object, **get, IfMatch='"other"') == "412"
    assert refused(s3.put_object, **get, IfNoneMatch="*") == "PreconditionFailed"
    s3.put_object(**get, Body=b"new", IfMatch=etag)
    copy = {"Bucket": "test-bucket", "Key": "k2", "CopySource": "test-bucket/k"}
    assert refused(s3.copy_object, **copy, CopySourceIfMatch=etag) == "PreconditionFailed"
    assert refused(s3.copy_object, **(copy | {"Key": "k"})) == "InvalidRequest"
    s3.copy_object(**copy, MetadataDirective="REPLACE", Metadata={"a": "b"})
    assert s3.head_object(Bucket="test-bucket", Key="k2")["Metadata"] == {"a": "b"}


def test_each_key_of_a_batch_is_deleted_for_itself(s3: Any) -> None:
    for n in range(30):
        s3.put_object(Bucket="test-bucket", Key=f"<{n}>")
    wanted = [{"Key": f"<{n}>"} for n in range(30)] + [{"Key": "x", "VersionId": "no"}]
    reply = s3.delete_objects(Bucket="test-bucket", Delete={"Objects": wanted})
    assert len(reply["Deleted"]) == 30
    assert [e["Code"] for e in reply["Errors"]] == ["NoSuchVersion"]


def test_only_owners_write_and_only_public_buckets_are_read_by_others(
    server: Server, s3: Any
) -> None:
    s3.put_object(Bucket="test-bucket", Key="k", Body=b"x")
    bob, anonymous = server.client(BOB), server.client(signature_version=UNSIGNED)
    for who in (bob, anonymous):
        assert refused(who.get_object, Bucket="test-bucket", Key="k") == "AccessDenied"
        assert refused(who.list_objects_v2, Bucket="test-bucket") == "AccessDenied"
    s3.put_bucket_acl(Bucket="test-bucket", ACL="public-read")
    s3.put_object_acl(Bucket="test-bucket", Key="k", ACL="public-read")
    assert len(s3.get_bucket_acl(Bucket="test-bucket")["Grants"]) == 2
    for who in (bob, anonymous):
        assert who.get_object(Bucket="test-bucket", Key="k")["Body"].read() == b"x"
        assert who.list_objects_v2(Bucket="test-bucket")["KeyCount"] == 1
        assert refused(who.put_object, Bucket="test-bucket", Key="k") == "AccessDenied"
        assert refused(who.delete_object, Bucket="test-bucket", Key="k") == "AccessDenied"
    assert refused(
        anonymous.get_object, Bucket="test-bucket", Key="k", ResponseContentType="a/b"
    ) == "InvalidRequest"  # fmt: skip
    assert refused(anonymous.list_buckets) == "AccessDenied"
    assert refused(bob.create_bucket, Bucket="test-bucket") == "BucketAlreadyExists"


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_urls_of_both_signatures_read_the_object(
    server: Server, s3: Any, version: str
) -> None:
    s3.put_object(Bucket="test-bucket", Key="a b/ü+", Body=b"shared")
    url = server.client(signature_version=version).generate_presigned_url(
        "get_object",
        {"Bucket": "test-bucket", "Key": "a b/ü+", "ResponseContentType": "text/x"},
    )
    with urlopen(url) as reply:
        assert reply.read() == b"shared"
        assert reply.headers["content-type"] == "text/x"
        assert reply.headers["x-amz-request-id"]


@pytest.mark.usefixtures("s3")
def test_signature_version_2_headers_work(server: Server) -> None:
    old = server.client(signature_version="s3")
    old.put_object(Bucket="test-bucket", Key="k v", Body=b"x", Metadata={"m": "1"})
    assert old.head_object(Bucket="test-bucket", Key="k v")["Metadata"] == {"m": "1"}


def test_what_is_not_configured_is_said_as_aws_says_it(s3: Any) -> None:
    where = {"Bucket": "test-bucket"}
    assert s3.get_bucket_location(**where)["LocationConstraint"] is None
    assert "Status" not in s3.get_bucket_versioning(**where)
    assert s3.get_bucket_policy_status(**where)["PolicyStatus"]["IsPublic"] is False
    for call, code in {
        s3.get_bucket_lifecycle_configuration: "NoSuchLifecycleConfiguration",
        s3.get_bucket_cors: "NoSuchCORSConfiguration",
        s3.get_bucket_policy: "NoSuchBucketPolicy",
        s3.get_bucket_tagging: "NoSuchTagSet",
        s3.get_bucket_encryption: "ServerSideEncryptionConfigurationNotFoundError",
        s3.get_object_lock_configuration: "ObjectLockConfigurationNotFoundError",
    }.items():
        assert refused(call, **where) == code


def test_a_bucket_s_tags_are_kept_replaced_and_removed(s3: Any) -> None:
    where = {"Bucket": "test-bucket"}
    for tags in ({"cost:centre": "é 1", "team": "storage"}, {"other": ""}):
        rows = [{"Key": key, "Value": value} for key, value in tags.items()]
        s3.put_bucket_tagging(**where, Tagging={"TagSet": rows})
        assert s3.get_bucket_tagging(**where)["TagSet"] == rows
    twice = {"TagSet": [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}]}
    assert refused(s3.put_bucket_tagging, **where, Tagging=twice) == "InvalidTag"
    assert s3.get_bucket_tagging(**where)["TagSet"] == [{"Key": "other", "Value": ""}]
    s3.delete_bucket_tagging(**where)
    assert refused(s3.get_bucket_tagging, **where) == "NoSuchTagSet"


def tags_of(s3: Any, key: str) -> dict[str, str]:
    rows = s3.get_object_tagging(Bucket="test-bucket", Key=key)["TagSet"]
    return {row["Key"]: row["Value"] for row in rows}


def tag_set(**tags: str) -> dict[str, Any]:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def test_an_object_s_tags_come_with_it_and_are_changed_without_it(s3: Any) -> None:
    where = {"Bucket": "test-bucket", "Key": "k"}
    s3.put_object(**where, Body=b"x" * 100_000, Tagging="a=1&b%20c=%C3%A9")
    assert tags_of(s3, "k") == {"a": "1", "b c": "é"}
    before = s3.get_object(**where)
    assert before["TagCount"] == 2
    s3.put_object_tagging(**where, Tagging=tag_set(only="one"))
    after = s3.head_object(**where)
    assert tags_of(s3, "k") == {"only": "one"}
    for same in ("ETag", "LastModified", "ContentLength"):
        assert after[same] == before[same], "its version stays"
    assert s3.get_object(**where)["Body"].read() == b"x" * 100_000
    s3.delete_object_tagging(**where)
    assert tags_of(s3, "k") == {}
    assert "TagCount" not in s3.get_object(**where)
    s3.put_object(**where, Body=b"y")
    assert tags_of(s3, "k") == {}


def test_copies_and_uploads_have_the_tags_that_were_asked_for(s3: Any) -> None:
    s3.put_object(Bucket="test-bucket", Key="k", Body=b"x", Tagging="a=1")
    source = {"Bucket": "test-bucket", "Key": "k"}
    for target, options, tags in (
        ("same", {}, {"a": "1"}),
        ("other", {"TaggingDirective": "REPLACE", "Tagging": "b=2"}, {"b": "2"}),
        ("none", {"TaggingDirective": "REPLACE"}, {}),
        ("meta", {"MetadataDirective": "REPLACE", "Metadata": {"m": "1"}}, {"a": "1"}),
        ("k", {"TaggingDirective": "REPLACE", "Tagging": "in=place"}, {"in": "place"}),
    ):
        s3.copy_object(Bucket="test-bucket", Key=target, CopySource=source, **options)
        assert tags_of(s3, target) == tags, target
    where = {"Bucket": "test-bucket", "Key": "parts"}
    upload = s3.create_multipart_upload(**where, Tagging="made=of+parts")["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"p")
    s3.complete_multipart_upload(
        **where,
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert tags_of(s3, "parts") == {"made": "of parts"}


def test_tags_that_cannot_be_are_refused_and_nothing_is_stored(s3: Any) -> None:
    where = {"Bucket": "test-bucket", "Key": "k"}
    eleven = "&".join(f"k{n}=v" for n in range(11))
    for tagging, code in ((eleven, "InvalidTag"), ("a=1&a=2", "InvalidTag"),
                          ("k=%", "InvalidArgument"), ("aws:k=v", "InvalidTag"),
                          ("k=" + "v" * 257, "InvalidTag")):  # fmt: skip
        assert refused(s3.put_object, **where, Body=b"x", Tagging=tagging) == code
        assert refused(s3.create_multipart_upload, **where, Tagging=tagging) == code
    assert refused(s3.head_object, **where) == "404"
    assert refused(s3.put_object_tagging, **where, Tagging=tag_set(a="1")) == "NoSuchKey"
    assert refused(s3.delete_object_tagging, **where) == "NoSuchKey"
    s3.put_object(**where, Body=b"x")
    many = tag_set(**{f"k{n}": "" for n in range(11)})
    assert refused(s3.put_object_tagging, **where, Tagging=many) == "InvalidTag"
    assert refused(s3.put_object_tagging, **where, Tagging=tag_set(**{"<": "v"})) == "InvalidTag"
    assert tags_of(s3, "k") == {}


def test_pages_of_other_origins_are_served_as_the_rules_say(s3: Any, server: Server) -> None:
    rules = [
        {
            "ID": "app",
            "AllowedOrigins": ["https://app.example"],
            "AllowedMethods": ["PUT", "GET"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 600,
        }
    ]
    url = f"{server.endpoint}/test-bucket/k"

    def ask(method: str, origin: str, **headers: str) -> tuple[int, dict[str, str]]:
        request = Request(url, method=method, headers={"Origin": origin} | headers)
        try:
            with urlopen(request) as reply:
                return reply.status, dict(reply.headers)
        except HTTPError as error:
            return error.code, dict(error.headers)

    wanted = {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "X-Amz-Date",
    }
    assert ask("OPTIONS", "https://app.example", **wanted)[0] == 403, "there are no rules yet"
    s3.put_bucket_cors(Bucket="test-bucket", CORSConfiguration={"CORSRules": rules})
    assert s3.get_bucket_cors(Bucket="test-bucket")["CORSRules"] == rules
    status, headers = ask("OPTIONS", "https://app.example", **wanted)
    assert status == 200
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert headers["access-control-allow-headers"] == "x-amz-date"
    assert headers["access-control-max-age"] == "600"
    assert ask("OPTIONS", "https://evil.example", **wanted)[0] == 403
    # Not signed, so refused; but the page may read why.
    status, headers = ask("GET", "https://app.example")
    assert (status, headers["access-control-expose-headers"]) == (403, "ETag")
    assert "access-control-allow-origin" not in ask("GET", "https://evil.example")[1]
    s3.delete_bucket_cors(Bucket="test-bucket")
    assert refused(s3.get_bucket_cors, Bucket="test-bucket") == "NoSuchCORSConfiguration"
    assert "access-control-allow-origin" not in ask("GET", "https://app.example")[1]


def test_a_deleted_bucket_takes_its_settings_along(s3: Any) -> None:
    where = {"Bucket": "tagged"}
    s3.create_bucket(**where)
    s3.put_bucket_tagging(**where, Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    s3.delete_bucket(**where)
    s3.create_bucket(**where)
    assert refused(s3.get_bucket_tagging, **where) == "NoSuchTagSet"
    s3.delete_bucket(**where)


def test_buckets_are_made_listed_and_reserved(s3: Any) -> None:
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["test-bucket"]
    assert refused(s3.create_bucket, Bucket="ipfs") == "InvalidBucketName"
    assert refused(s3.head_bucket, Bucket="missing") == "404"
    s3.put_object(Bucket="test-bucket", Key="k")
    assert refused(s3.delete_bucket, Bucket="test-bucket") == "BucketNotEmpty"
    assert refused(
        s3.put_object, Bucket="test-bucket", Key="k", StorageClass="GLACIER"
    ) == "InvalidStorageClass"  # fmt: skip
