"""ObjectService: objects as users see them, and the rows they leave."""

import asyncio
import gc
import hashlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.clock import Deadline
from chain.net.transport import Buffer
from gateway.catalog.interface import Batch, Put, Space
from gateway.errors import (
    AccessDenied,
    BadDigest,
    BucketAlreadyExists,
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    EntityTooLarge,
    IncompleteBody,
    InvalidArgument,
    InvalidBucketName,
    InvalidRange,
    InvalidStorageClass,
    KeyTooLong,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
    QuotaExceeded,
    ServiceUnavailable,
    SlowDown,
)
from gateway.model import (
    Account,
    Algorithm,
    Attributes,
    CompletedPart,
    Digests,
    ObjectVersion,
    WriteCondition,
)
from gateway.reading import DataDamaged
from gateway.records import OutboxRow, decode, version_key
from gateway.store import StoreSettings
from gateway.versions import version_uid
from miner.segments import PROFILES
from miner.writing import BelowQuorum
from tests.unit.object_parts import MIB, FakePublisher, World, lease_bytes, stream

A = Attributes("text/plain", {"cache-control": "no-cache"}, {"colour": "red"})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = await World().start()
    yield world
    world.objects.close()


def data_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def put(world: World, key: str, data: bytes, **options: Any) -> ObjectVersion:
    return await world.objects.put(world.bucket, key, stream(data), A, **options)


async def all_buffers_come_back(world: World) -> bool:
    """The event loop lets go of a result one turn later, a thread when its chunk is done."""
    store = world.objects._store
    pools = (store.engine.rings, store.engine.frames, store.reads)
    for _ in range(400):
        gc.collect()
        if not any(pool.in_use for pool in pools):
            return True
        await asyncio.sleep(0.005)
    return False


SIZES = [0, 1, 4096, 16384, 16385, 65536, 65537, MIB - 1, MIB, MIB + 1, 8 * MIB, 8 * MIB + 1]


@pytest.mark.parametrize("size", [*SIZES, 17 * MIB + 3])
@pytest.mark.parametrize("known", [True, False])
async def test_what_is_put_is_read_back(world: World, size: int, known: bool) -> None:
    data = data_of(size)
    length = size if known else None
    made = await put(world, "a/key", data, length=length, keep=Algorithm.SHA256)
    found = world.objects.head(world.bucket, "a/key")
    assert found == made
    assert (found.size, found.etag) == (size, hashlib.md5(data).hexdigest())
    assert found.attributes == A
    assert found.checksum
    assert found.checksum.digest == hashlib.sha256(data).digest()
    assert await world.read(found) == data
    assert await all_buffers_come_back(world)


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_every_range_is_read_exactly(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([5, 16384, 70000, 2 * MIB + 9, 9 * MIB + 1]))
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size))

    async def run() -> None:
        world = await World().start()
        body = data_of(size)
        version = await put(world, "k", body)
        assert await world.read(version, start, end) == body[start:end]
        world.objects.close()

    asyncio.run(run())


async def test_the_first_read_of_a_large_object_is_one_chunk(world: World) -> None:
    version = await put(world, "k", data_of(9 * MIB))
    world.pool.reads.clear()
    await world.read(version)
    assert world.pool.reads[0][0][0] == (0, MIB)


async def test_a_small_range_reads_one_chunk(world: World) -> None:
    version = await put(world, "k", data_of(9 * MIB))
    world.pool.reads.clear()
    await world.read(version, 3 * MIB + 5, 3 * MIB + 6)
    assert [ranges for ranges, _ in world.pool.reads] == [
        [(3 * MIB, 4 * MIB), (8 * MIB + 48, 8 * MIB + 64)]
    ]


async def test_a_range_outside_the_object_is_refused(world: World) -> None:
    version = await put(world, "k", b"hello")
    with pytest.raises(InvalidRange):
        world.objects.read(version, 3, 6)


