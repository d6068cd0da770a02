"""Access logs: lines as AWS writes them, and their way through files into objects."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access_log import AccessLog, AccessLogDelivery, kept_logging
from gateway.errors import SlowDown, StoreError
from gateway.model import Account, Bucket
from gateway.records import JobRow
from gateway.s3.access_lines import Served, access_lines, operation_of
from gateway.s3.bucket_logging import logging_document, parse_logging
from gateway.s3.errors import MalformedXML
from gateway.s3.exchange import Part, Reply
from tests.protocol.s3_asgi import as_request
from tests.unit.object_parts import World

# Fields as readers of such logs cut them: brackets, quotation marks, or no space.
FIELDS = re.compile(r'\[[^\]]*\]|"[^"]*"|[^ ]+')
NAMES = (
    "owner", "bucket", "time", "address", "requester", "request", "operation", "key", "uri",
    "status", "error", "sent", "size", "total", "turn", "referer", "agent", "version", "host_id",
    "signature", "cipher", "auth", "host", "tls", "access_point", "acl",
)  # fmt: skip


def document(inside: str = "<SimplePrefix/>", target: str = "logs", prefix: str = "p/") -> bytes:
    return (
        f"<BucketLoggingStatus><LoggingEnabled><TargetBucket>{target}</TargetBucket>"
        f"<TargetPrefix>{prefix}</TargetPrefix><TargetObjectKeyFormat>{inside}"
        "</TargetObjectKeyFormat></LoggingEnabled></BucketLoggingStatus>"
    ).encode()


PARTITIONED = "<PartitionedPrefix><PartitionDateSource>{}</PartitionDateSource></PartitionedPrefix>"


# ------------------------------------------------------------------ lines
def line(method: str, target: str, headers: dict[str, str], reply: Reply) -> dict[str, str]:
    made = Bucket("photos", bytes(16), Account("ann", "Ann"), 0)
    served = Served("R1", "H1", 1_549_411_238_000_000_000, 1_549_411_238_070_000_000)
    request = as_request(method, target, {"host": "s3.test:9000"} | headers)
    [one] = access_lines(request, reply, made, "ann", served)
    fields = FIELDS.findall(one)
    assert len(fields) == len(NAMES), fields
    return dict(zip(NAMES, fields, strict=True))


def test_a_line_has_the_fields_that_readers_expect() -> None:
    headers = {
        "user-agent": 'curl "7"', "referer": "http://x/\u00e4 b",
        "authorization": "AWS4-HMAC-SHA256 Credential=x",
    }  # fmt: skip
    reply = Reply(206, [(b"content-range", b"bytes 0-9/1000")], length=10)
    found = line("GET", "/photos/a%20b/%C3%A9.jpg?versionId=v1", headers, reply)
    assert found == {
        "owner": "ann", "bucket": "photos", "time": "[06/Feb/2019:00:00:38 +0000]", "address": "-",
        "requester": "ann", "request": "R1", "operation": "REST.GET.OBJECT",
        "key": "a%20b/%C3%A9.jpg", "uri": '"GET /photos/a%20b/%C3%A9.jpg?versionId=v1 HTTP/1.1"',
        "status": "206", "error": "-", "sent": "10", "size": "1000", "total": "70", "turn": "70",
        "referer": '"http://x/%E4 b"', "agent": '"curl %227%22"', "version": "v1", "host_id": "H1",
        "signature": "SigV4", "cipher": "-", "auth": "AuthHeader", "host": "s3.test:9000",
        "tls": "-", "access_point": "-", "acl": "-",
    }  # fmt: skip


def test_a_batch_has_a_line_for_each_object_and_a_list_is_told() -> None:
    made = Bucket("photos", bytes(16), Account("ann", "Ann"), 0)
    served = Served("R1", "H1", 1_549_411_238_000_000_000, 1_549_411_238_070_000_000, by_list=True)
    parts = [Part("a b", "v1", 204), Part("c", "", 403, "AccessDenied")]
    request = as_request("POST", "/photos?delete", {})
    whole, *each = access_lines(request, Reply(200, parts=parts), made, "bob", served)
    assert FIELDS.findall(whole)[6] == "REST.POST.MULTI_OBJECT_DELETE"
    rows = [dict(zip(NAMES, FIELDS.findall(one), strict=True)) for one in each]
    shown = ("operation", "key", "uri", "status", "error", "version", "request", "acl")
    assert [[row[name] for name in shown] for row in rows] == [
        ["BATCH.DELETE.OBJECT", "a%20b", "-", "204", "-", "v1", "R1", "Yes"],
        ["BATCH.DELETE.OBJECT", "c", "-", "403", "AccessDenied", "-", "R1", "Yes"],
    ]


def test_an_error_has_its_code_and_a_put_its_size() -> None:
    body = b"<Error><Code>NoSuchKey</Code></Error>"
    found = line("GET", "/photos/k", {}, Reply(404, body=body))
    assert (found["status"], found["error"], found["size"]) == ("404", "NoSuchKey", "-")
    found = line("PUT", "/photos/k", {"content-length": "12"}, Reply(200))
    assert (found["operation"], found["size"], found["sent"]) == ("REST.PUT.OBJECT", "12", "-")


def test_a_signature_in_a_query_is_not_kept() -> None:
    target = "/photos/k?X-Amz-Signature=abc&X-Amz-Date=1&X-Amz-Security-Token=secret"
    found = line("GET", target, {}, Reply())
    assert "abc" not in found["uri"]
    assert "secret" not in found["uri"]
    assert (found["signature"], found["auth"]) == ("SigV4", "QueryString")


@given(st.text(max_size=30), st.text(max_size=30), st.binary(max_size=20))
def test_no_text_of_a_client_breaks_out_of_its_field(agent: str, referer: str, path: bytes) -> None:
    target = "/photos/" + "".join(f"%{byte:02X}" for byte in path if byte < 128) + "x"
    headers = {
        "user-agent": agent.encode().decode("latin-1"),
        "referer": referer.encode().decode("latin-1"),
    }
    found = line("GET", target, headers, Reply())
    assert "\n" not in "".join(found.values())


@pytest.mark.parametrize(
    ("method", "target", "headers", "name"),
    [
        ("GET", "/b", {}, "REST.GET.BUCKET"),
        ("GET", "/b?list-type=2", {}, "REST.GET.BUCKET"),
        ("GET", "/b?policy", {}, "REST.GET.BUCKETPOLICY"),
        ("GET", "/b?versioning", {}, "REST.GET.VERSIONING"),
        ("GET", "/b?logging", {}, "REST.GET.LOGGING_STATUS"),
        ("POST", "/b?delete", {}, "REST.POST.MULTI_OBJECT_DELETE"),
        ("POST", "/b", {}, "REST.POST.OBJECT"),
        ("HEAD", "/b/k", {}, "REST.HEAD.OBJECT"),
        ("PUT", "/b/k?tagging", {}, "REST.PUT.OBJECT_TAGGING"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", {}, "REST.PUT.PART"),
        ("POST", "/b/k?uploads", {}, "REST.POST.UPLOADS"),
        ("POST", "/b/k?uploadId=u", {}, "REST.POST.UPLOAD"),
        ("PUT", "/b/k", {"x-amz-copy-source": "b/l"}, "REST.COPY.OBJECT"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", {"x-amz-copy-source": "b/l"}, "REST.COPY.PART"),
        ("OPTIONS", "/b/k", {}, "REST.OPTIONS.PREFLIGHT"),
    ],
)
def test_operations_have_the_names_of_aws(
    method: str, target: str, headers: dict[str, str], name: str
) -> None:
    assert operation_of(as_request(method, target, {"host": "h"} | headers)) == name


def test_a_websites_visitor_is_told_from_others() -> None:
    request = as_request("GET", "/page", {"host": "photos.s3-website.localhost:9000"})
    assert operation_of(request) == "WEBSITE.GET.OBJECT"


# ------------------------------------------------------------------ the document
@pytest.mark.parametrize(
    ("inside", "partition"),
    [
        ("<SimplePrefix/>", ""),
        ("<PartitionedPrefix/>", "DeliveryTime"),
        (PARTITIONED.format("EventTime"), "EventTime"),
    ],
)
def test_a_document_is_read_and_given_back(inside: str, partition: str) -> None:
    stored = parse_logging(document(inside))
    assert stored is not None
    found = kept_logging(stored)
    assert (found.target, found.prefix, found.partition) == ("logs", "p/", partition)
    assert parse_logging(logging_document(stored)) == stored
    assert parse_logging(b"<BucketLoggingStatus/>") is None


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_status_or_refused(data: bytes) -> None:
    for text in (data, b"<BucketLoggingStatus>" + data + b"</BucketLoggingStatus>"):
        with suppress(StoreError):
            parse_logging(text)


@pytest.mark.parametrize(
    "data",
    [
        b"<BucketLoggingStatus><Other/></BucketLoggingStatus>",
        b"<BucketLoggingStatus><LoggingEnabled/></BucketLoggingStatus>",
        document(target=""),
        document(prefix="x" * 801),
        document("<SimplePrefix/><PartitionedPrefix/>"),
        document(PARTITIONED.format("Never")),
    ],
)
def test_what_is_no_status_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedXML):
        parse_logging(data)


# ------------------------------------------------------------------ delivery
class Logged:
    """A bucket whose lines go to `logs`; hours are its files' time."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.log = AccessLog(directory, world.clock, 3600.0, "me")
        self.delivery = AccessLogDelivery(world.objects, directory, world.clock, 3600.0)

    async def write(self, *lines: str, days_ago: int = 0) -> None:
        bucket = self.world.objects.bucket("photos")
        for text in lines:
            self.log.note(bucket, self.world.clock.ns - days_ago * 86_400 * 10**9, text)
        await self.log.flush()

    async def deliver(self) -> list[tuple[str, bytes]]:
        for _ in range(10):
            if (await self.delivery.step(JobRow())).pause:
                break
        bucket = self.world.objects.bucket("logs")
        found = self.world.objects.list_objects(bucket).objects
        whole = [self.world.objects.head(bucket, one.key) for one in found]
        return [(one.key, await self.world.read(one)) for one in whole]


