"""ObjectService: bodies on their way in and out, and what may go wrong with them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.clock import Deadline
from chain.net.transport import Buffer
from gateway.catalog.interface import Space
from gateway.errors import BadDigest, EntityTooLarge, IncompleteBody, InvalidRange, SlowDown
from gateway.model import Algorithm, Digests
from gateway.reading import DataDamaged
from gateway.store import StoreSettings
from miner.segments import PROFILES
from miner.writing import BelowQuorum
from tests.unit.object_parts import MIB, A, World, all_buffers_come_back, data_of, put

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


async def test_what_is_wanted_of_each_segment_is_asked_for_once(world: World) -> None:
    version = await put(world, "k", data_of(9 * MIB))
    world.pool.reads.clear()
    await world.read(version)
    assert len(world.pool.reads) == len(world.pool.segments)


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


@pytest.mark.skipif(find_spec("llvmlite") is None, reason="only where code is generated")
async def test_uploads_that_hold_one_chunk_each_are_hashed_side_by_side() -> None:
    """None can push a second piece before the first is hashed."""
    world = await World(segment_chunks=1).start()
    bodies = {f"k{i}": data_of(300_000 + i * MIB, i) for i in range(4)}
    hashing = world.objects._store.engine.hashing
    for _ in range(2):  # the first round has code compiled
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for key, data in bodies.items():
                group.create_task(put(world, key, data, keep=Algorithm.SHA256))
        for _ in range(2000):
            await asyncio.sleep(0 if hashing.ready else 0.01)
    assert hashing.ready
    for key, data in bodies.items():
        found = world.objects.head(world.bucket, key)
        assert found.etag == hashlib.md5(data).hexdigest()
        assert found.checksum
        assert found.checksum.digest == hashlib.sha256(data).digest()
    assert await all_buffers_come_back(world)
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

    assert total(1) == total(2) == total(4) <= 1000 * MIB
