"""Claims about publishing single objects: what is public is reached, and nothing beside it."""

import hashlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from chain.cids import Cid
from gateway.catalog.interface import Space
from gateway.ipfs.codecs import directory, unixfs
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.errors import NotFound
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.directories import Directories
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.model import ENABLED, Attributes, CompletedPart, Encryption, Extra, ObjectVersion
from tests.unit.ipfs_jobs import file_rows, settle
from tests.unit.object_parts import World, stream

MIB = 1 << 20
PUBLIC = Attributes(metadata={"ipfs": "publish", "colour": "red"})
A, B = b"a" * MIB, b"b" * MIB


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = await World(publisher=IpfsPublisher()).start()
    yield world
    world.objects.close()


def leaf(data: bytes) -> Cid:
    return unixfs.leaf_cid(hashlib.sha256(data).digest())


async def put(
    world: World, key: str, data: bytes, attributes: Attributes = PUBLIC
) -> ObjectVersion:
    return await world.objects.put(world.objects.bucket("photos"), key, stream(data), attributes)


async def switch(world: World, key: str, on: bool | None) -> ObjectVersion:
    def switched(attributes: Attributes) -> Attributes:
        extra = msgspec.structs.replace(attributes.extra or Extra(), published=on)
        return msgspec.structs.replace(attributes, extra=extra)

    return await world.objects.amend(world.objects.bucket("photos"), key, None, switched)


def reached(world: World, *cids: Cid | str | None) -> list[bool]:
    index = BlockIndex(world.objects, world.catalog)
    asked = [Cid.parse(cid) if isinstance(cid, str) else cid for cid in cids]
    return [cid is not None and index.block(cid) is not None for cid in asked]


async def test_metadata_publishes_one_object_and_its_siblings_stay_private(world: World) -> None:
    public = await put(world, "public", A + B)
    private = await put(world, "private", B + b"c", Attributes())
    assert public.cid
    assert private.cid is None
    root = str(unixfs.build_file(MIB + 1, leaf(B).digest + leaf(b"c").digest).root)
    # The leaf that both have is served as the public one's.
    assert (
        reached(world, public.cid, leaf(A), leaf(B), root, leaf(b"c")) == [True] * 3 + [False] * 2
    )
    found = BlockIndex(world.objects, world.catalog).file(Cid.parse(public.cid))
    assert found is not None
    assert await world.read(found.version) == A + B
    with pytest.raises(NotFound):  # names of a bucket are private
        Directories(world.catalog, world.clock).root(world.bucket)
    await world.objects.delete(world.bucket, "public")
    assert reached(world, public.cid, leaf(A), leaf(B)) == [False] * 3
    assert world.rows(Space.BLOCKS) == []


async def test_an_object_is_switched_on_and_off_where_its_bucket_is_private(world: World) -> None:
    assert (await put(world, "k", A, Attributes())).cid is None
    assert (await switch(world, "k", True)).cid is None
    await settle(world)
    cid = world.objects.head(world.bucket, "k").cid
    assert reached(world, cid) == [True]
    assert (await switch(world, "k", False)).cid is None
    assert reached(world, cid) == [False]
    assert file_rows(world) == []
    await switch(world, "k", True)
    await switch(world, "k", False)  # before the job came to it
    await settle(world)
    assert reached(world, cid) == [False]
    assert world.rows(Space.BLOCKS) == []
    assert world.rows(Space.JOBS) == []


async def test_an_object_that_is_off_is_not_published_with_its_bucket(world: World) -> None:
    off, on = await put(world, "d/off", A, Attributes()), await put(world, "d/on", B, Attributes())
    await switch(world, "d/off", False)
    bucket = await world.objects.configure_bucket("photos", publishes=True)
    await settle(world)
    head = world.objects.head
    assert (head(bucket, "d/off").cid, head(bucket, "d/on").cid is not None) == (None, True)
    assert reached(world, leaf(A), leaf(B)) == [False, True]
    found = Directories(world.catalog, world.clock)
    assert found.progress(bucket)[1:] == (1, 0)
    with_one = found.root(bucket, "d")
    await switch(world, "d/off", None)
    await settle(world)
    assert found.progress(bucket)[1:] == (2, 0)
    await switch(world, "d/off", False)
    await settle(world)
    assert found.root(bucket, "d") == with_one
    assert off.size == on.size == MIB


async def test_an_objects_own_switch_outlives_its_buckets(world: World) -> None:
    bucket = await world.objects.configure_bucket("photos", publishes=True)
    await put(world, "own", A)
    await put(world, "other", B, Attributes())
    await settle(world)
    bucket = await world.objects.configure_bucket("photos", publishes=False)
    assert reached(world, leaf(A), leaf(B)) == [True, False]
    await settle(world)
    assert world.objects.head(bucket, "own").cid
    assert reached(world, leaf(A), leaf(B)) == [True, False]
    assert len(file_rows(world)) == 2


async def test_copies_and_uploads_carry_the_metadata(world: World) -> None:
    source = await put(world, "k", A)
    await world.objects.copy(source, world.bucket, "copy")
    await world.objects.copy(source, world.bucket, "private", attributes=Attributes())
    upload = await world.objects.create_upload(world.bucket, "parts", PUBLIC)
    part = await world.objects.put_part(upload, 1, stream(B), length=MIB)
    made = await world.objects.complete_upload(upload, [CompletedPart(1, part.etag)])
    assert made.cid == str(leaf(B))
    await settle(world)
    head = world.objects.head
    assert head(world.bucket, "copy").cid == source.cid
    assert head(world.bucket, "private").cid is None


async def test_what_a_second_key_closes_is_not_published_by_itself_either(world: World) -> None:
    team = Encryption("aws:kms", await world.objects.kms.usable(world.bucket, "team"))
    closed = msgspec.structs.replace(PUBLIC, extra=Extra(encryption=team, published=True))
    assert (await put(world, "k", A, closed)).cid is None
    await settle(world)
    assert world.rows(Space.BLOCKS) == []


async def test_a_version_that_is_not_the_latest_is_not_public(world: World) -> None:
    await world.objects.configure_bucket("photos", versioning=ENABLED)
    await put(world, "k", A)
    await put(world, "k", B, Attributes())
    assert reached(world, leaf(A), leaf(B)) == [False, False]


async def test_what_was_being_put_when_its_bucket_was_switched_on_is_published_too(
    world: World,
) -> None:
    await put(world, "k", A, Attributes())
    before = world.objects.bucket("photos")  # as a request found it that takes long

    async def slowly() -> AsyncIterator[bytes]:
        await world.objects.configure_bucket("photos", publishes=True)
        await settle(world)
        yield B

    await world.objects.put(before, "k", slowly(), Attributes())
    await settle(world)
    bucket = world.objects.bucket("photos")
    assert reached(world, world.objects.head(bucket, "k").cid, leaf(A)) == [True, False]
    found = Directories(world.catalog, world.clock)
    assert found.progress(bucket)[1:] == (1, 0)
    assert str(found.root(bucket)) == str(directory.build([Link(leaf(B), "k", MIB)]).root)