async def logged(directory: Path, inside: str = "<SimplePrefix/>", **settings: Any) -> Logged:
    world = await World(**settings).start()
    await world.objects.create_bucket(world.account, "logs")
    await world.objects.set_setting(world.bucket, "logging", parse_logging(document(inside)))
    return Logged(world, directory / "access")


def texts(objects: Sequence[tuple[str, bytes]]) -> list[bytes]:
    return [body for _, body in objects]


async def test_lines_become_an_object_when_their_hour_is_over(tmp_path: Path) -> None:
    made = await logged(tmp_path)
    await made.write("one é", "two")
    assert await made.deliver() == []
    await made.world.clock.sleep(3602)
    assert await made.deliver() == [], "a worker may just be writing its last line"
    await made.world.clock.sleep(10)
    [(key, body)] = await made.deliver()
    assert body == "one é\ntwo\n".encode()
    assert re.fullmatch(r"p/2027-01-15-09-00-00-[0-9A-F]{16}", key)
    assert not list((tmp_path / "access").iterdir())


async def test_a_delivery_that_is_repeated_stores_no_second_object(tmp_path: Path) -> None:
    made = await logged(tmp_path)
    await made.write("one")
    [path] = (tmp_path / "access").iterdir()
    kept = path.read_bytes()
    await made.world.clock.sleep(3700)
    await made.deliver()
    path.write_bytes(kept)  # killed before it was removed
    assert texts(await made.deliver()) == [b"one\n"]


