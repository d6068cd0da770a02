"""ObjectService: objects as users see them, and the rows they leave."""

import asyncio
import hashlib

import pytest

from gateway.catalog.interface import Batch, Put, Space
from gateway.errors import (
    InvalidArgument,
    InvalidStorageClass,
    KeyTooLong,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
    QuotaExceeded,
    ServiceUnavailable,
)
from gateway.model import CompletedPart, WriteCondition
from gateway.records import OutboxRow, decode, version_key
from gateway.versions import version_uid
from tests.unit.object_parts import MIB, A, FakePublisher, World, data_of, lease_bytes, put, stream


# ---------------------------------------------------------------- versions and rows
async def test_replacing_and_deleting_leaves_no_row_behind(world: World) -> None:
    for size in (100, 3 * MIB, 200, 9 * MIB, 0):
        await put(world, "k", data_of(size))
        assert len(world.rows(Space.LIVE)) == 1
        assert not world.rows(Space.VERSIONS), "what LIVE holds is kept once"
        assert world.used() == lease_bytes(size)
    removed = await world.objects.delete(world.bucket, "k")
    assert removed
    assert removed.removed
    assert removed.removed.size == 0
    for space in (Space.LIVE, Space.VERSIONS, Space.BODIES, Space.STREAMS, Space.PLACEMENT):
        assert not world.rows(space), space
    assert len(world.rows(Space.RELEASES)) == 3
    assert world.used() == 0
    with pytest.raises(NoSuchKey):
        world.objects.head(world.bucket, "k")
    assert await world.objects.delete(world.bucket, "k") is None


async def test_rows_of_the_first_release_go_with_their_version(world: World) -> None:
    """It kept every LIVE row a second time in VERSIONS."""
    version = await put(world, "k", b"1")
    [(_, row)] = world.rows(Space.LIVE)
    own = version_key(world.bucket.id, b"k", version.sequence)
    await world.catalog.commit(Batch((), [Put(Space.VERSIONS, own, row)]))
    assert world.objects.head(world.bucket, "k").uid == version.uid
    await put(world, "k", b"2")
    assert not world.rows(Space.VERSIONS)


async def test_versions_of_a_key_never_go_back_in_time(world: World) -> None:
    first = await put(world, "k", b"1")
    world.clock.ns -= 10**12
    second = await put(world, "k", b"2")
    assert second.sequence == first.sequence + 1


async def test_the_outbox_tells_of_every_put_and_delete(world: World) -> None:
    made = await put(world, "k", b"1")
    await put(world, "k", b"22")
    await world.objects.delete(world.bucket, "k")
    told = [decode(OutboxRow, value) for _, value in world.rows(Space.OUTBOX)]
    assert [row.operation for row in told] == ["put", "delete", "put", "delete"]
    assert (told[0].fid, told[0].uid) == (made.fid, version_uid(made))
    assert {row.uid for row in told[:2]} == {version_uid(made)}
    assert told[0].size == lease_bytes(1)
    assert told[0].lease == b"lease-1"


async def test_named_versions(world: World) -> None:
    made = await put(world, "k", b"1")
    assert world.objects.head(world.bucket, "k", "null") == made
    for key, version in (("k", "0" * 32), ("missing", "null")):
        with pytest.raises(NoSuchVersion):
            world.objects.head(world.bucket, key, version)
    for version in ("", "other", "F" * 32, "0" * 31):
        with pytest.raises(InvalidArgument):
            world.objects.head(world.bucket, "k", version)


async def test_nothing_stored_shows_the_plaintext(world: World) -> None:
    text = b"a very recognisable sentence, many times over. " * 3000
    await put(world, "small", text[:10_000])
    await put(world, "large", text)
    stored = b"".join(value for space in Space for _, value in world.rows(space))
    stored += b"".join(world.pool.segments.values())
    assert b"recognisable" not in stored


async def test_the_same_bytes_are_never_sealed_alike(world: World) -> None:
    one = await put(world, "one", b"same")
    two = await put(world, "two", b"same")
    assert one.fid != two.fid
    assert len({value for _, value in world.rows(Space.BODIES)}) == 2


async def test_inline_max_zero_keeps_only_empty_bodies_in_the_catalog() -> None:
    world = await World(inline_max=0).start()
    await put(world, "empty", b"")
    version = await put(world, "one", b"x")
    assert len(world.rows(Space.BODIES)) == 1
    assert await world.read(version) == b"x"
    world.objects.close()


async def test_another_etag_is_never_taken_for_md5() -> None:
    world = await World(etag="crc64nvme").start()
    version = await put(world, "k", b"123456789")
    assert version.etag == "0" * 16 + "ae8b14860a799888-1"
    world.objects.close()


async def test_profiles_are_chosen_by_name(world: World) -> None:
    version = await put(world, "k", data_of(MIB), profile="mirror")
    assert version.profile == "mirror"
    assert await world.read(version) == data_of(MIB)
    with pytest.raises(InvalidStorageClass):
        await put(world, "k", b"x", profile="nonesuch")


