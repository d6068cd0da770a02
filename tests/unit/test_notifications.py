"""Notifications: rules and their document, and the events that commits note."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.interface import Space
from gateway.errors import InvalidArgument, NotImplementedHere, PreconditionFailed, StoreError
from gateway.events import queues
from gateway.events.message import message_of
from gateway.events.origin import Origin, caused_by
from gateway.events.rules import EVENTS, NotificationRule, event_of, kept_rules, target_of
from gateway.events.rules import Change as Kind
from gateway.model import ENABLED, Attributes, Bucket, CompletedPart, WriteCondition
from gateway.records import EventRow, decode
from gateway.s3.errors import MalformedXML
from gateway.s3.notification import notification_document, parse_notification
from tests.unit.object_parts import World, stream

ARN = "arn:cumulus:sqs::hook:webhook"
TELLABLE = sorted(event for event in EVENTS if not event.endswith("*"))
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=4)
RULES = st.builds(
    NotificationRule,
    kind=st.sampled_from(["Topic", "Queue", "CloudFunction"]),
    id=st.uuids().map(str),
    arn=st.just(ARN),
    target=st.just("hook"),
    events=st.lists(st.sampled_from(sorted(EVENTS)), min_size=1, max_size=3).map(tuple),
    prefix=st.sampled_from(["", "a", "ab", "b", "a/"]) | TEXT,
    suffix=st.sampled_from(["", "a", "ba", ".jpg"]) | TEXT,
)


# ------------------------------------------------------------------ rules
@given(RULES, RULES, st.sampled_from(TELLABLE), st.text("ab/.jpg", max_size=6))
def test_rules_that_want_the_same_event_overlap(
    one: NotificationRule, other: NotificationRule, event: str, middle: str
) -> None:
    longest = max(one.prefix, other.prefix, key=len), max(one.suffix, other.suffix, key=len)
    key = longest[0] + middle + longest[1]
    if one.wants(event, key) and other.wants(event, key):
        assert one.overlaps(other)
        assert other.overlaps(one)


def test_overlaps_are_the_same_seen_from_either_rule() -> None:
    whole = NotificationRule("Queue", "1", ARN, "hook", ("s3:ObjectCreated:*",), "a", "")
    part = NotificationRule("Queue", "2", ARN, "hook", ("s3:ObjectCreated:Put",), "ab", ".x")
    other = NotificationRule("Queue", "3", ARN, "hook", ("s3:ObjectCreated:Put",), "b", ".x")
    assert whole.overlaps(part)
    assert part.overlaps(whole)
    assert not other.overlaps(part)
    assert not whole.overlaps(other)


@pytest.mark.parametrize(
    ("pattern", "event", "wanted"),
    [
        ("s3:ObjectCreated:*", "s3:ObjectCreated:Copy", True),
        ("s3:ObjectCreated:Put", "s3:ObjectCreated:Copy", False),
        ("s3:ObjectRemoved:*", "s3:ObjectCreated:Put", False),
        ("s3:LifecycleTransition", "s3:LifecycleTransition", True),
    ],
)
def test_a_star_stands_for_the_last_word(pattern: str, event: str, wanted: bool) -> None:
    rule = NotificationRule("Queue", "1", ARN, "hook", (pattern,), "in/", ".jpg")
    assert rule.wants(event, "in/x.jpg") is wanted
    assert not rule.wants(event, "out/x.jpg")
    assert not rule.wants(event, "in/x.png")


def test_every_event_that_a_change_makes_can_be_asked_for() -> None:
    operations = ("", "PutObject", "CopyObject", "CompleteMultipartUpload", "PostObject",
                  "LifecycleExpiration", "LifecycleTransition", "PutObjectAcl",
                  "PutObjectTagging", "DeleteObjectTagging", "PutObjectRetention")  # fmt: skip
    for kind in Kind:
        assert {event_of(kind, operation) for operation in operations} <= EVENTS | {None}
    assert event_of(Kind.AMENDED, "PutObjectLegalHold") is None


@pytest.mark.parametrize(
    ("arn", "name"),
    [
        (ARN, "hook"),
        ("arn:minio:sqs::primary:webhook", "primary"),
        ("arn:minio:sqs:eu-west-1:primary:webhook", "primary"),
        ("arn:aws:sns:us-east-1:123456789012:hook", "hook"),
        ("arn:aws:lambda:us-east-1:123456789012:function:hook", "hook"),
        ("arn:aws:s3:::bucket", None),
        ("arn:aws:sqs", None),
        ("hook", None),
        ("", None),
    ],
)
def test_arns_name_targets(arn: str, name: str | None) -> None:
    assert target_of(arn) == name


# ------------------------------------------------------------------ the document
def document(*rules: str) -> bytes:
    return f"<NotificationConfiguration>{''.join(rules)}</NotificationConfiguration>".encode()


def queue(*events: str, arn: str = ARN, prefix: str = "", suffix: str = "", id: str = "") -> str:
    rows = "".join(
        f"<FilterRule><Name>{name}</Name><Value>{value}</Value></FilterRule>"
        for name, value in (("prefix", prefix), ("Suffix", suffix))
        if value
    )
    named = f"<Id>{id}</Id>" if id else ""
    listed = "".join(f"<Event>{event}</Event>" for event in events)
    return (
        f"<QueueConfiguration>{named}<Queue>{arn}</Queue>{listed}"
        f"<Filter><S3Key>{rows}</S3Key></Filter></QueueConfiguration>"
    )


@given(RULES)
def test_a_rule_survives_its_document(rule: NotificationRule) -> None:
    stored = msgspec.msgpack.encode((rule,))
    assert parse_notification(notification_document(stored)) == stored


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_rules_or_refused(data: bytes) -> None:
    with suppress(StoreError):
        parse_notification(b"<NotificationConfiguration>" + data + b"</NotificationConfiguration>")
    with suppress(StoreError):
        parse_notification(data)


def test_an_empty_document_configures_nothing() -> None:
    assert parse_notification(document()) is None


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        ([queue("s3:ObjectCreated:*"), queue("s3:ObjectCreated:Put", id="2")], InvalidArgument),
        ([queue("s3:ObjectCreated:*", prefix="a"),
          queue("s3:ObjectCreated:*", prefix="ab", id="2")], InvalidArgument),
        ([queue("s3:ObjectCreated:*", suffix=".jpg"),
          queue("s3:ObjectCreated:*", prefix="x", id="2")], InvalidArgument),
        ([queue("s3:ObjectCreated:*", id="1"), queue("s3:ObjectRemoved:*", id="1")],
         InvalidArgument),
        ([queue("s3:Nothing")], InvalidArgument),
        ([queue("s3:ObjectCreated:*", arn="hook")], InvalidArgument),
        ([queue("s3:ObjectCreated:*", id="x" * 256)], InvalidArgument),
        ([queue("s3:ObjectCreated:*", prefix="x" * 1025)], InvalidArgument),
        ([queue("s3:ObjectCreated:*").replace("prefix", "middle").replace(
            "<S3Key>", "<S3Key><FilterRule><Name>middle</Name><Value>x</Value></FilterRule>")],
         InvalidArgument),
        ([queue()], MalformedXML),
        ([queue("s3:ObjectCreated:*", arn="")], MalformedXML),
        (["<Other/>"], MalformedXML),
        (["<EventBridgeConfiguration/>"], NotImplementedHere),
    ],
)  # fmt: skip
def test_what_aws_refuses_is_refused(rules: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_notification(document(*rules))


def test_rules_that_share_no_event_may_share_keys() -> None:
    stored = parse_notification(
        document(
            queue("s3:ObjectCreated:*", id="1"),
            queue("s3:ObjectRemoved:*", id="2"),
            queue("s3:ObjectTagging:*", prefix="a/", id="3"),
            queue("s3:ObjectTagging:*", prefix="b/", id="4"),
        )
    )
    assert stored is not None
    assert len(kept_rules(stored)) == 4


# ------------------------------------------------------------------ noting
async def watched(*rules: str, **settings: Any) -> tuple[World, Bucket]:
    """A world whose bucket has these rules; the test event is taken out."""
    world = await World(**settings).start()
    stored = parse_notification(document(*rules))
    await world.objects.set_setting(world.bucket, "notification", stored)
    assert [row.event for row in noted(world)] == ["s3:TestEvent"]
    taken = queues.Queue(world.catalog, queues.NOTIFICATIONS, "hook", EventRow)
    await taken.remove(taken.page(10), [])
    return world, world.objects.bucket("photos")


def noted(world: World) -> list[EventRow]:
    return [
        decode(EventRow, raw)
        for place, raw in world.rows(Space.JOBS)
        if place.startswith(b"notify/hook/")
    ]


ALL = queue("s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*", "s3:ObjectAcl:Put")


async def test_each_change_has_its_event_in_order() -> None:
    world, bucket = await watched(ALL)
    objects = world.objects

    async def by(operation: str, work: Any) -> Any:
        return await caused_by(Origin(operation, "ann", "10.0.0.7", "R1", "H1"), work)

    put = await by("PutObject", objects.put(bucket, "k é", stream(b"abc"), Attributes()))
    copied = await by("CopyObject", objects.copy(put, bucket, "copy"))
    upload = await objects.create_upload(bucket, "parts", Attributes())
    part = await objects.put_part(upload, 1, stream(b"x" * 10))
    await by(
        "CompleteMultipartUpload",
        objects.complete_upload(upload, [CompletedPart(1, part.etag)]),
    )
    await by(
        "PutObjectTagging",
        objects.amend(bucket, "copy", None, lambda a: msgspec.structs.replace(a, tags={"a": "b"})),
    )
    await by("DeleteObject", objects.delete(bucket, "k é"))
    await objects.delete(bucket, "was never there")
    rows = noted(world)
    assert [(row.event, row.key) for row in rows] == [
        ("s3:ObjectCreated:Put", "k é"),
        ("s3:ObjectCreated:Copy", "copy"),
        ("s3:ObjectCreated:CompleteMultipartUpload", "parts"),
        ("s3:ObjectTagging:Put", "copy"),
        ("s3:ObjectRemoved:Delete", "k é"),
    ]
    assert rows[0].sequence == put.sequence < rows[-1].sequence
    assert rows[1].sequence == copied.sequence < rows[3].sequence
    record = json.loads(message_of(rows[0]).document)["Records"][0]
    assert record == {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2027-01-15T08:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "ann"},
        "requestParameters": {"sourceIPAddress": "10.0.0.7"},
        "responseElements": {"x-amz-request-id": "R1", "x-amz-id-2": "H1"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": rows[0].rule,
            "bucket": {
                "name": "photos",
                "ownerIdentity": {"principalId": "ann"},
                "arn": "arn:aws:s3:::photos",
            },
            "object": {
                "key": "k+%C3%A9",
                "size": 3,
                "eTag": put.etag,
                "sequencer": f"{put.sequence:016X}",
            },
        },
    }
    removed = json.loads(message_of(rows[-1]).document)["Records"][0]["s3"]["object"]
    assert removed.keys() == {"key", "sequencer"}
    assert json.loads(message_of(rows[3]).document)["Records"][0]["eventVersion"] == "2.3"


async def test_what_fails_and_what_nobody_wants_is_not_noted() -> None:
    world, bucket = await watched(queue("s3:ObjectCreated:Put", prefix="in/"))
    objects = world.objects
    await objects.put(bucket, "in/k", stream(b"1"), Attributes())
    with pytest.raises(PreconditionFailed):
        await objects.put(
            bucket, "in/k", stream(b"2"), Attributes(), condition=WriteCondition(if_none_match="*")
        )
    await objects.put(bucket, "out/k", stream(b"3"), Attributes())
    await objects.delete(bucket, "in/k")
    assert [(row.event, row.key) for row in noted(world)] == [("s3:ObjectCreated:Put", "in/k")]
    await objects.set_setting(bucket, "notification", None)
    await objects.put(objects.bucket("photos"), "in/l", stream(b"4"), Attributes())
    assert len(noted(world)) == 1


async def test_an_expiration_has_a_name_of_its_own() -> None:
    world, bucket = await watched(queue("s3:LifecycleExpiration:*"))
    await world.objects.put(bucket, "k", stream(b"1"), Attributes())
    await caused_by(Origin("LifecycleExpiration"), world.objects.delete(bucket, "k"))
    assert [row.event for row in noted(world)] == ["s3:LifecycleExpiration:Delete"]


async def test_a_full_queue_drops_what_comes_and_stops_no_write() -> None:
    world, bucket = await watched(ALL, queue_max=3)
    for number in range(5):
        await world.objects.put(bucket, f"k{number}", stream(b"1"), Attributes())
    assert [row.key for row in noted(world)] == ["k0", "k1", "k2"]
    with world.catalog.read() as reader:
        found = queues.figures(reader)
    assert found == {("notify", "hook"): queues.Figures(waiting=3, done=1, dropped=2)}
    assert world.objects.head(bucket, "k4").size == 1


async def test_buckets_without_rules_read_and_append_nothing() -> None:
    world = await World().start()
    asked: list[bytes] = []
    reader_type = type(world.catalog.read().__enter__())
    get = reader_type.get

    def spy(self: Any, space: Space, key: bytes) -> bytes | None:
        asked.append(key)
        return get(self, space, key)

    await world.objects.set_setting(world.bucket, "cors", b"x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_type, "get", spy)
        await world.objects.put(world.objects.bucket("photos"), "k", stream(b"1"), Attributes())
    assert asked
    assert not [key for key in asked if key.startswith(b"settings/")]
    assert not world.rows(Space.JOBS)


async def test_markers_and_versions_are_told_by_their_names() -> None:
    world, bucket = await watched(ALL)
    bucket = await world.objects.configure_bucket("photos", versioning=ENABLED)
    made = await world.objects.put(bucket, "k", stream(b"1"), Attributes())
    hidden = await world.objects.delete(bucket, "k")
    assert hidden is not None
    assert hidden.marker is not None
    await world.objects.delete(bucket, "k", made.version_id)
    rows = noted(world)
    assert [(row.event, row.version) for row in rows] == [
        ("s3:ObjectCreated:Put", made.version_id),
        ("s3:ObjectRemoved:DeleteMarkerCreated", hidden.marker.version_id),
        ("s3:ObjectRemoved:Delete", made.version_id),
    ]
    assert rows[0].sequence < rows[1].sequence == hidden.marker.sequence
    found = json.loads(message_of(rows[1]).document)["Records"][0]["s3"]["object"]
    assert found["versionId"] == hidden.marker.version_id