async def test_partitions_go_by_the_day_of_the_request(tmp_path: Path) -> None:
    made = await logged(tmp_path, PARTITIONED.format("EventTime"))
    await made.write("today")
    await made.write("yesterday", days_ago=1)
    await made.world.clock.sleep(3700)
    found = dict(await made.deliver())
    days = sorted(key.rpartition("/")[0] for key in found)
    assert days == [
        "p/ann/us-east-1/photos/2027/01/14",
        "p/ann/us-east-1/photos/2027/01/15",
    ]
    assert sorted(found.values()) == [b"today\n", b"yesterday\n"]


async def test_half_a_line_and_buckets_of_yesterday_are_left_out(tmp_path: Path) -> None:
    made = await logged(tmp_path)
    await made.write("one")
    [path] = (tmp_path / "access").iterdir()
    other = path.read_bytes().replace(made.world.bucket.id.hex().encode(), b"ab" * 16)
    gone = path.read_bytes().replace(b"photos", b"gone99")
    path.write_bytes(other + gone + path.read_bytes() + path.read_bytes()[:-2])
    await made.world.clock.sleep(3700)
    assert texts(await made.deliver()) == [b"one\n"]


async def test_a_target_that_is_gone_loses_lines_and_stops_nothing(tmp_path: Path) -> None:
    made = await logged(tmp_path)
    await made.write("one")
    await made.world.objects.delete_bucket(made.world.objects.bucket("logs"))
    await made.world.clock.sleep(3700)
    assert (await made.delivery.step(JobRow())).done == 0
    assert not list((tmp_path / "access").iterdir())


async def test_a_target_of_another_owner_gets_nothing(tmp_path: Path) -> None:
    made = await logged(tmp_path)
    bob = (await made.world.accounts.create("Bob", id="bob")).account
    await made.world.objects.create_bucket(bob, "foreign")
    stored = parse_logging(document(target="foreign"))
    await made.world.objects.set_setting(made.world.bucket, "logging", stored)
    await made.write("one")
    await made.world.clock.sleep(3700)
    assert (await made.delivery.step(JobRow())).done == 0
    foreign = made.world.objects.bucket("foreign")
    assert not made.world.objects.list_objects(foreign).objects


async def test_lines_wait_while_nothing_can_be_stored(tmp_path: Path) -> None:
    made = await logged(tmp_path, inline_max=0)
    await made.write("one")
    await made.world.clock.sleep(3700)
    made.world.pool.fail_writes = SlowDown()
    with pytest.raises(SlowDown):
        await made.delivery.step(JobRow())
    made.world.pool.fail_writes = None
    assert texts(await made.deliver()) == [b"one\n"]


async def test_files_that_nobody_takes_away_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.access_log.FILE_MAX", 200)
    monkeypatch.setattr("gateway.access_log.FILES_MAX", 500)
    made = await logged(tmp_path)
    for _ in range(20):
        for _ in range(10):
            await made.write("x" * 50)
        await made.world.clock.sleep(3600)
    assert sum(path.stat().st_size for path in (tmp_path / "access").iterdir()) < 1000