@pytest.mark.parametrize("key", ["", "x" * 1025, "é" * 513, "\x00" * 1010])
async def test_keys_that_do_not_fit_are_refused(world: World, key: str) -> None:
    with pytest.raises(KeyTooLong):
        await put(world, key, b"x")


@pytest.mark.parametrize("key", ["a//b", "..", "ключ", "a b+c%2F", "x" * 1024, "\x00\xff", "/"])
async def test_keys_keep_every_byte(world: World, key: str) -> None:
    await put(world, key, b"x")
    assert world.objects.list_objects(world.bucket).objects[0].key == key
    assert world.objects.head(world.bucket, key).key == key


# ---------------------------------------------------------------- conditions
async def test_conditions_are_judged_against_what_is_there(world: World) -> None:
    with pytest.raises(NoSuchKey):
        await put(world, "k", b"1", condition=WriteCondition(if_match="*"))
    none = WriteCondition(if_none_match="*")
    made = await put(world, "k", b"1", condition=none)
    for condition in (none, WriteCondition(if_none_match=made.etag), WriteCondition(if_match="x")):
        with pytest.raises(PreconditionFailed):
            await put(world, "k", b"2", condition=condition)
    with pytest.raises(PreconditionFailed):
        await world.objects.delete(world.bucket, "k", condition=WriteCondition(if_match="x"))
    await put(world, "k", b"3", condition=WriteCondition(if_match=made.etag))
    assert await world.objects.delete(world.bucket, "k", condition=WriteCondition(if_match="*"))


async def test_of_many_creators_one_wins(world: World) -> None:
    none = WriteCondition(if_none_match="*")

    async def create(i: int) -> bool:
        try:
            await put(world, "k", bytes([i]), condition=none)
        except PreconditionFailed:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(create(i)) for i in range(8)]
    assert sum(task.result() for task in tasks) == 1


async def test_a_full_lease_refuses_and_a_delete_makes_room(world: World) -> None:
    world.leases.ceiling = lease_bytes(1000)
    await put(world, "k", bytes(1000))
    with pytest.raises(QuotaExceeded):
        await put(world, "other", b"x")
    await put(world, "k", bytes(999))
    await world.objects.delete(world.bucket, "k")
    await put(world, "other", bytes(1000))
    world.leases.none = True
    with pytest.raises(QuotaExceeded):
        await put(world, "k", b"")


async def test_a_dead_catalog_answers_service_unavailable(world: World) -> None:
    await world.catalog.close()
    with pytest.raises(ServiceUnavailable):
        await world.objects.delete_bucket(world.bucket)


# ---------------------------------------------------------------- keys
async def test_objects_stay_readable_after_the_encryption_key_was_rotated(world: World) -> None:
    before = await put(world, "a", b"before")
    assert await world.accounts.rotate_encryption_key("ann") == 2
    after = await put(world, "b", b"after")
    assert await world.read(before) == b"before"
    assert await world.read(after) == b"after"


# ---------------------------------------------------------------- publishing
async def test_a_publishing_bucket_gets_cids_and_loses_them() -> None:
    world = await World(publisher=FakePublisher()).start()
    world.bucket = await world.objects.configure_bucket("photos", publishes=True)
    data = data_of(2 * MIB + 5)
    version = await put(world, "k", data)
    leaves = b"".join(hashlib.sha256(data[i : i + MIB]).digest() for i in range(0, len(data), MIB))
    assert dict(world.rows(Space.BLOCKS)) == {version_uid(version): leaves}
    assert world.objects.head(world.bucket, "k").cid == version.cid
    small = await put(world, "k", b"hello")
    assert dict(world.rows(Space.BLOCKS)) == {version_uid(small): hashlib.sha256(b"hello").digest()}
    await world.objects.delete(world.bucket, "k")
    assert not world.rows(Space.BLOCKS)
    world.objects.close()


async def test_large_deletions_are_worked_off_by_a_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.transaction.RELEASED_AT_ONCE", 3)
    bodies = [data_of(5 * MIB, i) for i in range(9)]
    upload = await world.objects.create_upload(world.bucket, "k", A)
    named = []
    for number, body in enumerate(bodies, 1):
        part = await world.objects.put_part(upload, number, stream(body))
        named.append(CompletedPart(number, part.etag))
    version = await world.objects.complete_upload(upload, named)
    copied = await world.objects.copy(version, world.bucket, "copy")
    await world.objects.delete(world.bucket, "k")
    assert len(world.rows(Space.JOBS)) == 1
    while await world.objects.release_some():
        assert len(world.rows(Space.JOBS)) <= 1
    assert await world.read(copied) == b"".join(bodies)
    assert not world.rows(Space.RELEASES)
    await world.objects.delete(world.bucket, "copy")
    while await world.objects.release_some():
        pass
    assert len(world.rows(Space.RELEASES)) == 9
    assert not world.rows(Space.STREAMS)
    assert world.used() == 0
