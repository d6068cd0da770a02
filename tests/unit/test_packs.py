"""Claims about packs: CARs among a bucket's objects, whose blocks are published."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Sequence

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.cids import BLAKE3, DAG_CBOR, DAG_PB, IDENTITY, RAW, SHA2_256, SHA2_512, Cid
from gateway.catalog.interface import Batch, Conflict, Put, Space
from gateway.errors import InvalidCar, InvalidRequest, ServiceUnavailable
from gateway.ipfs.codecs import car, dagpb
from gateway.ipfs.codecs.whole import Whole
from gateway.ipfs.errors import Incomplete
from gateway.ipfs.index import rows
from gateway.ipfs.index.blocks import BlockIndex, Inline, Leaf
from gateway.ipfs.index.packing import PackBody
from gateway.ipfs.index.packs import Packs
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.model import (
    CAR,
    ENABLED,
    IMPORT,
    SSE_C,
    Account,
    Attributes,
    Bucket,
    CompletedPart,
    Encryption,
    Extra,
    ObjectVersion,
)
from gateway.protection import CustomerKey
from tests.unit.ipfs_jobs import file_rows, settle
from tests.unit.object_parts import World, stream

ASKS = Attributes(metadata={IMPORT: CAR})
Block = tuple[Cid, bytes]


def block(data: bytes, codec: int = RAW) -> Block:
    return Cid.of(codec, SHA2_256, hashlib.sha256(data).digest()), data


LEAVES = [block(b"leaf %d" % number * 100) for number in range(5)]
NODE = block(dagpb.encode([dagpb.Link(cid, "", len(data)) for cid, data in LEAVES], None), DAG_PB)
OLD = Cid(NODE[0].multihash)
LARGER = (Cid.of(RAW, SHA2_512, hashlib.sha512(b"l").digest()), b"l")
OTHER = (Cid.of(DAG_CBOR, BLAKE3, blake3(b"\x80").digest()), b"\x80")
DAG = [NODE, *LEAVES]
UID = b"u" * 16


def packed(blocks: Sequence[Block], roots: Sequence[Cid]) -> bytes:
    return car.header(roots) + b"".join(car.section_head(c, len(d)) + d for c, d in blocks)


class Site:
    """A publishing bucket, and what is known of its blocks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.index = BlockIndex(world.objects, world.catalog)
        self.packs = Packs(world.objects, self.index, world.clock, random.Random(3).randbytes)

    async def put(self, body: bytes, key: str = "dag.car") -> ObjectVersion:
        bucket = self.world.objects.bucket("photos")
        return await self.world.objects.put(bucket, key, stream(body, 777), ASKS)

    async def get(self, cid: Cid) -> bytes | None:
        found = self.index.block(cid)
        return None if found is None else await self.index.bytes_of(found)

    async def has(self, blocks: Sequence[Block]) -> bool:
        """All of them; False if it has none. Some are neither."""
        found = [await self.get(cid) for cid, _ in blocks]
        assert found in ([data for _, data in blocks], [None] * len(blocks))
        return found[0] is not None

    async def settle(self) -> None:
        await settle(self.world)

    def block_rows(self) -> list[tuple[bytes, bytes]]:
        return file_rows(self.world)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    world = await World(publisher=IpfsPublisher()).start()
    await world.objects.configure_bucket("photos", publishes=True)
    yield Site(world)
    world.objects.close()


async def each(blocks: Sequence[Block]) -> AsyncIterator[Block]:
    for one in blocks:
        yield one


# ------------------------------------------------------------------ PUT
async def test_the_blocks_of_a_car_are_served_when_the_put_returns(site: Site) -> None:
    inline = (Cid.of(RAW, IDENTITY, b"in the CID"), b"in the CID")
    blocks = [*DAG, LARGER, OTHER, inline, LEAVES[0]]
    version = await site.put(packed(blocks, [NODE[0]]))
    assert version.cid == str(NODE[0])
    assert await site.has(blocks)
    assert isinstance(site.index.block(NODE[0]), Leaf)
    assert isinstance(site.index.block(inline[0]), Inline)
    assert await site.get(OLD) == NODE[1]
    assert await site.get(Cid.of(0x0129, SHA2_256, NODE[0].digest)) == NODE[1]
    assert site.index.file(NODE[0]) is None
    assert [value for _, value in site.world.rows(Space.JOBS)] == [b"dag.car"]  # for directories
    body = b"".join([bytes(p) async for p in site.world.objects.read(version)])
    assert body == packed(blocks, [NODE[0]])


