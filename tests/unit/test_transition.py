"""Other storage classes: the same version in another code, whoever reads or writes meanwhile."""

import msgspec
import pytest

from chain.clock import Deadline
from gateway.catalog.interface import Space
from gateway.errors import NoSuchKey, QuotaExceeded, SlowDown
from gateway.events.rules import NotificationRule
from gateway.lifecycle.rules import (
    Expiration,
    Filter,
    Noncurrent,
    Rule,
    Transition,
)
from gateway.model import (
    ENABLED,
    NOTIFICATION,
    SSE_C,
    Attributes,
    CompletedPart,
    Encryption,
    Extra,
    ObjectVersion,
)
from gateway.protection import CustomerKey
from gateway.records import EventRow, OutboxRow, StreamRow, decode
from gateway.transition import RETIRED_SECONDS
from gateway.versions import version_row
from tests.unit.object_parts import MIB, World, stream
from tests.unit.test_lifecycle_sweep import ANY, Swept

BODY = bytes(range(256)) * (9 * MIB // 256) + b"and a ragged end"


def profiles(world: World, version: ObjectVersion) -> list[str]:
    with world.catalog.read() as reader:
        raws = [reader.get(Space.STREAMS, each.id) for each in version_row(version).streams]
    return [decode(StreamRow, raw).profile for raw in raws if raw is not None]


def stored(version: ObjectVersion) -> int:
    """Bytes at the miners of a version's streams, by its rows."""
    return version_row(version).charged


async def made(world: World, body: bytes = BODY, **attributes: object) -> ObjectVersion:
    return await world.objects.put(
        world.bucket,
        "k",
        stream(body, 1_000_000),
        Attributes(**attributes),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("name", "target"),
    [("CESS", "cess"), ("standard", "standard"), ("WIDE", "wide"), ("MIRROR", "mirror")],
)
async def test_a_moved_version_is_the_same_in_another_code(name: str, target: str) -> None:
    world = await World().start()
    before = await made(world, content_type="text/x", metadata={"m": "1"}, tags={"k": "v"})
    assert await world.objects.transition(before, name, target)
    after = world.objects.head(world.bucket, "k")
    assert profiles(world, after) == [target]
    assert await world.read(after) == BODY
    assert await world.read(after, 8 * MIB - 5, 8 * MIB + 5) == BODY[8 * MIB - 5 : 8 * MIB + 5]
    fields = ("version_id", "sequence", "size", "etag", "modified_ns", "uid", "checksum", "parts")
    assert all(getattr(after, field) == getattr(before, field) for field in fields)
    headers = {"x-amz-storage-class": name}
    assert after.attributes == msgspec.structs.replace(before.attributes, headers=headers)
    assert after.profile == target
    assert after.fid != before.fid
    # The bucket says from now on that its objects have classes.
    world.bucket = world.objects.bucket(world.bucket.name)
    [listed] = world.objects.list_objects(world.bucket).objects
    assert listed.attributes.headers == headers
    # The charge is that of the same body stored so at once.
    other = await world.objects.put(
        world.bucket, "other", stream(BODY), Attributes(), profile=target
    )
    assert abs(stored(after) - stored(other)) < 100
    assert world.used() == stored(after) + stored(other)
    # The ledger is told: the old version's bytes go, the new one's come.
    told = [(decode_outbox(raw)) for _, raw in world.rows(Space.OUTBOX)][1:3]
    assert told == [
        ("delete", before.fid, before.uid, stored(before)),
        ("put", after.fid, after.uid, stored(after)),
    ]


def decode_outbox(raw: bytes) -> tuple[str, bytes, bytes, int]:
    row = decode(OutboxRow, raw)
    return row.operation, row.fid, row.uid, row.size


async def test_old_bytes_stay_for_reads_under_way_and_then_go() -> None:
    world = await World().start()
    before = await made(world)
    reading = world.objects.read(before)
    got = [bytes(await anext(reading))]
    await world.objects.transition(before, "WIDE", "wide")
    got += [bytes(piece) async for piece in reading]
    assert b"".join(got) == BODY
    assert await world.read(before) == BODY  # what was found before the move
    assert not await world.objects.release_retired()
    world.clock.ns += RETIRED_SECONDS * 10**9
    assert await world.objects.release_retired()
    assert not await world.objects.release_retired()
    with pytest.raises(NoSuchKey):
        await world.read(before)
    assert len(world.rows(Space.STREAMS)) == 1
    assert len(world.rows(Space.RELEASES)) == 2  # segments of 8 chunks
    assert not world.rows(Space.JOBS)


async def test_a_small_object_only_changes_its_name() -> None:
    world = await World().start()
    before = await made(world, b"small")
    used = world.used()
    assert await world.objects.transition(before, "WIDE", "wide")
    after = world.objects.head(world.bucket, "k")
    assert (after.profile, after.attributes.headers) == ("wide", {"x-amz-storage-class": "WIDE"})
    assert await world.read(after) == b"small"
    assert world.used() == used
    assert await world.objects.transition(after, "STANDARD", "")
    assert not world.objects.head(world.bucket, "k").attributes.headers


async def test_a_class_of_the_same_code_moves_no_bytes() -> None:
    world = await World().start()
    before = await made(world)
    written = len(world.pool.segments)
    assert await world.objects.transition(before, "STANDARD_IA", "")
    after = world.objects.head(world.bucket, "k")
    assert len(world.pool.segments) == written
    assert after.attributes.headers == {"x-amz-storage-class": "STANDARD_IA"}
    assert after.fid == before.fid


async def test_parts_move_in_groups_and_what_is_done_stays_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.transition._GROUP_BYTES", 11 * MIB)
    world = await World().start()
    upload = await world.objects.create_upload(world.bucket, "k", Attributes())
    bodies = [bytes([number]) * (5 * MIB) for number in range(5)] + [b"last"]
    parts = []
    for number, body in enumerate(bodies, 1):
        part = await world.objects.put_part(upload, number, stream(body, MIB))
        parts.append(CompletedPart(number, part.etag))
    before = await world.objects.complete_upload(upload, parts)
    writes = 0
    write = world.pool.write

    async def failing(segment, shards):  # type: ignore[no-untyped-def]
        nonlocal writes
        writes += 1
        if writes == 4:
            raise SlowDown
        return await write(segment, shards)

    monkeypatch.setattr(world.pool, "write", failing)
    with pytest.raises(SlowDown):
        await world.objects.transition(before, "MIRROR", "mirror")
    between = world.objects.head(world.bucket, "k")
    assert profiles(world, between) == ["mirror"] * 2 + ["small"] * 3
    assert await world.read(between) == b"".join(bodies)
    assert world.used() == stored(between)
    assert not between.attributes.headers
    assert await world.objects.transition(before, "MIRROR", "mirror")
    after = world.objects.head(world.bucket, "k")
    assert profiles(world, after) == ["mirror"] * 5
    assert await world.read(after) == b"".join(bodies)
    assert (after.etag, after.parts) == (before.etag, before.parts)
    assert world.used() == stored(after)
    assert writes == 4 + 3  # the third part again, and what came behind it


async def test_what_was_overwritten_or_deleted_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for gone in (True, False):
        world = await World().start()
        before = await made(world)
        write = world.pool.write

        async def overtaken(segment, shards, world=world, write=write, gone=gone):  # type: ignore[no-untyped-def]
            monkeypatch.setattr(world.pool, "write", write)
            if gone:
                await world.objects.delete(world.bucket, "k")
            else:
                await world.objects.put(world.bucket, "k", stream(b"new"), Attributes())
            return await write(segment, shards)

        monkeypatch.setattr(world.pool, "write", overtaken)
        assert not await world.objects.transition(before, "WIDE", "wide")
        assert world.used() == (0 if gone else len(b"new") + 16)
        assert not world.rows(Space.STREAMS)


async def test_a_copy_onto_itself_has_its_own_class(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World().start()
    before = await made(world)
    write = world.pool.write

    async def copied(segment, shards):  # type: ignore[no-untyped-def]
        monkeypatch.setattr(world.pool, "write", write)
        other = msgspec.structs.replace(before.attributes, metadata={"m": "2"})
        await world.objects.copy(before, world.bucket, "k", attributes=other)
        return await write(segment, shards)

    monkeypatch.setattr(world.pool, "write", copied)
    assert not await world.objects.transition(before, "WIDE", "wide")
    after = world.objects.head(world.bucket, "k")
    assert (profiles(world, after), after.attributes.headers) == (["small"], {})


async def test_what_goes_for_good_does_not_move_first() -> None:
    rule = Rule("r", True, ANY, expiration=Expiration(days=3), transitions=(Transition("WIDE", 1),))
    world = await Swept().begin(rule)
    await world.put("k", LARGE)
    await world.after(9)
    assert not world.names()
    assert not world.rows(Space.JOBS)[1:]  # the job's own row, and nothing retired


async def test_what_took_too_long_to_store_is_stored_again() -> None:
    world = await World().start()
    before = await made(world)
    world.pool.deadline = Deadline.after(world.clock, -1)
    with pytest.raises(SlowDown):
        await world.objects.transition(before, "WIDE", "wide")
    assert profiles(world, world.objects.head(world.bucket, "k")) == ["small"]


async def test_tags_that_change_meanwhile_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World().start()
    before = await made(world)
    write = world.pool.write

    async def retagged(segment, shards):  # type: ignore[no-untyped-def]
        def tagged(attributes: Attributes) -> Attributes:
            return msgspec.structs.replace(attributes, tags={"new": "tag"})

        await world.objects.amend(world.bucket, "k", None, tagged)
        return await write(segment, shards)

    monkeypatch.setattr(world.pool, "write", retagged)
    assert await world.objects.transition(before, "WIDE", "wide")
    after = world.objects.head(world.bucket, "k")
    assert after.attributes.tags == {"new": "tag"}
    assert profiles(world, after) == ["wide"]


async def test_what_only_its_client_can_open_moves_too() -> None:
    world = await World().start()
    customer = CustomerKey(bytes(range(32)))
    before = await world.objects.put(
        world.bucket, "k", stream(BODY, MIB), Attributes(extra=Extra(encryption=Encryption(SSE_C))),
        customer=customer,
    )  # fmt: skip
    assert await world.objects.transition(before, "WIDE", "wide")
    after = world.objects.head(world.bucket, "k")
    pieces = [bytes(piece) async for piece in world.objects.read(after, customer=customer)]
    assert b"".join(pieces) == BODY
    assert profiles(world, after) == ["wide"]


async def test_a_copy_keeps_its_own_bytes() -> None:
    world = await World().start()
    before = await made(world)
    copied = await world.objects.copy(before, world.bucket, "copy")
    await world.objects.transition(before, "WIDE", "wide")
    world.clock.ns += RETIRED_SECONDS * 10**9
    await world.objects.release_retired()
    assert await world.read(copied) == BODY
    assert (profiles(world, copied), len(world.rows(Space.RELEASES))) == (["small"], 0)


async def test_a_lease_that_is_full_refuses_and_nothing_changes() -> None:
    world = await World().start()
    before = await made(world)
    world.leases.ceiling = stored(before) + 1000
    with pytest.raises(QuotaExceeded):
        await world.objects.transition(before, "CESS", "cess")
    assert profiles(world, world.objects.head(world.bucket, "k")) == ["small"]
    # What takes no more room goes.
    assert await world.objects.transition(before, "STANDARD", "standard")


# ------------------------------------------------------------------ by rules
LARGE = bytes(200_000)


async def test_rules_move_what_is_due_once_and_let_it_expire_later() -> None:
    rule = Rule("r", True, ANY, expiration=Expiration(days=9), transitions=(Transition("WIDE", 2),))
    world = await Swept().begin(rule)
    await world.put("large", LARGE)
    await world.put("small", b"x" * 20_000)
    await world.run()
    assert world.state().done == 0
    await world.after(3)
    moved = world.objects.head(world.bucket, "large")
    headers = {"x-amz-storage-class": "WIDE"}
    assert moved.attributes.headers == headers
    assert profiles(world, moved) == ["wide"]
    assert world.objects.head(world.bucket, "small").attributes.headers == headers
    done = world.state().done
    await world.after(1)
    assert world.state().done == done  # once
    assert len(world.rows(Space.STREAMS)) == 2  # and what it left is gone
    await world.after(7)
    assert not world.names()


async def test_tags_choose_what_moves_and_a_full_lease_stops_nobody_else() -> None:
    tagged = Filter(tags=(("k", "v"),), above=0)
    world = await Swept().begin(
        Rule("r", True, tagged, transitions=(Transition("CESS", 1),)),
        Rule("s", True, Filter("z"), expiration=Expiration(days=1)),
    )
    await world.put("a", LARGE, tags={"k": "v"})
    await world.put("b", LARGE, tags={"k": "w"})
    await world.put("z", LARGE)
    world.leases.ceiling = world.used()
    await world.after(2)
    assert world.names() == ["a", "b"]
    assert not world.state().failures
    world.leases.ceiling = 1 << 50
    await world.after(1)
    found = {key: profiles(world, world.objects.head(world.bucket, key)) for key in "ab"}
    assert found == {"a": ["cess"], "b": ["small"]}


async def test_with_versioning_what_is_to_move_moves_before_it_is_hidden() -> None:
    world = await Swept().begin(
        Rule("r", True, ANY, expiration=Expiration(days=2), transitions=(Transition("WIDE", 1),)),
        Rule("n", True, ANY, noncurrent_transitions=(Noncurrent(3, None, "MIRROR"),)),
        versioning=ENABLED,
    )
    version = await world.put("k", LARGE)
    await world.after(4)
    assert world.versions() == [("k", version)]
    await world.after(1)
    assert world.versions() == [("k", "marker"), ("k", version)]
    await world.after(5)
    hidden = world.objects.head(world.bucket, "k", version)
    assert hidden.attributes.headers == {"x-amz-storage-class": "MIRROR"}
    assert profiles(world, hidden) == ["mirror"]
    assert await world.read(hidden) == LARGE


async def test_what_cannot_be_read_holds_up_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = await Swept().begin(
        Rule("r", True, ANY, transitions=(Transition("WIDE", 1),)),
        Rule("s", True, Filter("z"), expiration=Expiration(days=1)),
    )
    await world.put("a", LARGE)
    world.pool.segments.clear()
    for key in "bcz":
        await world.put(key, LARGE)
    await world.after(2)
    assert not world.state().failures
    assert f"{world.bucket.name}/a stays where it is" in caplog.text
    found = {key: profiles(world, world.objects.head(world.bucket, key)) for key in "abc"}
    assert found == {"a": ["small"], "b": ["wide"], "c": ["wide"]}
    assert world.names() == ["a", "b", "c"]


async def test_what_rules_do_is_told_as_theirs() -> None:
    rule = Rule("r", True, ANY, expiration=Expiration(days=5), transitions=(Transition("WIDE", 1),))
    world = await Swept().begin(rule)
    events = ("s3:LifecycleExpiration:*", "s3:LifecycleTransition", "s3:ObjectRemoved:*")
    wanted = NotificationRule("Queue", "q", "arn:cumulus:sqs::hook:webhook", "hook", events)
    await world.objects.set_setting(world.bucket, NOTIFICATION, msgspec.msgpack.encode((wanted,)))
    world.bucket = world.objects.bucket(world.bucket.name)
    await world.put("k", LARGE)
    await world.after(2)
    await world.after(5)
    told = [
        decode(EventRow, raw).event
        for place, raw in world.rows(Space.JOBS)
        if place.startswith(b"notify/")
    ]
    moved, gone = "s3:LifecycleTransition", "s3:LifecycleExpiration:Delete"
    assert told == ["s3:TestEvent", moved, gone]
