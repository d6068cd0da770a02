"""Replication to real endpoints: this front end under uvicorn, and moto."""

import random
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import boto3
import msgspec
import pytest
from moto.server import ThreadedMotoServer

from gateway.catalog.interface import Space
from gateway.events import queues
from gateway.events.courier import REFUSALS_MAX, Courier, Pace
from gateway.events.origin import Origin, caused_by
from gateway.events.places import Endpoint
from gateway.events.queues import Queue
from gateway.events.target import TargetUnavailable
from gateway.model import (
    ENABLED,
    Algorithm,
    Attributes,
    Bucket,
    CompletedPart,
    Extra,
    ObjectVersion,
)
from gateway.records import ReplicaRow
from gateway.replication.remote import Remote
from gateway.replication.replicator import Replicator
from tests.conformance.s3_server import ALICE, Server, running
from tests.unit.object_parts import World, stream
from tests.unit.test_replication_rules import element, replicating

MIB = 1 << 20


class Source:
    """A bucket that replicates to `copy` at an endpoint, and the courier that does it."""

    def __init__(self, world: World, bucket: Bucket, url: str) -> None:
        self.world, self.bucket, self.objects = world, bucket, world.objects
        self.point_to(url)

    def point_to(self, url: str) -> None:
        self.remote = Remote(Endpoint(url, ALICE.access_key, ALICE.secret_key))
        replicator = Replicator(self.objects, self.remote)
        self.queue = Queue(self.world.catalog, queues.REPLICATIONS, "there", ReplicaRow)
        self.courier = Courier(
            self.queue, replicator.deliver, self.world.clock, Pace(), replicator.give_up
        )

    async def put(self, key: str, body: bytes, **options: Any) -> ObjectVersion:
        attributes = options.pop("attributes", Attributes())
        return await self.objects.put(self.bucket, key, stream(body), attributes, **options)

    async def replicate(self) -> bool:
        return await self.courier.step(self.queue.page(100))

    def state(self, key: str) -> str:
        extra = self.objects.head(self.bucket, key).attributes.extra
        return extra.replication if extra else ""


async def source_of(url: str) -> Source:
    world, bucket = await replicating(element())
    return Source(world, bucket, url)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as found:
        found.client().create_bucket(Bucket="copy")
        yield found


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    made = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    made.start()
    host, port = made.get_host_and_port()
    yield f"http://{host}:{port}"
    made.stop()


