"""What a network tells others: notifications to a listener, copies to another network."""

import gzip
import hashlib
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.clients.running import RunningNetwork

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

DELIVERING = "jobs"  # the process
KEYS = {"CUMULUS_ACCESS_KEY": "EVENTSACCESSKEY", "CUMULUS_SECRET_KEY": "events/secret+key"}
ARN = "arn:cumulus:sqs::hook:webhook"


class Listener:
    """A webhook's other side; answers 503 while it is not `up`."""

    def __init__(self) -> None:
        self.up = True
        self.records: list[dict[str, Any]] = []
        self.tests: list[dict[str, Any]] = []
        self.refused = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.headers["authorization"] == "Bearer sesame"
                if outer.up:
                    document = json.loads(body)
                    outer.records += document.get("Records", [])
                    outer.tests += [document] if document.get("Event") else []
                else:
                    outer.refused += 1
                self.send_response(200 if outer.up else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/cumulus"

    def tags(self, bucket: str) -> set[str]:
        """ETags of all objects that a record came of."""
        return {
            record["s3"]["object"]["eTag"]
            for record in self.records
            if record["s3"]["bucket"]["name"] == bucket
        }

    def sequencers(self, bucket: str) -> dict[str, list[str]]:
        """Key -> sequencers as they came first."""
        found: dict[str, list[str]] = {}
        for record in self.records:
            if record["s3"]["bucket"]["name"] == bucket:
                seen = found.setdefault(record["s3"]["object"]["key"], [])
                number = record["s3"]["object"]["sequencer"]
                if number not in seen:
                    seen.append(number)
        return found

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Line:
    """A TCP line to an address that is set later; cut while it is not `up`."""

    def __init__(self) -> None:
        self.far_end = ""
        self.up = True
        self.tried = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.tried += 1
            if not self.up:
                near.close()
                continue
            parts = urlsplit(self.far_end)
            far = socket.create_connection((parts.hostname, parts.port))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while self.up and (data := source.recv(1 << 16)):
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.listener.close()


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture(scope="module")
def notifying(
    listener: Listener, line: Line, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNetwork]:
    options = ("--miners", "3", "--workers", "2", "--background", "gentle")
    running = RunningNetwork(tmp_path_factory.mktemp("notify"), *options, **KEYS)
    table = f'[notify.hook]\nurl = "{listener.url}"\ntoken = "sesame"\n'
    table += f'[replication.there]\nurl = "{line.url}"\n'  # at the network itself, in the end
    table += 'access_key = "{CUMULUS_ACCESS_KEY}"\n'.format_map(KEYS)
    table += 'secret_key = "{CUMULUS_SECRET_KEY}"\n'.format_map(KEYS)
    table += "[s3]\nlogging_roll_seconds = 2\nlifecycle_day_seconds = 4\n"
    running.configure(table)
    with running:
        line.far_end = running.url("s3")
        yield running


def configure(client: Any, bucket: str, *events: str) -> None:
    client.create_bucket(Bucket=bucket)
    queue = {"Id": "all", "QueueArn": ARN, "Events": list(events)}
    client.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [queue]}
    )


