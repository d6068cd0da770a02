"""Lifecycle rules on a whole network whose days are a second long; the job is killed on its way."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.clients.running import RunningNetwork

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

OBJECTS = 600  # of which a step takes 250, and a second 500


@pytest.fixture(scope="module")
def quick_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    options = ("--miners", "6", "--workers", "1", "--background", "gentle")
    running = RunningNetwork(
        tmp_path_factory.mktemp("days"), *options, CUMULUS_LIFECYCLE_DAY_SECONDS="1"
    )
    with running:
        yield running


def keys(client: Any, bucket: str) -> set[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {each["Key"] for page in pages for each in page.get("Contents", ())}


def until(what: Callable[[], bool], network: RunningNetwork, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, network.logs()
        time.sleep(0.02)


def test_a_job_that_is_killed_goes_on_and_nothing_else_goes(quick_days: RunningNetwork) -> None:
    client = quick_days.boto()
    client.create_bucket(Bucket="days")
    upload = client.create_multipart_upload(Bucket="days", Key="old/part")["UploadId"]
    client.upload_part(Bucket="days", Key="old/part", UploadId=upload, PartNumber=1, Body=b"x")
    with ThreadPoolExecutor(8) as pool:
        names = [f"old/{number:04}" for number in range(OBJECTS)]
        list(pool.map(lambda key: client.put_object(Bucket="days", Key=key, Body=b"x"), names))
    client.put_object(Bucket="days", Key="old/large", Body=bytes(3 << 20))
    client.put_object(Bucket="days", Key="new/kept", Body=bytes(3 << 20))
    rules = [
        {
            "ID": "gone",
            "Status": "Enabled",
            "Filter": {"Prefix": "old/"},
            "Expiration": {"Days": 1},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        }
    ]
    client.put_bucket_lifecycle_configuration(
        Bucket="days", LifecycleConfiguration={"Rules": rules}
    )
    got = client.get_bucket_lifecycle_configuration(Bucket="days")
    assert got["Rules"] == rules
    until(lambda: len(keys(client, "days")) <= OBJECTS - 100, quick_days)
    pid = quick_days.pids()["jobs"]
    os.kill(pid, signal.SIGKILL)
    left = len(keys(client, "days"))
    assert left > 1, "the kill came too late to show anything"
    until(lambda: quick_days.pids().get("jobs", pid) != pid, quick_days)
    until(lambda: keys(client, "days") == {"new/kept"}, quick_days)
    until(lambda: not client.list_multipart_uploads(Bucket="days").get("Uploads"), quick_days)
    assert client.get_object(Bucket="days", Key="new/kept")["Body"].read() == bytes(3 << 20)
    [job] = [
        job
        for job in json.loads(quick_days.cumulus("status", "--json").stdout)["jobs"]
        if job["name"] == "lifecycle"
    ]
    assert job["done"] >= OBJECTS // 2
    assert (job["failures"], job["error"]) == (0, "")


def test_replies_say_when_an_object_goes(quick_days: RunningNetwork) -> None:
    client = quick_days.boto()
    client.create_bucket(Bucket="said")
    rules = [{"ID": "1000 days", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1000}}]
    client.put_bucket_lifecycle_configuration(
        Bucket="said", LifecycleConfiguration={"Rules": rules}
    )
    put = client.put_object(Bucket="said", Key="k", Body=b"x")
    assert put["Expiration"].endswith(' GMT", rule-id="1000 days"')
    assert client.head_object(Bucket="said", Key="k")["Expiration"] == put["Expiration"]


def test_an_object_moves_to_another_class_while_it_is_read(quick_days: RunningNetwork) -> None:
    client = quick_days.boto()
    client.create_bucket(Bucket="moved")
    body = os.urandom(20 << 20)
    put = client.put_object(Bucket="moved", Key="k", Body=body, Metadata={"m": "1"})
    reading = client.get_object(Bucket="moved", Key="k")["Body"]
    begun = reading.read(1 << 20)
    rule = {
        "ID": "r",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Transitions": [{"Days": 1, "StorageClass": "MIRROR"}],
    }
    client.put_bucket_lifecycle_configuration(
        Bucket="moved", LifecycleConfiguration={"Rules": [rule]}
    )
    end = time.monotonic() + 60
    while (got := client.get_object(Bucket="moved", Key="k")).get("StorageClass") is None:
        assert got["Body"].read() == body
        assert time.monotonic() < end, quick_days.logs()
    assert got["StorageClass"] == "MIRROR"
    assert got["Body"].read() == body
    assert begun + reading.read() == body
    assert (got["ETag"], got["Metadata"]) == (put["ETag"], {"m": "1"})
    [listed] = client.list_objects_v2(Bucket="moved")["Contents"]
    assert listed["StorageClass"] == "MIRROR"


def test_versions_and_markers_go_by_their_own_rules(quick_days: RunningNetwork) -> None:
    client = quick_days.boto()
    client.create_bucket(Bucket="versions")
    enabled = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration=enabled)
    for number in range(5):
        client.put_object(Bucket="versions", Key="kept", Body=b"%d" % number)
        client.put_object(Bucket="versions", Key="gone/k", Body=b"%d" % number)
    rules = [
        {
            "ID": "gone",
            "Status": "Enabled",
            "Filter": {"Prefix": "gone/"},
            "Expiration": {"Days": 1},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        },
        {
            "ID": "some",
            "Status": "Enabled",
            "Filter": {"Prefix": "kept"},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 2},
        },
    ]
    client.put_bucket_lifecycle_configuration(
        Bucket="versions", LifecycleConfiguration={"Rules": rules}
    )

    def left() -> tuple[int, int]:
        found = client.list_object_versions(Bucket="versions")
        return len(found.get("Versions", ())), len(found.get("DeleteMarkers", ()))

    until(lambda: left() == (3, 0), quick_days)
    assert client.get_object(Bucket="versions", Key="kept")["Body"].read() == b"4"
    versions = client.list_object_versions(Bucket="versions")["Versions"]
    assert [each["IsLatest"] for each in versions] == [True, False, False]
