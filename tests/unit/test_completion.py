"""Completing uploads of many parts, and completions that something comes between."""

import asyncio
import random

import pytest

from gateway.catalog.interface import Batch, Put, Space
from gateway.errors import InvalidPart, NoSuchUpload
from gateway.keys import wrap
from gateway.manifest import Manifest, fid
from gateway.model import Attributes, CompletedPart, Upload
from gateway.records import PartRow, StreamRef, StreamRow, encode, part_key
from gateway.seal import sealed_size
from gateway.store import account_keys
from gateway.transaction import segments_of
from gateway.versions import version_row
from gateway.writing import stored_manifest
from tests.unit.object_parts import MIB, World, stream

A = Attributes()
SIZE = 8 * MIB


async def begin(world: World) -> Upload:
    return await world.objects.create_upload(world.bucket, "k", A)


async def with_parts(world: World, count: int) -> tuple[Upload, list[CompletedPart]]:
    """An upload whose parts' rows are there, though nobody sent their bytes."""
    upload, chance = await begin(world), random.Random(1).randbytes
    changes, named = [], []
    for number in range(1, count + 1):
        part = StreamRef(chance(16), SIZE, wrap(chance(32), chance(32)), chance(32), False)
        row = StreamRow(1, SIZE, "small", 4, 2, 8, chance(6 * 32))
        changes.append(Put(Space.STREAMS, part.id, encode(row)))
        changes += [Put(Space.PLACEMENT, each.id, b"here") for each in segments_of(row)]
        named.append(CompletedPart(number, chance(16).hex()))
        place = part_key(bytes.fromhex(upload.upload_id), number)
        stored = PartRow(
            SIZE, named[-1].etag, 0, b"", part, b"lease-1", sealed_size(SIZE), True, b""
        )
        changes.append(Put(Space.PARTS, place, encode(stored)))
    await world.catalog.commit(Batch(changes=changes))
    return upload, named


async def test_ten_thousand_parts_leave_the_event_loop_its_turns(world: World) -> None:
    upload, named = await with_parts(world, 10_000)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with asyncio.TaskGroup() as group:
        task = group.create_task(others())
        version = await world.objects.complete_upload(upload, named)
        task.cancel()
    assert (version.size, len(version.parts)) == (10_000 * SIZE, 10_000)
    assert turns >= 35  # between slices of 500 rows, and of 1,000 segments of the manifest
    row = version_row(version)
    with world.catalog.read() as reader:
        owner = account_keys(reader, "ann").owner
        streams = tuple(stored_manifest(reader, each) for each in row.streams)
    assert version.fid == fid(Manifest(owner, streams))
    assert not world.rows(Space.PARTS)


async def test_a_part_replaced_while_the_parts_are_read_is_seen(world: World) -> None:
    upload, named = await with_parts(world, 3)
    read = world.objects._completion._parts

    async def replace_behind(upload: Upload) -> dict[int, PartRow]:
        found = await read(upload)
        if len(world.pool.segments) == 0:
            data = bytes(SIZE)
            await world.objects.put_part(upload, 3, stream(data), length=SIZE)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.objects._completion, "_parts", replace_behind)
        with pytest.raises(InvalidPart):  # the third is another one by now
            await world.objects.complete_upload(upload, named)
    assert not world.rows(Space.LIVE)
    assert len(world.rows(Space.PARTS)) == 3
    version = await world.objects.complete_upload(upload, named[:2])
    assert [part.etag for part in version.parts] == [part.etag for part in named[:2]]
    assert len(world.rows(Space.STREAMS)) == 2


async def test_two_completions_at_once_make_one_object(world: World) -> None:
    upload, named = await with_parts(world, 1100)
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(world.objects.complete_upload(upload, named)) for _ in range(2)]
    first, second = (task.result() for task in both)
    assert first == second
    assert len(world.rows(Space.LIVE)) == 1
    assert world.used() == 0  # what the version is charged, its parts give back


async def test_an_upload_aborted_while_its_parts_are_read_is_no_such_upload(world: World) -> None:
    upload, named = await with_parts(world, 2)
    read = world.objects._completion._parts

    async def abort_behind(upload: Upload) -> dict[int, PartRow]:
        await world.objects.abort_upload(upload)
        return await read(upload)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.objects._completion, "_parts", abort_behind)
        with pytest.raises(NoSuchUpload):
            await world.objects.complete_upload(upload, named)
    assert world.used() == -2 * sealed_size(SIZE)  # their charges were never made here
    assert not world.rows(Space.PARTS)
