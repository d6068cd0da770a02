"""Claims about gateway/ipfs/index/indexer.py, over the real object service in memory."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from chain.cids import Cid
from gateway.catalog.interface import Append, Batch, CatalogUnavailable, Space
from gateway.errors import StoreError
from gateway.ipfs.index import rows
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.directories import Directories
from gateway.ipfs.index.indexer import Indexer
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.model import (
    SSE_C,
    Attributes,
    CompletedPart,
    Encryption,
    Extra,
    ObjectVersion,
)
from gateway.protection import CustomerKey
from gateway.records import PublishJob, VersionRow, decode, encode
from gateway.versions import PUBLISH_JOBS, version_uid
from tests.unit.ipfs_jobs import file_rows, settle
from tests.unit.object_parts import World, stream

MIB = 1 << 20
BODIES = {f"key-{i:03d}": bytes([i]) * (i * 1000 + 1) for i in range(150)}
BODIES["large"] = bytes(range(256)) * (10 << 10)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = await World(publisher=IpfsPublisher()).start()
    yield world
    world.objects.close()


async def fill(world: World) -> None:
    bucket = world.objects.bucket("photos")
    for key, body in BODIES.items():
        await world.objects.put(bucket, key, stream(body), Attributes())


def cids(world: World) -> dict[str, str | None]:
    bucket = world.objects.bucket("photos")
    return {key: world.objects.head(bucket, key).cid for key in BODIES}


async def test_switching_on_publishes_what_is_there_and_switching_off_leaves_no_row(
    world: World,
) -> None:
    await fill(world)
    assert await settle(world) == 0
    await world.objects.configure_bucket("photos", publishes=True)
    assert await settle(world) >= 3
    found = cids(world)
    assert all(found.values())
    index = BlockIndex(world.objects, world.catalog)
    for key, cid in found.items():
        file = index.file(Cid.parse(cid or ""))
        assert file is not None
        assert await world.read(file.version) == BODIES[key]
    bucket = world.objects.bucket("photos")
    directories = Directories(world.catalog, world.clock)
    root = str(directories.root(bucket))
    assert directories.progress(bucket) == (root, len(BODIES), 0)
    await world.objects.configure_bucket("photos", publishes=False)
    await settle(world)
    assert not any(cids(world).values())
    assert world.rows(Space.BLOCKS) == []
    assert world.rows(Space.JOBS) == []


async def test_what_is_encrypted_with_a_key_of_its_own_stays_unpublished(world: World) -> None:
    secret = CustomerKey(bytes(range(32)))
    team = Encryption("aws:kms", await world.objects.kms.usable(world.bucket, "team"))
    bucket = world.bucket
    for key, encryption, customer in (
        ("closed", Encryption(SSE_C), secret), ("team", team, None), ("open", None, None)
    ):  # fmt: skip
        attributes = Attributes(extra=Extra(encryption=encryption))
        await world.objects.put(bucket, key, stream(b"b" * MIB), attributes, customer=customer)
    bucket = await world.objects.configure_bucket("photos", publishes=True)
    await settle(world)
    found = {key: world.objects.head(bucket, key).cid for key in ("closed", "team", "open")}
    assert [key for key, cid in found.items() if cid] == ["open"]
    await world.objects.encrypt(bucket, "open", None, lambda _: team)
    assert world.objects.head(bucket, "open").cid is None
    assert file_rows(world) == []
    await settle(world)
    assert await world.read(world.objects.head(bucket, "open")) == b"b" * MIB
    directories = Directories(world.catalog, world.clock)
    assert directories.progress(bucket)[1:] == (0, 0)


async def test_what_is_encrypted_while_it_is_read_for_publishing_stays_unpublished(
    world: World,
) -> None:
    version = await world.objects.put(world.bucket, "k", stream(b"b" * MIB), Attributes())
    bucket = await world.objects.configure_bucket("photos", publishes=True)
    team = Encryption("aws:kms", await world.objects.kms.usable(world.bucket, "team"))
    indexer = Indexer(world.objects, world.catalog, world.clock)
    leaves = indexer._leaves

    async def slowly(version: ObjectVersion) -> bytes:
        found = await leaves(version)
        await world.objects.encrypt(bucket, "k", None, lambda _: team)
        return found

    indexer._leaves = slowly  # type: ignore[method-assign]
    await indexer._publish(version)
    assert world.objects.head(bucket, "k").cid is None
    assert file_rows(world) == []


async def test_publishing_keeps_the_short_live_row_of_an_object_of_ten_parts(
    world: World,
) -> None:
    upload = await world.objects.create_upload(world.bucket, "parts", Attributes())
    body = b"".join(bytes([i]) * (5 * MIB + 1) for i in range(10))
    named = []
    for number in range(1, 11):
        piece = body[(number - 1) * (5 * MIB + 1) : number * (5 * MIB + 1)]
        part = await world.objects.put_part(upload, number, stream(piece), length=len(piece))
        named.append(CompletedPart(number, part.etag))
    before = await world.objects.complete_upload(upload, named)
    assert before.cid is None

    async def check(published: bool) -> None:
        bucket = await world.objects.configure_bucket("photos", publishes=published)
        await settle(world)
        [(_, short)], [(_, whole)] = world.rows(Space.LIVE), world.rows(Space.VERSIONS)
        row = decode(VersionRow, short)
        assert (row.streams, row.parts) == ((), ())
        kept = decode(VersionRow, whole)
        assert (len(kept.streams), len(kept.parts)) == (10, 10)
        assert msgspec.structs.replace(kept, streams=(), parts=()) == row
        version = world.objects.head(bucket, "parts")
        assert (version.cid is not None) is published
        assert version.parts == before.parts
        assert await world.read(version) == body
        [listed] = world.objects.list_objects(bucket).objects
        assert (listed.cid, listed.uid) == (version.cid, version.uid)

    await check(published=True)
    bucket = world.objects.bucket("photos")
    file = BlockIndex(world.objects, world.catalog).file(
        Cid.parse(world.objects.head(bucket, "parts").cid or "")
    )
    assert file is not None
    assert await world.read(file.version, 49 * MIB) == body[49 * MIB :]
    await check(published=False)
    await check(published=True)
    await world.objects.delete(bucket, "parts")
    for space in (Space.LIVE, Space.VERSIONS, Space.STREAMS):
        assert world.rows(space) == []
    assert file_rows(world) == []
    assert world.used() == 0


async def test_the_cid_of_a_job_is_the_cid_of_a_put(world: World) -> None:
    await fill(world)
    await world.objects.configure_bucket("photos", publishes=True)
    await settle(world)
    by_job = cids(world)
    await fill(world)
    assert cids(world) == by_job


async def test_a_version_job_publishes_its_version_once(world: World) -> None:
    await fill(world)
    bucket = await world.objects.configure_bucket("photos", publishes=True)
    version = world.objects.head(bucket, "large")
    job = encode(PublishJob("photos", bucket.id, "large", version_uid(version)))
    gone = encode(PublishJob("photos", bucket.id, "large", b"g" * 16))
    await world.catalog.commit(
        Batch(changes=[Append(Space.JOBS, PUBLISH_JOBS, each) for each in (gone, job, job)])
    )
    indexer = Indexer(world.objects, world.catalog, world.clock)
    for _ in range(3):
        assert await indexer.step()
    assert not [key for key, _ in world.rows(Space.JOBS) if key.startswith(PUBLISH_JOBS)]
    assert world.objects.head(bucket, "large").cid


async def test_an_object_that_cannot_be_read_now_does_not_hold_up_the_others(
    world: World,
) -> None:
    await fill(world)
    lost = dict(world.pool.segments)
    world.pool.segments.clear()
    await world.objects.configure_bucket("photos", publishes=True)
    indexer = Indexer(world.objects, world.catalog, world.clock)

    async def steps() -> None:
        for _ in range(1000):
            try:
                if not await indexer.step():
                    return
            except StoreError:
                continue

    await steps()
    inline = [key for key, cid in cids(world).items() if cid]
    assert 0 < len(inline) < len(BODIES)
    world.pool.segments.update(lost)
    await steps()
    await steps()
    assert all(cids(world).values())


async def test_a_switch_turned_back_midway_ends_as_it_was_turned_last(world: World) -> None:
    await fill(world)
    await world.objects.configure_bucket("photos", publishes=True)
    await Indexer(world.objects, world.catalog, world.clock).step()
    await world.objects.configure_bucket("photos", publishes=False)
    await Indexer(world.objects, world.catalog, world.clock).step()
    await world.objects.configure_bucket("photos", publishes=True)
    await settle(world)
    assert all(cids(world).values())


async def test_what_came_while_a_bucket_was_off_for_a_moment_is_published(world: World) -> None:
    await world.objects.configure_bucket("photos", publishes=True)
    await settle(world)
    bucket = await world.objects.configure_bucket("photos", publishes=False)
    await world.objects.put(bucket, "between", stream(b"hello world"), Attributes())
    bucket = await world.objects.configure_bucket("photos", publishes=True)
    await settle(world)
    assert world.objects.head(bucket, "between").cid is not None


async def test_the_rows_of_a_deleted_bucket_are_swept(world: World) -> None:
    bucket = await world.objects.configure_bucket("photos", publishes=True)
    await world.objects.put(bucket, "a", stream(b"a"), Attributes())
    await settle(world)
    await world.objects.delete(bucket, "a")
    await world.objects.delete_bucket(bucket)
    await settle(world)
    assert world.rows(Space.BLOCKS) == []
    assert world.rows(Space.JOBS) == []


async def test_a_stopped_writer_is_waited_for(world: World) -> None:
    await fill(world)
    await world.objects.configure_bucket("photos", publishes=True)
    world.catalog.available = False
    with pytest.raises(CatalogUnavailable):
        await Indexer(world.objects, world.catalog, world.clock).step()
    world.catalog.available = True
    await settle(world)
    assert all(cids(world).values())


async def test_a_block_is_found_behind_thousands_of_the_same_in_a_private_object(
    world: World,
) -> None:
    bucket = await world.objects.configure_bucket("photos", publishes=True)
    await world.objects.put(bucket, "zeros", stream(bytes(40 * MIB)), Attributes())
    leaf = Cid.parse("bafkreibq4fevl27rgurgnxbp7adh42aqiyd6ouflxhj3gzmcxcxzbh6lla")
    other = await world.objects.create_bucket(world.account, "others")
    other = await world.objects.configure_bucket("others", publishes=True)
    await world.objects.put(other, "zero", stream(bytes(MIB)), Attributes())
    index = BlockIndex(world.objects, world.catalog)
    file = index.file(leaf)
    assert file is not None
    assert file.version.key == "zero"
    await world.objects.configure_bucket("photos", publishes=False)
    assert index.block(leaf) is not None
    await world.objects.configure_bucket("others", publishes=False)
    assert index.block(leaf) is None


async def test_a_version_too_large_for_one_commit_is_published_and_swept_by_jobs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ipfs.index.publish.LEAVES_MAX", 2)
    monkeypatch.setattr("gateway.ipfs.index.indexer._BATCH", 2)
    bucket = await world.objects.configure_bucket("photos", publishes=True)
    body = b"".join(bytes([i]) * MIB for i in range(5))
    version = await world.objects.put(bucket, "large", stream(body), Attributes())
    index = BlockIndex(world.objects, world.catalog)
    root = Cid.parse(version.cid or "")
    assert index.file(root) is None
    await settle(world)
    found = index.file(root)
    assert found is not None
    assert await world.read(found.version) == body
    assert len(file_rows(world)) == 5 + 1 + 1
    await world.objects.delete(bucket, "large")
    assert index.file(root) is None
    assert await settle(world) >= 3
    assert file_rows(world) == []
    assert not [key for key, _ in world.rows(Space.JOBS) if not key.startswith(rows.BUCKET_JOBS)]