async def test_without_read_budget_everything_is_still_read() -> None:
    world = await World(read_bytes=0).start()
    data = data_of(17 * MIB)
    assert await world.read(await put(world, "k", data)) == data
    world.objects.close()


async def test_broken_bytes_are_read_again_with_verification(world: World) -> None:
    data = data_of(3 * MIB)
    version = await put(world, "k", data)
    world.pool.corrupt_unless_verified = True
    assert await world.read(version) == data
    assert {verify for _, verify in world.pool.reads} == {False, True}


async def test_bytes_that_stay_broken_are_never_handed_out(world: World) -> None:
    version = await put(world, "k", data_of(3 * MIB))
    for segment in world.pool.segments:
        world.pool.segments[segment] = bytes(len(world.pool.segments[segment]))
    with pytest.raises(DataDamaged):
        await world.read(version)


async def test_lost_segments_answer_slow_down_before_the_first_byte(world: World) -> None:
    version = await put(world, "k", data_of(3 * MIB))
    world.pool.segments.clear()
    with pytest.raises(SlowDown):
        await world.read(version)


async def test_a_reader_that_leaves_gives_its_buffers_back(world: World) -> None:
    version = await put(world, "k", data_of(20 * MIB))
    reading = world.objects.read(version)
    first = await anext(reading)
    assert len(first) == MIB
    await reading.aclose()  # type: ignore[attr-defined]
    del first
    assert await all_buffers_come_back(world)


# ---------------------------------------------------------------- bodies that go wrong
@pytest.mark.parametrize("size", [100, 200_000, 300_000, 9 * MIB])
@pytest.mark.parametrize("length", [-1, 1])
async def test_a_body_of_another_length_leaves_nothing(
    world: World, size: int, length: int
) -> None:
    with pytest.raises(IncompleteBody):
        await put(world, "k", data_of(size), length=size + length)
    assert not world.rows(Space.LIVE)
    assert world.used() == 0
    assert await all_buffers_come_back(world)


async def test_a_promised_length_above_5_gib_is_refused_unread(world: World) -> None:
    with pytest.raises(EntityTooLarge):
        await put(world, "k", b"", length=(5 << 30) + 1)


@pytest.mark.parametrize("size", [100, 3 * MIB])
async def test_a_verifier_sees_all_digests_and_may_refuse(world: World, size: int) -> None:
    seen: list[Digests] = []

    def refuse(digests: Digests) -> None:
        seen.append(digests)
        raise BadDigest

    data = data_of(size)
    with pytest.raises(BadDigest):
        await put(world, "k", data, algorithms=frozenset(Algorithm), verify=refuse)
    assert seen[0].values.keys() == set(Algorithm)
    assert seen[0].values[Algorithm.SHA1] == hashlib.sha1(data).digest()
    assert not world.rows(Space.LIVE)


class ClientGone(Exception):
    pass


async def test_a_client_that_vanishes_leaves_nothing(world: World) -> None:
    async def body() -> AsyncIterator[Buffer]:
        yield bytes(11 * MIB)
        raise ClientGone

    with pytest.raises(ClientGone):
        await world.objects.put(world.bucket, "k", body(), A)
    assert not world.rows(Space.LIVE)
    assert await all_buffers_come_back(world)


async def test_a_cancelled_upload_gives_its_buffers_back(world: World) -> None:
    begun = asyncio.Event()

    async def body() -> AsyncIterator[Buffer]:
        yield bytes(3 * MIB)
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.objects.put(world.bucket, "k", body(), A))
        await begun.wait()
        task.cancel()
    assert task.cancelled()
    assert await all_buffers_come_back(world)
    assert not world.rows(Space.LIVE)


@pytest.mark.parametrize("size", [100_000, 20_000, 9 * MIB])
async def test_too_few_miners_answer_slow_down(world: World, size: int) -> None:
    world.pool.fail_writes = BelowQuorum("two of four")
    with pytest.raises(SlowDown):
        await put(world, "k", data_of(size))
    assert not world.rows(Space.LIVE)
    assert await all_buffers_come_back(world)


