"""Multipart uploads through ObjectService."""

import hashlib
import random
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.catalog.interface import Space
from gateway.errors import (
    BadDigest,
    EntityTooSmall,
    InvalidArgument,
    InvalidPart,
    InvalidPartOrder,
    InvalidRequest,
    NoSuchUpload,
    PreconditionFailed,
)
from gateway.model import (
    Algorithm,
    Attributes,
    Checksum,
    CompletedPart,
    Upload,
    WriteCondition,
)
from gateway.records import PublishJob, decode
from gateway.upload_rows import uploads_after
from gateway.versions import version_uid
from tests.unit.object_parts import MIB, FakePublisher, World, lease_bytes, stream

A = Attributes("text/plain", {}, {"m": "1"})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = await World(publisher=FakePublisher()).start()
    yield world
    world.objects.close()


def data_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def begin(world: World, key: str = "k", **options: Any) -> Upload:
    return await world.objects.create_upload(world.bucket, key, A, **options)


async def send(world: World, upload: Upload, *parts: bytes) -> list[CompletedPart]:
    named = []
    for number, data in enumerate(parts, 1):
        part = await world.objects.put_part(upload, number, stream(data), length=len(data))
        digest = part.checksum.digest if part.checksum else None
        named.append(CompletedPart(number, part.etag, digest))
    return named


async def test_parts_become_one_object(world: World) -> None:
    parts = [data_of(5 * MIB, 1), data_of(6 * MIB + 7, 2), data_of(100, 3)]
    upload = await begin(world)
    named = await send(world, upload, *parts)
    version = await world.objects.complete_upload(upload, named)
    whole = b"".join(parts)
    tags = b"".join(hashlib.md5(part).digest() for part in parts)
    assert version.etag == hashlib.md5(tags).hexdigest() + "-3"
    assert (version.size, version.attributes) == (len(whole), A)
    assert [p.size for p in version.parts] == [len(p) for p in parts]
    found = world.objects.head(world.bucket, "k")
    assert found == version
    assert await world.read(found) == whole
    edge = 5 * MIB
    assert await world.read(found, edge - 3, edge + 3) == whole[edge - 3 : edge + 3]
    assert not world.rows(Space.UPLOADS)
    assert not world.rows(Space.PARTS)
    assert world.used() == sum(lease_bytes(len(p)) for p in parts)
    await world.objects.delete(world.bucket, "k")
    assert world.used() == 0
    assert not world.rows(Space.STREAMS)
    assert not world.rows(Space.BODIES)


async def test_completing_again_answers_the_same(world: World) -> None:
    upload = await begin(world)
    named = await send(world, upload, b"only")
    first = await world.objects.complete_upload(upload, named)
    found = world.objects.upload(world.bucket, "k", upload.upload_id)
    assert await world.objects.complete_upload(found, named) == first
    with pytest.raises(NoSuchUpload):
        await world.objects.abort_upload(found)
    assert await world.read(first) == b"only"


async def test_many_parts_are_kept_out_of_the_live_row(world: World) -> None:
    upload = await begin(world)
    parts = [data_of(5 * MIB, 9)] * 9
    version = await world.objects.complete_upload(upload, await send(world, upload, *parts))
    assert len(world.rows(Space.LIVE)[0][1]) < len(world.rows(Space.VERSIONS)[0][1]) / 2
    assert world.objects.head(world.bucket, "k") == version
    assert await world.read(version, 40 * MIB) == parts[0][:][0 : 5 * MIB]
    copied = await world.objects.copy(version, world.bucket, "copy")
    await world.objects.delete(world.bucket, "k")
    assert await world.read(copied, 0, 10) == parts[0][:10]


async def test_composite_and_full_object_checksums(world: World) -> None:
    parts = [data_of(5 * MIB, 1), b"tail"]
    crcs = [zlib.crc32(part).to_bytes(4, "big") for part in parts]
    composite = await begin(world, algorithm=Algorithm.CRC32)
    named = await send(world, composite, *parts)
    assert [part.checksum for part in named] == crcs
    version = await world.objects.complete_upload(composite, named)
    total = zlib.crc32(b"".join(crcs)).to_bytes(4, "big")
    assert version.checksum == Checksum(Algorithm.CRC32, total, 2)

    full = await begin(world, algorithm=Algorithm.CRC32, composite=False)
    named = await send(world, full, *parts)
    whole = Checksum(Algorithm.CRC32, zlib.crc32(b"".join(parts)).to_bytes(4, "big"))
    for wrong, error in (
        (Checksum(Algorithm.CRC32, bytes(4)), BadDigest),
        (Checksum(Algorithm.SHA1, bytes(20)), InvalidRequest),
    ):
        with pytest.raises(error):
            await world.objects.complete_upload(full, named, checksum=wrong)
    version = await world.objects.complete_upload(full, named, checksum=whole)
    assert version.checksum == whole
    with pytest.raises(InvalidRequest):
        await begin(world, algorithm=Algorithm.SHA256, composite=False)