def wait_for(what: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def put_in_the_end(client: Any, bucket: str, key: str, body: bytes) -> str:
    """Put until it is acknowledged; the ETag."""
    for _ in range(200):
        try:
            return str(client.put_object(Bucket=bucket, Key=key, Body=body)["ETag"]).strip('"')
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 503:
                raise
            time.sleep(0.1)
    raise AssertionError("the writer does not come back")


def test_a_listener_is_told_what_happens(notifying: RunningNetwork, listener: Listener) -> None:
    client = notifying.boto()
    configure(client, "told", "s3:ObjectCreated:*", "s3:ObjectRemoved:Delete")
    wait_for(lambda: listener.tests)
    assert (listener.tests[0]["Event"], listener.tests[0]["Bucket"]) == ("s3:TestEvent", "told")
    put = client.put_object(Bucket="told", Key="a b", Body=b"abc")
    client.copy_object(Bucket="told", Key="copy", CopySource="told/a b")
    client.delete_object(Bucket="told", Key="a b")
    wait_for(lambda: len(listener.records) >= 3)
    by_name = {record["eventName"]: record for record in listener.records}
    assert by_name.keys() == {"ObjectCreated:Put", "ObjectCreated:Copy", "ObjectRemoved:Delete"}
    record = by_name["ObjectCreated:Put"]
    assert record["s3"]["object"]["key"] == "a+b"
    assert record["s3"]["object"]["eTag"] == put["ETag"].strip('"')
    assert record["requestParameters"]["sourceIPAddress"] == "127.0.0.1"
    made = put["ResponseMetadata"]["RequestId"]
    assert record["responseElements"]["x-amz-request-id"] == made
    got = client.get_bucket_notification_configuration(Bucket="told")
    assert got["QueueConfigurations"][0]["QueueArn"] == ARN


def test_only_configured_targets_are_taken(notifying: RunningNetwork) -> None:
    client = notifying.boto()
    client.create_bucket(Bucket="elsewhere")
    for arn in ("arn:cumulus:sqs::other:webhook", "http://127.0.0.1:1/", "arn:aws:s3:::told"):
        queue = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
        with pytest.raises(ClientError, match="InvalidArgument"):
            client.put_bucket_notification_configuration(
                Bucket="elsewhere", NotificationConfiguration={"QueueConfigurations": [queue]}
            )
    assert "QueueConfigurations" not in client.get_bucket_notification_configuration(
        Bucket="elsewhere"
    )


def test_nothing_is_lost_while_the_listener_is_down_and_processes_are_killed(
    notifying: RunningNetwork, listener: Listener
) -> None:
    client = notifying.boto()
    configure(client, "kept", "s3:ObjectCreated:*")
    wait_for(lambda: listener.tests[-1]["Bucket"] == "kept")
    listener.up = False
    acknowledged, tried = set(), set()
    for number in range(60):
        body = b"%d" % number
        tried.add(hashlib.md5(body).hexdigest())
        acknowledged.add(put_in_the_end(client, "kept", f"k{number % 5}", body))
        if number == 20:  # the writer of rows and events, in the middle of the next ones
            pid = notifying.pids()["catalog"]
            threading.Timer(0.02, os.kill, (pid, signal.SIGKILL)).start()
        if number == 30:  # in the middle of its tries
            wait_for(lambda: listener.refused)
            os.kill(notifying.pids()[DELIVERING], signal.SIGKILL)
    assert not listener.tags("kept")
    listener.up = True
    wait_for(lambda: listener.tags("kept"))
    os.kill(notifying.pids()[DELIVERING], signal.SIGKILL)  # while it delivers
    wait_for(lambda: acknowledged <= listener.tags("kept"))
    assert listener.tags("kept") <= tried
    assert all(numbers == sorted(numbers) for numbers in listener.sequencers("kept").values())
    metrics = notifying.curl(notifying.url("console") + "/metrics").decode()
    assert 'cumulus_queue_dropped_total{kind="notify",name="hook"} 0' in metrics
    queues = json.loads(notifying.cumulus("status", "--json").stdout)["queues"]
    assert [queue["dropped"] for queue in queues if queue["name"] == "hook"] == [0]


def test_two_buckets_hold_the_same_while_their_line_is_cut_for_a_while(
    notifying: RunningNetwork, line: Line
) -> None:
    client = notifying.boto()
    for bucket, other in (("original", "copy"), ("copy", "original")):
        client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        rule = {
            "ID": "all", "Priority": 1, "Status": "Enabled", "Filter": {"Prefix": "in/"},
            "DeleteMarkerReplication": {"Status": "Enabled"},
            "Destination": {"Bucket": f"arn:cumulus:replication::there:{other}"},
        }  # fmt: skip
        client.put_bucket_replication(
            Bucket=bucket, ReplicationConfiguration={"Role": "any", "Rules": [rule]}
        )
    large = random.Random(1).randbytes(20 << 20)
    line.up = False
    client.put_object(Bucket="original", Key="in/1", Body=b"1", Metadata={"a": "b"}, Tagging="x=y")
    client.put_object(Bucket="original", Key="in/large", Body=large)
    client.put_object(Bucket="original", Key="out", Body=b"2")
    client.put_object(Bucket="copy", Key="in/back", Body=b"3")
    wait_for(lambda: line.tried)
    os.kill(notifying.pids()[DELIVERING], signal.SIGKILL)

    def state(bucket: str, key: str) -> str | None:
        found: dict[str, str] = client.head_object(Bucket=bucket, Key=key)
        return found.get("ReplicationStatus")

    assert state("original", "in/1") == "PENDING"
    line.up = True
    sent = (("original", "in/1"), ("original", "in/large"), ("copy", "in/back"))
    wait_for(lambda: {state(*each) for each in sent} == {"COMPLETED"})
    assert state("original", "out") is None
    got = client.get_object(Bucket="copy", Key="in/1")
    assert (got["Body"].read(), got["Metadata"]) == (b"1", {"a": "b"})
    assert got["ReplicationStatus"] == state("original", "in/back") == "REPLICA"
    assert client.get_object(Bucket="copy", Key="in/large")["Body"].read() == large
    client.delete_object(Bucket="original", Key="in/1")

    def versions(bucket: str) -> list[int]:
        found = client.list_object_versions(Bucket=bucket, Prefix="in/")
        return [len(found.get("Versions", [])), len(found.get("DeleteMarkers", []))]

    # A marker came, and nothing went in circles.
    wait_for(lambda: versions("copy") == [3, 1])
    time.sleep(1)
    assert versions("copy") == versions("original") == [3, 1]


def test_requests_are_logged_into_the_target_bucket(notifying: RunningNetwork) -> None:
    client = notifying.boto()
    for bucket in ("visited", "lines"):
        client.create_bucket(Bucket=bucket)
    with pytest.raises(ClientError, match="InvalidTargetBucketForLogging"):
        client.put_bucket_logging(
            Bucket="visited",
            BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": "none", "TargetPrefix": ""}},
        )
    enabled = {"TargetBucket": "lines", "TargetPrefix": "v/"}
    client.put_bucket_logging(Bucket="visited", BucketLoggingStatus={"LoggingEnabled": enabled})
    assert client.get_bucket_logging(Bucket="visited")["LoggingEnabled"] == enabled
    made = client.put_object(Bucket="visited", Key="k", Body=b"12345")
    client.get_object(Bucket="visited", Key="k")
    with pytest.raises(ClientError):
        client.head_object(Bucket="visited", Key="missing")

    def lines() -> list[str]:
        found = client.list_objects_v2(Bucket="lines", Prefix="v/").get("Contents", [])
        bodies = [client.get_object(Bucket="lines", Key=one["Key"])["Body"] for one in found]
        return b"".join(body.read() for body in bodies).decode().splitlines()

    def by_operation() -> dict[str, str]:
        return {text.split("] ", 1)[1].split()[3]: text for text in lines()}

    wait_for(lambda: by_operation().keys() >= {"REST.PUT.OBJECT", "REST.HEAD.OBJECT"})
    put = by_operation()["REST.PUT.OBJECT"]
    assert made["ResponseMetadata"]["RequestId"] in put
    assert ' k "PUT /visited/k HTTP/1.1" 200 - - 5 ' in put
    assert "SigV4 - AuthHeader" in put
    assert " 404 NoSuchKey " in by_operation()["REST.HEAD.OBJECT"]


def test_an_inventory_lists_a_bucket(notifying: RunningNetwork) -> None:
    client = notifying.boto()
    for bucket in ("stock", "lists"):
        client.create_bucket(Bucket=bucket)
    client.put_object(Bucket="stock", Key="a b", Body=b"123")
    configuration = {
        "Id": "all", "IsEnabled": True, "IncludedObjectVersions": "Current",
        "Schedule": {"Frequency": "Daily"}, "OptionalFields": ["Size", "ETag"],
        "Destination": {"S3BucketDestination": {
            "Bucket": "arn:aws:s3:::lists", "Format": "CSV", "Prefix": "i"}},
    }  # fmt: skip
    client.put_bucket_inventory_configuration(
        Bucket="stock", Id="all", InventoryConfiguration=configuration
    )
    got = client.list_bucket_inventory_configurations(Bucket="stock")
    assert got["InventoryConfigurationList"] == [configuration]

    def manifests() -> list[str]:
        found = client.list_objects_v2(Bucket="lists", Prefix="i/stock/all/").get("Contents", [])
        return [one["Key"] for one in found if one["Key"].endswith("manifest.json")]

    wait_for(manifests)
    manifest = json.loads(client.get_object(Bucket="lists", Key=manifests()[0])["Body"].read())
    data = client.get_object(Bucket="lists", Key=manifest["files"][0]["key"])["Body"].read()
    etag = "202cb962ac59075b964b07152d234b70"
    assert gzip.decompress(data).decode() == f'"stock","a%20b","3","{etag}"\n'
    client.delete_bucket_inventory_configuration(Bucket="stock", Id="all")