@pytest.mark.parametrize("set_by", [0, -15, 30])
@pytest.mark.parametrize("size", [20_000, 3 * MIB])
async def test_what_took_longer_than_miners_keep_it_is_refused_whatever_the_clock_is_set_to(
    world: World, size: int, set_by: int
) -> None:
    hour = 3600 * 10**9
    world.pool.deadline = Deadline.after(world.clock, 20 * 3600)
    upload = await world.objects.create_upload(world.bucket, "parts", A)

    async def slow() -> AsyncIterator[Buffer]:
        yield data_of(size)
        world.clock.ns += 21 * hour
        world.clock.set_by = set_by * hour

    with pytest.raises(SlowDown):
        await world.objects.put(world.bucket, "k", slow(), A)
    world.clock.ns -= 21 * hour
    with pytest.raises(SlowDown):
        await world.objects.put_part(upload, 1, slow())
    assert world.rows(Space.STREAMS) == world.rows(Space.LIVE) == world.rows(Space.PARTS) == []
    world.clock.ns -= 21 * hour
    world.clock.set_by = 0
    await put(world, "k", data_of(size))
    assert await world.read(world.objects.head(world.bucket, "k")) == data_of(size)


async def test_many_uploads_share_a_small_budget() -> None:
    world = await World(ring_bytes=6 * MIB, frame_bytes=24 * MIB).start()
    bodies = {f"k{i}": data_of(9 * MIB + i, i) for i in range(6)}
    async with asyncio.TaskGroup() as group:
        for key, data in bodies.items():
            group.create_task(put(world, key, data))
    for key, data in bodies.items():
        assert await world.read(world.objects.head(world.bucket, key)) == data
    world.objects.close()


@pytest.mark.parametrize("profile", sorted(PROFILES))
async def test_a_share_of_many_workers_stores_and_reads_with_every_profile(profile: str) -> None:
    share = StoreSettings().shared_by(256)
    sizes = {name: getattr(share, name) for name in ("ring_bytes", "frame_bytes", "read_bytes")}
    world = await World(profile=profile, **sizes).start()
    data = data_of(70 * MIB)
    await put(world, "k", data)
    assert await world.read(world.objects.head(world.bucket, "k")) == data
    world.objects.close()


def test_workers_share_one_budget_of_buffers() -> None:
    def total(workers: int) -> int:
        share = StoreSettings().shared_by(workers)
        return workers * (share.ring_bytes + share.frame_bytes + share.read_bytes)

    assert total(1) == total(2) == total(4) <= 800 * MIB


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


# ---------------------------------------------------------------- copies
@pytest.mark.parametrize("size", [0, 100, 3 * MIB])
async def test_a_copy_outlives_its_source(world: World, size: int) -> None:
    data = data_of(size)
    source = await put(world, "a", data)
    copied = await world.objects.copy(source, world.bucket, "b")
    assert (copied.etag, copied.size, copied.attributes) == (source.etag, size, A)
    assert world.used() == 2 * lease_bytes(size)
    await world.objects.delete(world.bucket, "a")
    assert await world.read(copied) == data
    assert not world.rows(Space.RELEASES)
    await world.objects.delete(world.bucket, "b")
    for space in (Space.BODIES, Space.STREAMS, Space.PLACEMENT):
        assert not world.rows(space)
    assert world.used() == 0


@pytest.mark.parametrize("size", [100, 3 * MIB])
async def test_a_copy_onto_itself_changes_attributes_only(world: World, size: int) -> None:
    source = await put(world, "a", data_of(size))
    copied = await world.objects.copy(source, world.bucket, "a", attributes=Attributes())
    assert copied.attributes == Attributes()
    assert await world.read(world.objects.head(world.bucket, "a")) == data_of(size)
    assert world.used() == lease_bytes(size)