async def test_a_small_object_arrives_whole_with_all_that_is_said_of_it(server: Server) -> None:
    source = await source_of(server.endpoint)
    attributes = Attributes(
        "text/plain", {"cache-control": "no-store", "content-language": "de"},
        {"who": "änn", "n": "1"}, {"a": "b c", "ü": "+="},
    )  # fmt: skip
    made = await source.put(
        "k é/1", b"abc", attributes=attributes, algorithms=frozenset({Algorithm.SHA256}),
        keep=Algorithm.SHA256,
    )  # fmt: skip
    assert source.state("k é/1") == "PENDING"
    assert await source.replicate()
    assert source.state("k é/1") == "COMPLETED"
    client = server.client()
    got = client.get_object(Bucket="copy", Key="k é/1", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"abc"
    assert got["ETag"] == f'"{made.etag}"'
    assert (got["ContentType"], got["CacheControl"]) == ("text/plain", "no-store")
    assert got["ContentLanguage"] == "de"
    assert got["Metadata"]["n"] == "1"
    assert got["ChecksumSHA256"]
    assert got["ReplicationStatus"] == "REPLICA"
    tags = client.get_object_tagging(Bucket="copy", Key="k é/1")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == attributes.tags


async def test_parts_stay_the_parts_they_were(server: Server) -> None:
    source = await source_of(server.endpoint)
    rng = random.Random(5)
    bodies = [rng.randbytes(5 * MIB), rng.randbytes(6 * MIB), rng.randbytes(9)]
    upload = await source.objects.create_upload(
        source.bucket, "parts", Attributes(), algorithm=Algorithm.SHA256, composite=True
    )
    done = []
    for number, body in enumerate(bodies, 1):
        part = await source.objects.put_part(upload, number, stream(body))
        done.append(CompletedPart(number, part.etag))
    made = await source.objects.complete_upload(upload, done)
    assert await source.replicate()
    got = server.client().get_object(Bucket="copy", Key="parts", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"".join(bodies)
    assert got["ETag"] == f'"{made.etag}"'
    assert got["ChecksumType"] == "COMPOSITE"
    assert got["ChecksumSHA256"].endswith("-3")


async def test_a_large_object_is_sent_in_parts_and_compared_as_a_whole(server: Server) -> None:
    source = await source_of(server.endpoint)
    body = random.Random(6).randbytes(17 * MIB + 5)
    await source.put(
        "large", body, algorithms=frozenset({Algorithm.CRC64NVME}), keep=Algorithm.CRC64NVME
    )
    assert await source.replicate()
    got = server.client().get_object(Bucket="copy", Key="large", ChecksumMode="ENABLED")
    assert sha256(got["Body"].read()).digest() == sha256(body).digest()
    assert got["ChecksumType"] == "FULL_OBJECT"
    assert not server.client().list_multipart_uploads(Bucket="copy").get("Uploads")


async def test_an_endpoint_that_is_down_is_waited_for(server: Server) -> None:
    source = await source_of("http://127.0.0.1:1")
    await source.put("later", b"1")
    assert not await source.replicate()
    assert source.state("later") == "PENDING"
    source.point_to(server.endpoint)
    assert await source.replicate()
    assert source.state("later") == "COMPLETED"
    assert server.client().get_object(Bucket="copy", Key="later")["Body"].read() == b"1"


async def test_a_part_that_fails_is_sent_again_and_an_upload_that_fails_goes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await source_of(server.endpoint)
    await source.put("broken", bytes(17 * MIB))
    call, failures = source.remote._call, 2

    async def failing(method: str, *arguments: Any, **options: Any) -> Any:
        nonlocal failures
        if method == "upload_part" and failures:
            failures -= 1
            raise TargetUnavailable("the line broke")
        return await call(method, *arguments, **options)

    monkeypatch.setattr(source.remote, "_call", failing)
    assert await source.replicate()
    assert source.state("broken") == "COMPLETED"
    await source.put("broken", bytes(17 * MIB))
    failures = 1000
    assert not await source.replicate()
    assert source.state("broken") == "PENDING"
    assert not server.client().list_multipart_uploads(Bucket="copy").get("Uploads")


async def test_what_is_refused_fails_and_says_so(server: Server) -> None:
    world, bucket = await replicating(element(arn="arn:cumulus:replication::there:missing"))
    source = Source(world, bucket, server.endpoint)
    await source.put("k", b"1")
    for _ in range(REFUSALS_MAX):
        assert source.state("k") == "PENDING"
        await source.replicate()
    assert source.state("k") == "FAILED"
    assert not source.queue.page(1)


async def test_what_was_removed_meanwhile_is_not_brought(server: Server) -> None:
    source = await source_of(server.endpoint)
    made = await source.put("gone", b"1")
    await source.objects.delete(source.bucket, "gone", made.version_id)
    assert await source.replicate()
    assert "Contents" not in server.client().list_objects_v2(Bucket="copy", Prefix="gone")
    assert not source.queue.page(1)


async def test_versions_markers_and_tags_arrive_in_their_order(server: Server) -> None:
    world, bucket = await replicating(element(markers="Enabled"))
    source, client = Source(world, bucket, server.endpoint), server.client()
    first = await source.put("k", b"1")
    await source.put("k", b"2")
    tagged = source.objects.amend(
        bucket, "k", None, lambda a: msgspec.structs.replace(a, tags={"a": "b"})
    )
    await caused_by(Origin("PutObjectTagging"), tagged)
    assert await source.replicate()
    assert client.get_object(Bucket="copy", Key="k")["Body"].read() == b"2"
    assert client.get_object_tagging(Bucket="copy", Key="k")["TagSet"] == [
        {"Key": "a", "Value": "b"}
    ]
    extra = source.objects.head(bucket, "k", first.version_id).attributes.extra
    assert extra == Extra(replication="COMPLETED"), "of the version before, too"
    late = source.objects.amend(
        bucket, "k", first.version_id, lambda a: msgspec.structs.replace(a, tags={"c": "d"})
    )
    await caused_by(Origin("PutObjectTagging"), late)
    assert await source.replicate()
    kept = client.get_object_tagging(Bucket="copy", Key="k")["TagSet"]
    assert kept == [{"Key": "a", "Value": "b"}], "not those of another version"
    await source.objects.delete(bucket, "k")
    assert await source.replicate()
    with pytest.raises(client.exceptions.ClientError, match="404"):
        client.head_object(Bucket="copy", Key="k")


async def test_a_replica_is_not_replicated_again(server: Server) -> None:
    """The destination names the source as its destination: nothing goes in circles."""
    from gateway.s3.replication import parse_replication
    from tests.unit.test_replication_rules import document

    objects = server.app._objects
    client = server.client()
    client.create_bucket(Bucket="mirror")
    mirror = await objects.configure_bucket("mirror", versioning=ENABLED)
    await objects.set_setting(mirror, "replication", parse_replication(document(element())))
    world, bucket = await replicating(element(arn="arn:cumulus:replication::there:mirror"))
    source = Source(world, bucket, server.endpoint)
    await source.put("small", b"1")
    await source.put("large", bytes(17 * MIB))
    assert await source.replicate()
    with objects._store.catalog.read() as reader:
        assert not reader.scan(Space.JOBS, b"replicate/", b"replicate0", 10)
    client.put_object(Bucket="mirror", Key="own", Body=b"1")
    assert client.head_object(Bucket="mirror", Key="own")["ReplicationStatus"] == "PENDING"
    assert client.head_object(Bucket="mirror", Key="large")["ReplicationStatus"] == "REPLICA"


async def test_another_kind_of_server_takes_the_same(moto: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=moto, aws_access_key_id="a", aws_secret_access_key="b",
        region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket="copy")
    source = await source_of(moto)
    body = random.Random(7).randbytes(17 * MIB)
    await source.put("small", b"1", attributes=Attributes(metadata={"a": "b"}, tags={"x": "y"}))
    await source.put("large", body)
    assert await source.replicate()
    assert client.get_object(Bucket="copy", Key="large")["Body"].read() == body
    got = client.get_object(Bucket="copy", Key="small")
    assert (got["Body"].read(), got["Metadata"]) == (b"1", {"a": "b"})
    tags = client.get_object_tagging(Bucket="copy", Key="small")["TagSet"]
    assert tags == [{"Key": "x", "Value": "y"}]
    assert source.objects.head(source.bucket, "large").attributes.extra == Extra(
        replication="COMPLETED"
    )
