"""Replication rules, their document, how a version is sent, and what commits leave to be done."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.interface import Space
from gateway.errors import InvalidArgument, InvalidBucketState, InvalidRequest, StoreError
from gateway.events.origin import Origin, caused_by
from gateway.events.queues import REPLICATIONS, Queue
from gateway.model import (
    ENABLED,
    SSE_C,
    SUSPENDED,
    Account,
    Algorithm,
    Attributes,
    Bucket,
    Checksum,
    Encryption,
    Extra,
    ObjectVersion,
    PartSummary,
)
from gateway.protection import CustomerKey
from gateway.records import ReplicaRow, decode
from gateway.replication.again import Again, replicate_again
from gateway.replication.plan import MIB, OBJECT_MAX, PARTS_MAX, plan
from gateway.replication.rules import (
    ReplicationRule,
    arrived,
    chosen,
    destination_of,
    kept_replication,
    pending,
    shown,
)
from gateway.s3.errors import MalformedXML
from gateway.s3.replication import parse_replication, replication_document
from tests.unit.object_parts import World, stream


# ------------------------------------------------------------------ rules
def rule(**fields: object) -> ReplicationRule:
    values: dict[str, object] = {
        "id": "1", "priority": 1, "enabled": True, "prefix": "", "tags": {},
        "endpoint": "there", "target": "copy",
    }  # fmt: skip
    return msgspec.convert(list((values | fields).values()), ReplicationRule)


def test_the_highest_priority_wins_for_each_destination() -> None:
    rules = (
        rule(id="low", priority=1),
        rule(id="high", priority=2, prefix="a/"),
        rule(id="other", priority=0, target="second"),
        rule(id="off", priority=9, enabled=False),
    )
    assert [one.id for one in chosen(rules, "a/k", {})] == ["high", "other"]
    assert [one.id for one in chosen(rules, "b/k", {})] == ["low", "other"]
    assert {one.id for one in chosen(rules[::-1], "a/k", {})} == {"high", "other"}


def test_all_tags_of_a_rule_must_be_there() -> None:
    rules = (rule(tags={"a": "1", "b": "2"}),)
    assert chosen(rules, "k", {"a": "1", "b": "2", "c": "3"})
    assert not chosen(rules, "k", {"a": "1"})
    assert not chosen(rules, "k", {"a": "1", "b": "3"})


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_version_is_complete_when_every_destination_has_it(count: int) -> None:
    state = pending(count)
    for _ in range(count - 1):
        state = arrived(state)
        assert shown(state) == "PENDING"
    assert arrived(state) == "COMPLETED"
    assert arrived("FAILED") == "FAILED"


@pytest.mark.parametrize(
    ("arn", "found"),
    [
        ("arn:aws:s3:::bucket", ("default", "bucket")),
        ("arn:cumulus:replication::there:bucket", ("there", "bucket")),
        ("arn:minio:replication:us-east-1:there:bucket", ("there", "bucket")),
        ("arn:aws:s3:::", None),
        ("arn:cumulus:replication:::bucket", None),
        ("bucket", None),
    ],
)
def test_arns_name_an_endpoint_and_a_bucket(arn: str, found: tuple[str, str] | None) -> None:
    assert destination_of(arn) == found


# ------------------------------------------------------------------ the document
def document(*rules: str) -> bytes:
    role = "<Role>arn:aws:iam::1:role/r</Role>"
    text = f"<ReplicationConfiguration>{role}{''.join(rules)}</ReplicationConfiguration>"
    return text.encode()


def element(filter: str = "<Filter/>", more: str = "", priority: int = 1, **fields: str) -> str:
    values = {
        "status": "Enabled", "markers": "Disabled", "arn": "arn:cumulus:replication::there:copy",
        "id": "<ID>one</ID>",
    } | fields  # fmt: skip
    return (
        f"<Rule>{values['id']}<Priority>{priority}</Priority><Status>{values['status']}</Status>"
        f"{filter}<DeleteMarkerReplication><Status>{values['markers']}</Status>"
        f"</DeleteMarkerReplication><Destination><Bucket>{values['arn']}</Bucket>{more}"
        "</Destination></Rule>"
    )


AND = (
    "<Filter><And><Prefix>a/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>"
    "<Tag><Key>l</Key><Value></Value></Tag></And></Filter>"
)


def test_a_document_is_read_and_given_back() -> None:
    first = element(AND, "<StorageClass>STANDARD_IA</StorageClass><Metrics><Status>Disabled"
                    "</Status></Metrics>")  # fmt: skip
    second = element("<Filter><Prefix>b/</Prefix></Filter>", id="", priority=2, markers="Enabled")
    stored = parse_replication(document(first, second))
    one, two = kept_replication(stored).rules
    assert (one.id, one.prefix, one.tags) == ("one", "a/", {"k": "v", "l": ""})
    assert (one.endpoint, one.target, one.storage_class) == ("there", "copy", "STANDARD_IA")
    assert (two.prefix, two.priority, two.delete_markers, len(two.id)) == ("b/", 2, True, 32)
    given_back = replication_document(stored)
    assert b"<Metrics><Status>Disabled</Status></Metrics>" in given_back
    assert parse_replication(given_back) == stored


def test_the_older_schema_has_a_prefix_and_no_filter() -> None:
    old = (
        "<Rule><Prefix>a/</Prefix><Status>Enabled</Status><Destination>"
        "<Bucket>arn:aws:s3:::copy</Bucket></Destination></Rule>"
    )
    (one,) = kept_replication(parse_replication(document(old))).rules
    assert (one.prefix, one.endpoint, one.delete_markers) == ("a/", "default", False)


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        ([], MalformedXML),
        ([element(status="On")], MalformedXML),
        ([element(arn="copy")], InvalidArgument),
        ([element(), element()], InvalidArgument),
        ([element(), element(id="<ID>2</ID>")], InvalidRequest),
        ([element(AND, markers="Enabled")], InvalidRequest),
        ([element().replace("<Priority>1</Priority>", "")], InvalidRequest),
        ([element().replace("<Priority>1<", "<Priority>x<")], MalformedXML),
        ([element(id=f"<ID>{'x' * 256}</ID>")], InvalidArgument),
        ([element("<Filter><Prefix>a</Prefix><Tag/></Filter>")], MalformedXML),
        ([element("<Filter><Tag><Key>k</Key></Tag></Filter>")], MalformedXML),
        ([element(f"<Filter><Prefix>{'x' * 1025}</Prefix></Filter>")], InvalidArgument),
        ([element(), "<Rule/>"], MalformedXML),
        (["<Other/>"], MalformedXML),
    ],
)
def test_what_aws_refuses_is_refused(rules: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_replication(document(*rules))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_rules_or_refused(data: bytes) -> None:
    for text in (data, b"<ReplicationConfiguration>" + data + b"</ReplicationConfiguration>"):
        with suppress(StoreError):
            parse_replication(text)


# ------------------------------------------------------------------ plans
def version(size: int, **fields: object) -> ObjectVersion:
    bucket = Bucket("photos", bytes(16), Account("ann", "Ann"), 0)
    made = ObjectVersion(bucket, "k", "v", 1, size, "e" * 8, 0, Attributes(), b"", "small")
    return msgspec.structs.replace(made, **fields)


@given(st.integers(16 * MIB + 1, OBJECT_MAX))
def test_even_parts_cover_an_object_within_the_limits(size: int) -> None:
    parts = plan(version(size)).parts
    assert 2 <= len(parts) <= PARTS_MAX
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.start for part in parts] == [0, *(part.end for part in parts[:-1])]
    assert parts[-1].end == size
    assert all(part.end - part.start <= 64 * MIB for part in parts)


def test_parts_and_their_checksums_are_the_sources() -> None:
    sizes = (5 * MIB, 7 * MIB, 3)
    parts = tuple(
        PartSummary(2 * n + 1, size, "e", 0, Checksum(Algorithm.SHA256, bytes([n]) * 32))
        for n, size in enumerate(sizes)
    )
    made = version(sum(sizes), parts=parts, checksum=Checksum(Algorithm.SHA256, b"x" * 32, 3))
    sent = plan(made)
    assert [part.end - part.start for part in sent.parts] == list(sizes)
    assert [part.digest for part in sent.parts] == [bytes([n]) * 32 for n in range(3)]
    assert (sent.composite, sent.whole) == (True, b"x" * 32)


def test_a_combined_checksum_is_compared_with_the_whole_whatever_the_parts() -> None:
    made = version(100 * MIB, checksum=Checksum(Algorithm.CRC64NVME, b"x" * 8))
    sent = plan(made)
    assert (sent.algorithm, sent.composite, sent.whole) == (Algorithm.CRC64NVME, False, b"x" * 8)
    other = plan(version(100 * MIB, checksum=Checksum(Algorithm.SHA1, b"x" * 20)), "")
    assert (other.algorithm, other.composite, other.whole) == (Algorithm.SHA1, True, None)


# ------------------------------------------------------------------ noting
async def replicating(*rules: str, **settings: Any) -> tuple[World, Bucket]:
    world = await World(**settings).start()
    stored = parse_replication(document(*rules))
    await world.objects.configure_bucket("photos", versioning=ENABLED)
    await world.objects.kms.create(world.account, "here")
    await world.objects.set_setting(world.bucket, "replication", stored)
    return world, world.objects.bucket("photos")


def queued(world: World) -> list[tuple[str, str]]:
    return [
        (row.event, row.key)
        for place, raw in world.rows(Space.JOBS)
        if place.startswith(b"replicate/there/")
        for row in [decode(ReplicaRow, raw)]
    ]


async def test_a_version_waits_from_the_commit_that_makes_it() -> None:
    world, bucket = await replicating(element("<Filter><Prefix>in/</Prefix></Filter>"))
    inside = await world.objects.put(bucket, "in/k", stream(b"1"), Attributes())
    outside = await world.objects.put(bucket, "out/k", stream(b"2"), Attributes())
    assert inside.attributes.extra == Extra(replication="PENDING")
    assert world.objects.head(bucket, "in/k").attributes.extra == Extra(replication="PENDING")
    assert outside.attributes.extra is None
    assert queued(world) == [("put", "in/k")]


async def test_tags_follow_and_other_amendments_do_not() -> None:
    world, bucket = await replicating(element())
    await world.objects.put(bucket, "k", stream(b"1"), Attributes())
    for operation in ("PutObjectTagging", "Replication", "PutObjectRetention"):
        await caused_by(
            Origin(operation),
            world.objects.amend(
                bucket, "k", None, lambda a: msgspec.structs.replace(a, tags={"a": "b"})
            ),
        )
    assert queued(world) == [("put", "k"), ("tags", "k")]


@pytest.mark.parametrize(
    ("origin", "extra"),
    [
        (Origin("PutObject", replica=True), None),
        (Origin("CompleteMultipartUpload"), Extra(replication="REPLICA")),
        (Origin("LifecycleTransition"), None),
        (Origin("PutObject"), Extra(encryption=Encryption(SSE_C))),
        (Origin("PutObject"), Extra(encryption=Encryption("aws:kms", "here"))),
    ],
)
async def test_replicas_and_what_cannot_be_read_are_not_replicated(
    origin: Origin, extra: Extra | None
) -> None:
    world, bucket = await replicating(element())
    attributes = Attributes(extra=extra)
    key = CustomerKey(bytes(32)) if extra == Extra(encryption=Encryption(SSE_C)) else None
    put = world.objects.put(bucket, "k", stream(b"1"), attributes, customer=key)
    made = await caused_by(origin, put)
    assert queued(world) == []
    assert (made.attributes.extra or Extra()).replication in ("", "REPLICA")


async def test_a_rule_may_take_what_is_under_a_key_of_kms() -> None:
    selection = "<SourceSelectionCriteria><SseKmsEncryptedObjects><Status>Enabled</Status>"
    selection += "</SseKmsEncryptedObjects></SourceSelectionCriteria><Destination>"
    key = "<EncryptionConfiguration><ReplicaKmsKeyID>there</ReplicaKmsKeyID>"
    rule = element(more=key + "</EncryptionConfiguration>").replace("<Destination>", selection)
    world, bucket = await replicating(rule)
    attributes = Attributes(extra=Extra(encryption=Encryption("aws:kms", "here")))
    made = await world.objects.put(bucket, "k", stream(b"1"), attributes)
    assert queued(world) == [("put", "k")]
    headers = plan(made, kms_key="there").headers
    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "there"


async def test_a_full_queue_fails_what_comes_and_stops_no_write() -> None:
    world, bucket = await replicating(element(), queue_max=1)
    await world.objects.put(bucket, "k1", stream(b"1"), Attributes())
    failed = await world.objects.put(bucket, "k2", stream(b"2"), Attributes())
    assert failed.attributes.extra == Extra(replication="FAILED")
    assert queued(world) == [("put", "k1")]


@pytest.mark.parametrize(("markers", "follows"), [("Enabled", True), ("Disabled", False)])
async def test_delete_markers_follow_where_the_rule_says_so(markers: str, follows: bool) -> None:
    world, bucket = await replicating(element(markers=markers))
    made = await world.objects.put(bucket, "k", stream(b"1"), Attributes())
    assert await world.objects.delete(bucket, "k")
    await caused_by(Origin(replica=True), world.objects.delete(bucket, "k"))
    await caused_by(Origin("LifecycleExpiration"), world.objects.delete(bucket, "k"))
    await world.objects.delete(bucket, "k", made.version_id)  # for good: only here
    assert queued(world) == [("put", "k")] + [("marker", "k")] * follows


async def test_replication_rests_on_versioning() -> None:
    world = await World().start()
    stored = parse_replication(document(element()))
    with pytest.raises(InvalidRequest, match="Versioning"):
        await world.objects.set_setting(world.bucket, "replication", stored)
    world, _ = await replicating(element())
    with pytest.raises(InvalidBucketState):
        await world.objects.configure_bucket("photos", versioning=SUSPENDED)


# ------------------------------------------------------------------ again
async def drained(world: World) -> list[tuple[str, str]]:
    """What waits, taken out as a courier does."""
    rows = queued(world)
    queue = Queue(world.catalog, REPLICATIONS, "there", ReplicaRow)
    await queue.remove(queue.page(1000), [])
    return rows


async def test_what_failed_is_sent_again_with_what_came_after_it() -> None:
    world, bucket = await replicating(element(), queue_max=3)
    objects = world.objects
    for key, body in (("a", b"1"), ("b", b"1"), ("c", b"1"), ("a", b"2"), ("d", b"1"), ("e", b"1")):
        await objects.put(bucket, key, stream(body), Attributes())
    await objects.delete(bucket, "e")  # of three that failed the one that is deleted now
    assert await drained(world) == [("put", "a"), ("put", "b"), ("put", "c")]
    assert await replicate_again(objects, bucket, everything=False) == Again(2, 0)
    assert await drained(world) == [("put", "a"), ("put", "d")]
    assert objects.head(bucket, "a").attributes.extra == Extra(replication="PENDING")
    assert await replicate_again(objects, bucket, everything=False) == Again(0, 0)


async def test_all_is_also_what_is_older_than_the_rules_and_the_queue_stays_bounded() -> None:
    world = await World(queue_max=3).start()
    objects = world.objects
    bucket = await objects.configure_bucket("photos", versioning=ENABLED)
    for key in "abab":
        await objects.put(bucket, key, stream(b"1"), Attributes(tags={"t": "1"}))
    replica = Attributes(extra=Extra(replication="REPLICA"))
    await objects.put(bucket, "c", stream(b"1"), replica)
    await objects.set_setting(bucket, "replication", parse_replication(document(element())))
    bucket = objects.bucket("photos")
    before = objects.head(bucket, "a")
    assert await replicate_again(objects, bucket, everything=False) == Again(0, 0)
    assert await replicate_again(objects, bucket, everything=True) == Again(3, 1)
    assert [key for _, key in await drained(world)] == ["a", "a", "b"]
    assert await replicate_again(objects, bucket, everything=False) == Again(1, 0)
    after = objects.head(bucket, "a")
    assert (after.modified_ns, after.attributes.tags) == (before.modified_ns, {"t": "1"})
