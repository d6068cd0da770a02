"""Limits: what is counted is what is there, and nothing goes beyond it."""

import asyncio
import random

import pytest

from gateway.catalog.interface import Space
from gateway.errors import QuotaExceeded, SlowDown
from gateway.limits import Limits, _bytes_of, bytes_counter
from gateway.model import ENABLED, LIMITING, Attributes, CompletedPart
from gateway.s3.pacing import HOLDERS_MAX, Pace
from tests.unit.object_parts import World, stream

A = Attributes()
MIB = 1 << 20


async def limit(world: World, limits: Limits) -> None:
    await world.objects.limits.set_bucket(world.bucket, limits)
    world.bucket = world.objects.bucket(world.bucket.name)


async def put(world: World, key: str, size: int) -> None:
    await world.objects.put(world.bucket, key, stream(bytes(size)), A)


def used(world: World) -> int | None:
    return world.objects.limits.bucket(world.bucket).used


async def really(world: World) -> int:
    with world.catalog.read() as reader:
        return await _bytes_of(reader, world.bucket)


async def test_a_bucket_takes_no_more_than_its_limit_and_room_comes_back(world: World) -> None:
    await put(world, "before", 1000)
    await limit(world, Limits(bytes=3000))
    assert (used(world), world.bucket.limited) == (1000, True)
    await put(world, "a", 2000)
    with pytest.raises(QuotaExceeded, match="may not hold so many bytes"):
        await put(world, "b", 1)
    await put(world, "a", 1500)  # a smaller one in its place
    await put(world, "b", 500)
    await world.objects.delete(world.bucket, "before")
    await put(world, "c", 1000)
    assert used(world) == 3000
    await limit(world, Limits(bytes=100))  # below what is there: only deletions go on
    with pytest.raises(QuotaExceeded):
        await put(world, "d", 1)
    await world.objects.delete(world.bucket, "c")
    assert used(world) == 2000
    await limit(world, Limits())
    assert (used(world), world.bucket.limited) == (None, False)
    await put(world, "d", 10_000)
    with world.catalog.read() as reader:
        assert reader.counter(bytes_counter(world.bucket.id)) == 0


async def test_an_accounts_limit_is_for_all_its_buckets_also_later_ones(world: World) -> None:
    objects, owner = world.objects, world.bucket.owner
    await put(world, "a", 1000)
    await objects.limits.set_account(owner, Limits(bytes=2500))
    second = await objects.create_bucket(owner, "second")
    assert second.limited
    await objects.put(second, "b", stream(bytes(1000)), A)
    assert objects.limits.account(owner).used == 2000
    for bucket in (world.bucket, second):
        with pytest.raises(QuotaExceeded):
            await objects.put(bucket, "c", stream(bytes(501)), A)
    await objects.delete(second, "b")
    await objects.delete_bucket(objects.bucket("second"))
    assert objects.limits.account(owner).used == 1000
    await objects.limits.set_account(owner, Limits())
    assert objects.bucket(world.bucket.name).settings.isdisjoint(LIMITING)


@pytest.mark.parametrize("seed", range(6))
async def test_the_counter_is_what_is_there_whatever_happens(world: World, seed: int) -> None:
    chance, objects = random.Random(seed), world.objects
    if seed % 2:
        await objects.configure_bucket(world.bucket.name, versioning=ENABLED)
        world.bucket = objects.bucket(world.bucket.name)
    set_at = chance.randrange(10)
    uploads = []
    for step in range(40):
        if step == set_at:
            await limit(world, Limits(bytes=1 << 40))
        key = f"k{chance.randrange(4)}"
        match chance.randrange(7):
            case 0 | 1:
                await put(world, key, chance.choice([0, 100, 30_000]))
            case 2:
                await objects.delete(world.bucket, key)
            case 3:
                uploads.append(await objects.create_upload(world.bucket, key, A))
            case 4 if uploads:
                upload = chance.choice(uploads)
                size = chance.choice([100, 40_000])
                await objects.put_part(upload, chance.randrange(1, 3), stream(bytes(size)))
            case 5 if uploads:
                await objects.abort_upload(uploads.pop())
            case 6 if uploads:
                upload = uploads.pop()
                await objects.put_part(upload, 1, stream(bytes(200)))
                parts, _ = objects.list_parts(upload)
                named = [CompletedPart(1, parts[0].etag)]
                await objects.complete_upload(upload, named)
    assert used(world) == await really(world), f"seed {seed}"


async def test_bytes_that_come_while_a_limit_is_set_are_counted_once(world: World) -> None:
    async def write() -> None:
        for number in range(30):
            await objects.put(bucket, f"k{number % 7}", stream(bytes(number * 100)), A)

    objects, bucket = world.objects, world.bucket
    for number in range(50):
        await put(world, f"b{number}", 1000)
    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        group.create_task(objects.limits.set_bucket(bucket, Limits(bytes=1 << 40)))
        group.create_task(write())
    assert used(world) == await really(world)


# ---------------------------------------------------------------- requests
async def test_requests_beyond_the_rate_are_slowed_down_until_time_passes(world: World) -> None:
    await limit(world, Limits(requests=20))
    settings, pace = world.objects.settings(world.bucket), Pace(2)

    def asked(now: float, times: int) -> int:
        through = 0
        for _ in range(times):
            try:
                pace.check(world.bucket, settings, now)
            except SlowDown:
                continue
            through += 1
        return through

    assert asked(100.0, 50) == 10  # one of two workers, one second's share at once
    assert asked(100.5, 50) == 5
    assert asked(200.0, 50) == 10


async def test_no_more_holders_are_remembered_than_there_is_room_for(world: World) -> None:
    await limit(world, Limits(requests=1))
    settings, pace = world.objects.settings(world.bucket), Pace(1)
    from dataclasses import replace

    for number in range(HOLDERS_MAX + 10):
        pace.check(replace(world.bucket, id=number.to_bytes(16, "big")), settings, 1.0)
    assert len(pace._left) <= HOLDERS_MAX


async def test_a_deleted_bucket_leaves_no_counter_and_ends_no_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = bytes_counter(world.bucket.id)
    stale = world.bucket  # from before it had a limit, as another worker may hold it
    await limit(world, Limits(bytes=3000))
    await put(world, "a", 10)
    await world.objects.delete(world.bucket, "a")
    await world.objects.delete_bucket(stale)
    with world.catalog.read() as reader:
        assert reader.get(Space.COUNTERS, counter) is None
    kept = await world.objects.create_bucket(world.bucket.owner, "kept")
    book = world.objects.limits
    monkeypatch.setattr(book, "_owned", lambda _: [stale, kept])
    await book.set_account(kept.owner, Limits(bytes=5))
    with pytest.raises(QuotaExceeded):
        await world.objects.put(world.objects.bucket("kept"), "b", stream(bytes(6)), A)
