"""ObjectService: copies, which share their source's sealed segments."""

import pytest

from gateway.catalog.interface import Space
from gateway.errors import NoSuchKey
from gateway.model import Algorithm, Attributes
from tests.unit.object_parts import MIB, A, World, data_of, lease_bytes, put


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
