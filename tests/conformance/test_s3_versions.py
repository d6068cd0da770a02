"""boto3 on buckets with versioning: what clients are told of versions and delete markers."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError

from tests.conformance.s3_server import BOB, Server

B = {"Bucket": "versions"}


@pytest.fixture
def s3(server: Server) -> Iterator[Any]:
    client = server.client()
    client.create_bucket(**B)
    switch(client, "Enabled")
    yield client
    while objects := [{"Key": k, "VersionId": v} for k, v, _, _ in rows(client)]:
        reply = client.delete_objects(**B, Delete={"Objects": objects})
        assert "Errors" not in reply
    client.delete_bucket(**B)


def switch(client: Any, state: str) -> None:
    client.put_bucket_versioning(**B, VersioningConfiguration={"Status": state})


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[int, str, dict[str, str]]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    reply = caught.value.response
    meta = reply["ResponseMetadata"]
    return meta["HTTPStatusCode"], str(reply["Error"]["Code"]), meta["HTTPHeaders"]


def rows(client: Any, **options: Any) -> list[tuple[str, str, bool, bool]]:
    """(key, version, latest, marker) in no order between versions and markers."""
    page = client.list_object_versions(**B, **options)
    found = [(v["Key"], v["VersionId"], v["IsLatest"], False) for v in page.get("Versions", [])]
    markers = page.get("DeleteMarkers", [])
    return found + [(v["Key"], v["VersionId"], v["IsLatest"], True) for v in markers]


def put(client: Any, key: str, body: bytes) -> str:
    return str(client.put_object(**B, Key=key, Body=body)["VersionId"])


def read(client: Any, key: str, **options: Any) -> bytes:
    return bytes(client.get_object(**B, Key=key, **options)["Body"].read())


def test_versioning_is_switched_on_and_off_and_never_away(s3: Any) -> None:
    assert s3.get_bucket_versioning(**B)["Status"] == "Enabled"
    switch(s3, "Suspended")
    assert s3.get_bucket_versioning(**B)["Status"] == "Suspended"
    where = {**B, "VersioningConfiguration": {"Status": "Enabled", "MFADelete": "Enabled"}}
    assert refused(s3.put_bucket_versioning, **where)[:2] == (501, "NotImplemented")
    where["VersioningConfiguration"] = {"MFADelete": "Disabled"}
    assert refused(s3.put_bucket_versioning, **where)[1] == (
        "IllegalVersioningConfigurationException"
    )
    where["VersioningConfiguration"] = {"Status": "On"}
    assert refused(s3.put_bucket_versioning, **where)[1] == "MalformedXML"


def test_writes_say_their_version_unless_it_is_null(s3: Any) -> None:
    assert len(put(s3, "k", b"1")) == 32
    copied = s3.copy_object(**B, Key="copy", CopySource={**B, "Key": "k"})
    assert copied["VersionId"] != copied["CopySourceVersionId"]
    upload = s3.create_multipart_upload(**B, Key="k")["UploadId"]
    part = s3.upload_part(**B, Key="k", UploadId=upload, PartNumber=1, Body=b"p")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = s3.complete_multipart_upload(**B, Key="k", UploadId=upload, MultipartUpload=parts)
    assert s3.head_object(**B, Key="k")["VersionId"] == done["VersionId"]
    switch(s3, "Suspended")
    assert "VersionId" not in s3.put_object(**B, Key="k", Body=b"2")
    assert s3.get_object(**B, Key="k")["VersionId"] == "null"
    assert read(s3, "k", VersionId=done["VersionId"]) == b"p"


def test_each_version_is_read_copied_and_tagged_by_its_name(s3: Any) -> None:
    names = [put(s3, "a b?ü", b"%d" % n) for n in range(3)]
    for n, name in enumerate(names):
        where = {**B, "Key": "a b?ü", "VersionId": name}
        assert s3.get_object(**where)["VersionId"] == name
        assert read(s3, "a b?ü", VersionId=name) == b"%d" % n
        assert s3.head_object(**where)["ContentLength"] == 1
        attributes = s3.get_object_attributes(**where, ObjectAttributes=["ObjectSize"])
        assert (attributes["VersionId"], attributes["ObjectSize"]) == (name, 1)
        copied = s3.copy_object(**B, Key="copy", CopySource=where)
        assert copied["CopySourceVersionId"] == name
        assert read(s3, "copy") == b"%d" % n
        s3.put_object_tagging(**where, Tagging={"TagSet": [{"Key": "n", "Value": str(n)}]})
        assert s3.get_object_acl(**where)["Grants"]
    for n, name in enumerate(names):
        tags = s3.get_object_tagging(**B, Key="a b?ü", VersionId=name)
        assert (tags["VersionId"], tags["TagSet"]) == (name, [{"Key": "n", "Value": str(n)}])
    assert s3.get_object_tagging(**B, Key="a b?ü")["TagSet"][0]["Value"] == "2"
    s3.copy_object(**B, Key="a b?ü", CopySource={**B, "Key": "a b?ü", "VersionId": names[0]})
    assert read(s3, "a b?ü") == b"0"
    missing = {**B, "Key": "a b?ü", "VersionId": "0" * 32}
    assert refused(s3.get_object, **missing)[:2] == (404, "NoSuchVersion")
    for nonsense in ("x", names[0].upper(), names[0] + "0"):
        missing["VersionId"] = nonsense
        assert refused(s3.get_object, **missing)[:2] == (400, "InvalidArgument")
        assert refused(s3.delete_object, **missing)[:2] == (400, "InvalidArgument")


def test_a_delete_marker_says_so(s3: Any) -> None:
    name = put(s3, "k", b"1")
    deleted = s3.delete_object(**B, Key="k")
    marker = deleted["VersionId"]
    assert deleted["DeleteMarker"] is True
    for call, status in ((s3.get_object, 404), (s3.head_object, 404)):
        got, _, headers = refused(call, **B, Key="k")
        assert (got, headers["x-amz-delete-marker"]) == (status, "true")
        assert headers["x-amz-version-id"] == marker
        got, _, headers = refused(call, **B, Key="k", VersionId=marker)
        assert (got, headers["x-amz-delete-marker"], headers["allow"]) == (405, "true", "DELETE")
        assert headers["last-modified"].endswith("GMT")
    source = {**B, "Key": "k", "VersionId": marker}
    assert refused(s3.copy_object, **B, Key="c", CopySource=source)[1] == "InvalidRequest"
    assert refused(s3.copy_object, **B, Key="c", CopySource={**B, "Key": "k"})[1] == "NoSuchKey"
    assert refused(s3.get_object_tagging, **source)[1] == "MethodNotAllowed"
    assert sorted(rows(s3)) == sorted([("k", name, False, False), ("k", marker, True, True)])
    assert s3.list_objects_v2(**B)["KeyCount"] == 0
    undone = s3.delete_object(**source)
    assert (undone["DeleteMarker"], undone["VersionId"]) == (True, marker)
    assert read(s3, "k") == b"1"
    gone = s3.delete_object(**B, Key="k", VersionId=name)
    assert gone["VersionId"] == name
    assert "DeleteMarker" not in gone
    assert "DeleteMarker" not in s3.delete_object(**B, Key="k", VersionId=name)


def test_a_bucket_that_never_had_versioning_says_nothing_of_it(server: Server) -> None:
    client = server.client()
    client.create_bucket(Bucket="plain")
    where = {"Bucket": "plain", "Key": "k"}
    assert "VersionId" not in client.put_object(**where)
    assert "VersionId" not in client.get_object(**where)
    page = client.list_object_versions(Bucket="plain")
    assert [v["VersionId"] for v in page["Versions"]] == ["null"]
    assert "DeleteMarker" not in client.delete_object(**where)
    client.put_object(**where)
    client.delete_object(**where, VersionId="null")
    assert "Versions" not in client.list_object_versions(Bucket="plain")
    client.delete_bucket(Bucket="plain")


def test_suspended_there_is_one_version_called_null(s3: Any) -> None:
    name = put(s3, "k", b"named")
    switch(s3, "Suspended")
    for body in (b"1", b"2"):
        s3.put_object(**B, Key="k", Body=body)
    assert sorted(rows(s3)) == sorted([("k", name, False, False), ("k", "null", True, False)])
    assert read(s3, "k", VersionId="null") == b"2"
    deleted = s3.delete_object(**B, Key="k")
    assert (deleted["DeleteMarker"], deleted["VersionId"]) == (True, "null")
    assert sorted(rows(s3)) == sorted([("k", name, False, False), ("k", "null", True, True)])
    s3.delete_object(**B, Key="k", VersionId="null")
    assert read(s3, "k") == b"named"


def test_a_batch_removes_versions_and_makes_and_removes_markers(s3: Any) -> None:
    names = [put(s3, "k", b"%d" % n) for n in range(40)]
    objects = [{"Key": "k"}, {"Key": "other"}]
    reply = s3.delete_objects(**B, Delete={"Objects": objects})["Deleted"]
    markers = {entry["Key"]: entry["DeleteMarkerVersionId"] for entry in reply}
    assert all(entry["DeleteMarker"] and "VersionId" not in entry for entry in reply)
    named = [{"Key": "k", "VersionId": name} for name in (*names, markers["k"])]
    reply = s3.delete_objects(**B, Delete={"Objects": named})["Deleted"]
    assert sorted(entry["VersionId"] for entry in reply) == sorted((*names, markers["k"]))
    [undone] = [entry for entry in reply if entry.get("DeleteMarker")]
    assert undone["VersionId"] == undone["DeleteMarkerVersionId"] == markers["k"]
    assert rows(s3) == [("other", markers["other"], True, True)]
    again = s3.delete_objects(**B, Delete={"Objects": named, "Quiet": True})
    assert "Errors" not in again
    assert "Deleted" not in again


def test_batches_that_delete_the_same_versions_at_once_all_succeed(s3: Any) -> None:
    named = [{"Key": "k", "VersionId": put(s3, "k", b"%d" % n)} for n in range(20)]

    def remove(_: int) -> bool:
        return "Errors" in s3.delete_objects(**B, Delete={"Objects": named})

    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(remove, range(4)))
    assert not rows(s3)


def test_pages_of_versions_go_on_behind_their_markers(s3: Any) -> None:
    for key in ("a/1", "a/2", "b", "c+ü"):
        for n in range(3):
            put(s3, key, b"%d" % n)
        s3.delete_object(**B, Key=key)
    everything = sorted(rows(s3))
    assert len(everything) == 16
    for size in (1, 3, 5):
        pages = s3.get_paginator("list_object_versions").paginate(
            **B, PaginationConfig={"PageSize": size}
        )
        got = []
        for page in pages:
            one = page.get("Versions", []) + page.get("DeleteMarkers", [])
            assert len(one) <= size
            got += [(v["Key"], v["VersionId"]) for v in one]
        assert sorted(got) == [row[:2] for row in everything]
    page = s3.list_object_versions(**B, Delimiter="/", MaxKeys=1)
    assert ([p["Prefix"] for p in page["CommonPrefixes"]], page["NextKeyMarker"]) == (["a/"], "a/")
    assert "NextVersionIdMarker" not in page
    page = s3.list_object_versions(**B, Delimiter="/", MaxKeys=2, KeyMarker="a/")
    assert {v["Key"] for v in page["Versions"] + page["DeleteMarkers"]} == {"b"}
    rest = s3.list_object_versions(
        **B, KeyMarker=page["NextKeyMarker"], VersionIdMarker=page["NextVersionIdMarker"]
    )
    assert len(rest["Versions"]) == 2 + 3
    assert len(s3.list_object_versions(**B, Prefix="c", EncodingType="url")["Versions"]) == 3
    assert not rows(s3, MaxKeys=0)
    assert refused(s3.list_object_versions, **B, VersionIdMarker="null")[1] == "InvalidArgument"


def test_writes_are_judged_against_the_latest_version(s3: Any) -> None:
    first = s3.put_object(**B, Key="k", Body=b"1")["ETag"]
    second = s3.put_object(**B, Key="k", Body=b"2")["ETag"]
    where = {**B, "Key": "k"}
    assert refused(s3.put_object, **where, IfMatch=first)[:2] == (412, "PreconditionFailed")
    assert refused(s3.put_object, **where, IfNoneMatch="*")[0] == 412
    assert refused(s3.delete_object, **where, IfMatch=first)[0] == 412
    assert s3.delete_object(**where, IfMatch=second)["DeleteMarker"]
    for etag in (second, "*"):
        assert refused(s3.put_object, **where, IfMatch=etag)[:2] == (404, "NoSuchKey")
    assert refused(s3.delete_object, **where, IfMatch=second)[0] == 412
    assert s3.delete_object(**where, IfMatch="*")["DeleteMarker"], "any version will do"
    s3.put_object(**where, Body=b"3", IfNoneMatch="*")


def test_a_presigned_url_may_name_a_version(s3: Any) -> None:
    names = [put(s3, "k", b"%d" % n) for n in range(2)]
    for n, name in enumerate(names):
        params = {**B, "Key": "k", "VersionId": name}
        url = s3.generate_presigned_url("get_object", Params=params)
        with urlopen(url) as reply:
            assert reply.read() == b"%d" % n
        with pytest.raises(HTTPError):
            urlopen(url.replace(name, names[1 - n]))


def test_policies_tell_versions_from_objects(server: Server, s3: Any) -> None:
    name = put(s3, "k", b"old")
    put(s3, "k", b"new")

    def allow(*actions: str) -> None:
        listed = ", ".join(f'"s3:{action}"' for action in actions)
        s3.put_bucket_policy(
            **B,
            Policy='{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",'
            f'"Action": [{listed}], "Resource": "arn:aws:s3:::versions/*"}}]}}',
        )

    bob = server.client(BOB)
    allow("GetObject", "DeleteObject")
    assert read(bob, "k") == b"new"
    assert refused(bob.get_object, **B, Key="k", VersionId=name)[1] == "AccessDenied"
    assert refused(bob.delete_object, **B, Key="k", VersionId=name)[1] == "AccessDenied"
    source = {**B, "Key": "k", "VersionId": name}
    bob.create_bucket(Bucket="bobs-own")
    assert refused(bob.copy_object, Bucket="bobs-own", Key="c", CopySource=source)[1] == (
        "AccessDenied"
    )
    entries = {"Objects": [{"Key": "k", "VersionId": name}, {"Key": "other"}]}
    reply = bob.delete_objects(**B, Delete=entries)
    assert [entry["Code"] for entry in reply["Errors"]] == ["AccessDenied"]
    allow("GetObjectVersion", "DeleteObjectVersion")
    assert refused(bob.get_object, **B, Key="k")[1] == "AccessDenied"
    assert read(bob, "k", VersionId=name) == b"old"
    bob.delete_object(**B, Key="k", VersionId=name)
    s3.delete_bucket_policy(**B)
    bob.delete_bucket(Bucket="bobs-own")