async def test_a_copy_to_another_owner_is_wrapped_for_that_owner(world: World) -> None:
    other = (await world.accounts.create("Bob", id="bob")).account
    theirs = await world.objects.create_bucket(other, "theirs")
    source = await put(world, "a", data_of(3 * MIB))
    copied = await world.objects.copy(source, theirs, "b")
    assert await world.read(copied) == data_of(3 * MIB)
    assert copied.fid != source.fid


@pytest.mark.parametrize("size", [100, 3 * MIB])
async def test_a_copy_with_another_checksum_or_profile_reads_the_bytes(
    world: World, size: int
) -> None:
    source = await put(world, "a", data_of(size))
    copied = await world.objects.copy(
        source, world.bucket, "b", algorithm=Algorithm.CRC32, profile="mirror"
    )
    assert copied.profile == "mirror"
    assert copied.checksum
    assert copied.checksum.algorithm is Algorithm.CRC32
    assert await world.read(copied) == data_of(size)


@pytest.mark.parametrize("size", [100, 3 * MIB])
async def test_a_released_source_is_not_copied(world: World, size: int) -> None:
    source = await put(world, "a", data_of(size))
    await world.objects.delete(world.bucket, "a")
    with pytest.raises(NoSuchKey):
        await world.objects.copy(source, world.bucket, "b")
    with pytest.raises(NoSuchKey):
        await world.read(source)


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


# ---------------------------------------------------------------- buckets
@pytest.mark.parametrize("publishes", [False, True])
async def test_new_buckets_publish_where_the_settings_say_so(publishes: bool) -> None:
    world = await World(publisher=FakePublisher(), publish_new_buckets=publishes).start()
    assert world.bucket.publishes is publishes
    assert ((await put(world, "k", b"x")).cid is not None) is publishes
    world.objects.close()


async def test_buckets_are_made_found_and_removed(world: World) -> None:
    objects = world.objects
    assert objects.bucket("photos") == world.bucket
    with pytest.raises(BucketAlreadyOwnedByYou):
        await objects.create_bucket(world.account, "photos")
    other = (await world.accounts.create("Bob", id="bob")).account
    with pytest.raises(BucketAlreadyExists):
        await objects.create_bucket(other, "photos")
    await objects.create_bucket(world.account, "b-first", region="eu-west-1", public=True)
    assert [b.name for b in objects.buckets(world.account)] == ["b-first", "photos"]
    assert objects.buckets(other) == []
    await put(world, "k", b"x")
    with pytest.raises(BucketNotEmpty):
        await objects.delete_bucket(world.bucket)
    await objects.delete(world.bucket, "k")
    await objects.delete_bucket(world.bucket)
    for attempt in (objects.delete_bucket(world.bucket), put(world, "k", b"x")):
        with pytest.raises(NoSuchBucket):
            await attempt
    again = await objects.create_bucket(world.account, "photos")
    assert again.id != world.bucket.id
    with pytest.raises(NoSuchBucket):
        await put(world, "k", b"x")


async def test_a_stranger_makes_no_bucket(world: World) -> None:
    with pytest.raises(AccessDenied):
        await world.objects.create_bucket(Account("nobody", "Nobody"), "bucket")


@pytest.mark.parametrize(
    "name",
    ["", "ab", "x" * 64, "Upper", "under_score", "-dash", "dash-", "a..b", "1.2.3.4", "ipfs"],
)
async def test_ill_formed_bucket_names_are_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidBucketName):
        await world.objects.create_bucket(world.account, name)


@pytest.mark.parametrize(
    "name", ["ipns", "xn--abc", "abc-s3alias", "abc--x-s3", "a/b", "é" * 4, "abc\n", "sthree-x"]
)
async def test_reserved_bucket_names_are_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidBucketName):
        await world.objects.create_bucket(world.account, name)


@pytest.mark.parametrize("name", ["", "x" * 100, "\udcff", "nonesuch"])
async def test_unknown_buckets_are_not_found(world: World, name: str) -> None:
    with pytest.raises(NoSuchBucket):
        world.objects.bucket(name)


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