async def test_what_is_wrong_with_a_list_of_parts(world: World) -> None:
    upload = await begin(world)
    one, two = await send(world, upload, data_of(5 * MIB), b"two")
    complete = world.objects.complete_upload
    for named, error in (
        ([], InvalidRequest),
        ([two, one], InvalidPartOrder),
        ([one, CompletedPart(1, two.etag)], InvalidPart),
        ([CompletedPart(3, one.etag)], InvalidPart),
        ([CompletedPart(1, two.etag)], InvalidPart),
        ([CompletedPart(1, one.etag, b"none was kept")], InvalidPart),
    ):
        with pytest.raises(error):
            await complete(upload, named)
    with pytest.raises(InvalidRequest):
        await complete(upload, [one, two], size=1)
    small = await begin(world, "small")
    with pytest.raises(EntityTooSmall):
        await complete(small, await send(world, small, b"a", b"b"))
    await world.objects.put(world.bucket, "k", stream(b"x"), A)
    with pytest.raises(PreconditionFailed):
        await complete(upload, [one, two], condition=WriteCondition(if_none_match="*"))
    # Of a part that is named twice the last word counts.
    version = await complete(upload, [CompletedPart(2, one.etag), two], size=3)
    assert await world.read(version) == b"two"
    assert world.used() == lease_bytes(3) + 2 * lease_bytes(1)


@pytest.mark.parametrize("number", [0, -1, 10_001])
async def test_part_numbers_are_bounded(world: World, number: int) -> None:
    with pytest.raises(InvalidArgument):
        await world.objects.put_part(await begin(world), number, stream(b"x"))


async def test_a_part_sent_again_replaces_the_first(world: World) -> None:
    upload = await begin(world)
    await send(world, upload, data_of(5 * MIB, 1))
    named = await send(world, upload, data_of(5 * MIB, 2))
    version = await world.objects.complete_upload(upload, named)
    assert await world.read(version) == data_of(5 * MIB, 2)
    assert len(world.rows(Space.RELEASES)) == 1
    assert world.used() == lease_bytes(5 * MIB)


async def test_aborting_releases_everything(world: World) -> None:
    upload = await begin(world)
    await send(world, upload, data_of(5 * MIB), b"small")
    await world.objects.abort_upload(upload)
    for space in (Space.UPLOADS, Space.PARTS, Space.STREAMS, Space.BODIES):
        assert not world.rows(space)
    assert world.used() == 0
    for call in (
        world.objects.put_part(upload, 1, stream(b"x")),
        world.objects.complete_upload(upload, [CompletedPart(1, "x")]),
        world.objects.abort_upload(upload),
    ):
        with pytest.raises(NoSuchUpload):
            await call


async def test_an_empty_bucket_goes_with_its_uploads(world: World) -> None:
    await send(world, await begin(world), b"x")
    await world.objects.delete_bucket(world.bucket)
    assert not world.rows(Space.UPLOADS)
    assert not world.rows(Space.PARTS)


@pytest.mark.parametrize("upload_id", ["", "x", "00" * 15, "00" * 16, "AA" * 16, "\udcff"])
async def test_unknown_uploads_are_not_found(world: World, upload_id: str) -> None:
    with pytest.raises(NoSuchUpload):
        world.objects.upload(world.bucket, "k", upload_id)


async def test_uploads_and_parts_are_listed_in_pages(world: World) -> None:
    made = [await begin(world, key) for key in ("b", "a", "a\x00", "b", "ab")]
    order = sorted(made, key=lambda u: (u.key.encode(), bytes.fromhex(u.upload_id)))
    found, start = [], b""
    while True:
        page, after = world.objects.list_uploads(world.bucket, start=start, limit=2)
        found += page
        if after is None:
            break
        start = after
    assert found == order
    page, _ = world.objects.list_uploads(world.bucket, prefix="a")
    assert [u.key for u in page] == ["a", "a\x00", "ab"]
    page, _ = world.objects.list_uploads(world.bucket, start=uploads_after("ab"))
    assert [u.key for u in page] == ["b", "b"]
    start = uploads_after("b", order[-2].upload_id)
    assert world.objects.list_uploads(world.bucket, start=start)[0] == order[-1:]
    await send(world, made[0], b"1", b"2", b"3")
    parts, more = world.objects.list_parts(made[0], after=1, limit=1)
    assert ([p.number for p in parts], more) == ([2], True)
    parts, more = world.objects.list_parts(made[0], after=2)
    assert ([p.number for p in parts], more) == ([3], False)


async def test_a_part_can_be_copied_from_an_object(world: World) -> None:
    data = data_of(6 * MIB)
    source = await world.objects.put(world.bucket, "source", stream(data), A)
    upload = await begin(world)
    one = await world.objects.copy_part(upload, 1, source, 3, 5 * MIB + 3)
    two = await world.objects.copy_part(upload, 2, source, 0, 9)
    named = [CompletedPart(part.number, part.etag) for part in (one, two)]
    version = await world.objects.complete_upload(upload, named)
    assert await world.read(version) == data[3 : 5 * MIB + 3] + data[:9]
    with pytest.raises(InvalidArgument):
        await world.objects.copy_part(upload, 1, source, 5, len(data) + 1)


async def test_whole_mib_parts_publish_at_once_and_others_by_a_job(world: World) -> None:
    world.bucket = await world.objects.configure_bucket("photos", publishes=True)
    parts = [data_of(5 * MIB, 1), data_of(100, 2)]
    upload = await begin(world)
    version = await world.objects.complete_upload(upload, await send(world, upload, *parts))
    whole = b"".join(parts)
    leaves = b"".join(hashlib.sha256(whole[i : i + MIB]).digest() for i in range(0, 6 * MIB, MIB))
    assert dict(world.rows(Space.BLOCKS)) == {version_uid(version): leaves}
    assert version.cid
    upload = await begin(world, "odd")
    parts = [data_of(5 * MIB + 1, 1), b"x"]
    odd = await world.objects.complete_upload(upload, await send(world, upload, *parts))
    assert odd.cid is None
    rows = world.rows(Space.JOBS)
    (job,) = [decode(PublishJob, value) for place, value in rows if place.startswith(b"publish/")]
    assert job == PublishJob("photos", world.bucket.id, "odd", version_uid(odd))
