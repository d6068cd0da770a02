"""ObjectService: buckets are made, found, named and removed."""

import pytest

from gateway.errors import (
    AccessDenied,
    BucketAlreadyExists,
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    InvalidBucketName,
    NoSuchBucket,
)
from gateway.model import Account
from tests.unit.object_parts import FakePublisher, World, put


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