async def test_what_a_car_lacks_stays_absent(site: Site) -> None:
    version = await site.put(packed([NODE, *LEAVES[1:]], [NODE[0]]))
    assert version.cid == str(NODE[0])
    assert await site.get(LEAVES[0][0]) is None
    assert await site.get(LEAVES[1][0]) == LEAVES[1][1]


async def test_the_root_of_a_car_without_roots_is_its_first_block(site: Site) -> None:
    assert (await site.put(packed(LEAVES, []))).cid == str(LEAVES[0][0])
    assert (await site.put(packed([], [OLD]))).cid == str(OLD)
    with pytest.raises(InvalidCar):
        await site.put(packed([], []))


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",
        b"no CAR at all",
        packed(DAG, [NODE[0]])[:-1],
        packed([(LEAVES[0][0], b"other")], [NODE[0]]),
        packed([(Cid.of(RAW, 0x9999, bytes(32)), b"x")], [NODE[0]]),
        packed(DAG, [NODE[0]]) + b"\x00",
    ],
)
@pytest.mark.parametrize("behind", [0, 300_000])
async def test_what_is_no_car_is_refused_and_nothing_is_stored(
    site: Site, body: bytes, behind: int
) -> None:
    """`behind`: also where the bytes are many and sealed while they come."""
    before = packed([block(bytes([n]) * 100_000) for n in range(behind // 100_000)], [NODE[0]])
    with pytest.raises(InvalidCar) as refused:
        await site.put(before + body if behind else body)
    assert (refused.value.code, refused.value.status) == ("InvalidRequest", 400)
    for space in (Space.LIVE, Space.BODIES, Space.STREAMS, Space.BLOCKS, Space.JOBS):
        assert site.world.rows(space) == []


async def test_a_block_goes_with_its_last_pack(site: Site) -> None:
    objects = site.world.objects
    await site.put(packed(DAG, [NODE[0]]), "a")
    await site.put(packed([NODE], [NODE[0]]), "b")
    bucket = objects.bucket("photos")
    await objects.delete(bucket, "a")
    assert not await site.has(LEAVES)
    assert await site.has([NODE])
    await site.put(packed([LARGER], [LARGER[0]]), "b")
    assert not await site.has([NODE])
    await objects.delete(bucket, "b")
    assert site.block_rows() == []


async def test_a_private_bucket_serves_nothing_and_a_switch_finds_its_packs(site: Site) -> None:
    objects = site.world.objects
    await objects.configure_bucket("photos", publishes=False)
    assert (await site.put(packed(DAG, [NODE[0]]))).cid is None
    assert not await site.has(DAG)
    await site.put(b"no CAR", "other")
    bucket = await objects.configure_bucket("photos", publishes=True)
    await site.settle()
    assert await site.has(DAG)
    assert objects.head(bucket, "dag.car").cid == str(NODE[0])
    file = objects.head(bucket, "other").cid
    assert file == str(block(b"no CAR")[0])
    assert site.index.file(Cid.parse(file)) is not None
    await objects.configure_bucket("photos", publishes=False)
    assert not await site.has(DAG)
    await site.settle()
    assert site.block_rows() == []


async def test_copies_renames_and_versions_that_come_back_are_packs_too(site: Site) -> None:
    objects = site.world.objects
    bucket = await objects.configure_bucket("photos", versioning=ENABLED)
    first = await site.put(packed(DAG, [NODE[0]]))
    await objects.copy(first, bucket, "copy")
    await site.settle()
    assert objects.head(bucket, "copy").cid == str(NODE[0])
    second = await site.put(packed([LARGER], [LARGER[0]]))
    assert await site.has(DAG)
    await objects.delete(bucket, "copy", objects.head(bucket, "copy").version_id)
    assert not await site.has(DAG)
    await objects.delete(bucket, "dag.car", second.version_id)
    assert not await site.has([LARGER])
    await site.settle()
    assert await site.has(DAG)
    await objects.rename(objects.head(bucket, "dag.car"), "moved")
    await site.settle()
    assert await site.has(DAG)
    assert objects.head(bucket, "moved").cid == str(NODE[0])


async def test_a_multipart_upload_of_a_car_is_a_pack_by_a_job(site: Site) -> None:
    objects = site.world.objects
    bucket = objects.bucket("photos")
    upload = await objects.create_upload(bucket, "dag.car", ASKS)
    part = await objects.put_part(upload, 1, stream(packed(DAG, [NODE[0]])))
    await objects.complete_upload(upload, [CompletedPart(1, part.etag)])
    await site.settle()
    assert await site.has(DAG)


async def test_a_car_under_a_clients_key_is_not_published(site: Site) -> None:
    bucket = site.world.objects.bucket("photos")
    closed = Attributes(metadata={IMPORT: CAR}, extra=Extra(encryption=Encryption(SSE_C)))
    key = CustomerKey(bytes(range(32)))
    for body in (packed(DAG, [NODE[0]]), b"no CAR"):
        version = await site.world.objects.put(bucket, "c", stream(body), closed, customer=key)
        assert version.cid is None
    assert not await site.has(DAG)


async def test_a_pack_too_large_for_one_commit_is_published_and_swept_by_jobs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ipfs.index.packing.BLOCKS_MAX", 2)
    monkeypatch.setattr("gateway.ipfs.index.publish.BLOCKS_MAX", 2)
    monkeypatch.setattr("gateway.ipfs.index.indexer.BLOCKS_MAX", 2)
    monkeypatch.setattr("gateway.ipfs.index.indexer._BATCH", 2)
    monkeypatch.setattr(rows, "LISTED_MAX", 2)
    bucket = site.world.objects.bucket("photos")
    for _ in range(2):
        version = await site.put(packed(DAG, [NODE[0]]))
        assert version.cid == str(NODE[0])
        assert not await site.has(DAG)
        await site.settle()
        assert await site.has(DAG)
    assert len(site.block_rows()) == len(DAG) + 3 + 1
    await site.world.objects.delete(bucket, "dag.car")
    assert not await site.has(DAG)
    await site.settle()
    assert site.block_rows() == []
    assert [k for k, _ in site.world.rows(Space.JOBS) if not k.startswith(rows.BUCKET_JOBS)] == []


async def test_a_put_that_is_overtaken_again_and_again_has_its_rows_once(site: Site) -> None:
    commit, left = site.world.catalog.commit, [3]

    async def overtaken(batch: Batch) -> int:
        if left[0]:
            left[0] -= 1
            raise Conflict(batch.conditions[0])
        return await commit(batch)

    site.world.catalog.commit = overtaken  # type: ignore[method-assign]
    await site.put(packed(DAG, [NODE[0]]))
    assert await site.has(DAG)
    assert len(site.block_rows()) == len(DAG) + 1 + 1


async def test_without_the_catalog_nothing_of_a_pack_is_seen(site: Site) -> None:
    site.world.catalog.available = False
    bucket = site.world.objects.bucket("photos")
    with pytest.raises(ServiceUnavailable):
        await site.put(packed(DAG, [NODE[0]]))
    with pytest.raises(ServiceUnavailable):
        await site.packs.import_car(bucket, stream(packed(DAG, [NODE[0]])))
    site.world.catalog.available = True
    assert not await site.has(DAG)
    assert site.world.objects.list_objects(bucket).objects == []
    await site.put(packed(DAG, [NODE[0]]))
    assert await site.has(DAG)


GOOD = packed([*DAG, LARGER, OTHER], [NODE[0]])


@given(
    st.integers(0, len(GOOD) - 1),
    st.integers(0, 255),
    st.integers(0, len(GOOD)),
    st.integers(1, 999),
)
@settings(max_examples=150)
def test_a_changed_or_cut_car_is_refused_or_its_blocks_are_where_the_rows_say(
    at: int, byte: int, end: int, step: int
) -> None:
    changed = bytearray(GOOD)
    changed[at] = byte
    raw = bytes(changed[: end or None])

    async def read() -> PackBody:
        body = PackBody(stream(raw, step))
        assert b"".join([bytes(data) async for data in body]) == raw
        return body

    try:
        body = asyncio.run(read())
    except InvalidCar:
        return
    bucket = Bucket("b", bytes(16), Account("a", "a"), 0)
    _, changes = body.rows(bucket, "k", UID, len(raw))
    found = {put.key: put.value for put in changes if isinstance(put, Put)}
    for cid, data in [*DAG, LARGER, OTHER]:
        value = found.get(rows.packed_key(cid.multihash, UID))
        if value is not None:
            start, stop = rows.packed_range(value)
            assert cid.matches(raw[start:stop]), data


# ------------------------------------------------------------------ Packs
async def test_stored_blocks_are_served_under_a_key_of_their_own(site: Site) -> None:
    bucket = site.world.objects.bucket("photos")
    version = await site.packs.store(bucket, [NODE[0]], each(DAG))
    assert version.key.startswith("blocks/")
    assert version.key.endswith(".car")
    assert version.cid == str(NODE[0])
    assert await site.has(DAG)
    with pytest.raises(InvalidCar):
        await site.packs.store(bucket, [], each([(LEAVES[0][0], b"other")]))
    private = await site.world.objects.create_bucket(site.world.account, "private")
    with pytest.raises(InvalidRequest):
        await site.packs.store(private, [], each(DAG))


async def test_a_car_is_imported_as_packs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ipfs.index.packs.PACK_BYTES", 1000)
    bucket = site.world.objects.bucket("photos")
    raw = packed(DAG, [NODE[0], LEAVES[0][0]])
    imported = await site.packs.import_car(bucket, stream(raw, 100))
    assert imported.roots == (NODE[0], LEAVES[0][0])
    assert (imported.blocks, imported.bytes) == (6, sum(len(data) for _, data in DAG))
    assert await site.has(DAG)
    assert len(site.world.objects.list_objects(bucket).objects) == 3


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (packed([NODE, *LEAVES[:4]], [NODE[0]]), Incomplete),
        (packed([], [NODE[0]]), Incomplete),
        (packed(DAG, [NODE[0]])[:-1], InvalidCar),
        (packed([*DAG, (LEAVES[0][0], b"other")], [NODE[0]]), InvalidCar),
    ],
)
async def test_a_car_that_is_not_whole_leaves_nothing_behind(
    site: Site, monkeypatch: pytest.MonkeyPatch, raw: bytes, error: type[Exception]
) -> None:
    monkeypatch.setattr("gateway.ipfs.index.packs.PACK_BYTES", 1000)
    bucket = site.world.objects.bucket("photos")
    with pytest.raises(error):
        await site.packs.import_car(bucket, stream(raw, 100))
    assert site.world.objects.list_objects(bucket).objects == []
    assert site.block_rows() == []


async def test_a_partial_car_stays_partial(site: Site) -> None:
    bucket = site.world.objects.bucket("photos")
    raw = packed([NODE, *LEAVES[:4]], [NODE[0]])
    imported = await site.packs.import_car(bucket, stream(raw), partial=True)
    assert imported.blocks == 5
    assert await site.has([NODE, *LEAVES[:4]])
    assert await site.get(LEAVES[4][0]) is None


# ------------------------------------------------------------------ whole DAGs
def test_of_whole_dags_nothing_is_missing_and_else_the_first_block_that_is() -> None:
    whole = Whole()
    inline = Cid.of(DAG_PB, IDENTITY, dagpb.encode([dagpb.Link(LARGER[0], "", 1)], None))
    for cid, data in (*DAG, LARGER):
        whole.add(cid, data)
    assert whole.missing([NODE[0], OLD, inline]) is None
    assert whole.missing([NODE[0], OTHER[0]]) == OTHER[0]
    partial = Whole()
    for cid, data in (NODE, *LEAVES[:2], *LEAVES[3:]):
        partial.add(cid, data)
    assert partial.missing([NODE[0]]) == LEAVES[2][0]
    assert partial.missing([inline]) == LARGER[0]
    assert partial.missing(cid for cid, _ in LEAVES[:2]) is None
