"""Claims about pins, and about the collection of what nothing pins."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from chain.cids import DAG_CBOR, DAG_PB, RAW, SHA2_256, Cid
from chain.dagcbor import encode
from gateway.catalog.interface import Batch, Delete, Put, Space
from gateway.errors import StoreError
from gateway.ipfs.codecs import dagpb
from gateway.ipfs.errors import AlreadyPinned, Incomplete, NotPinned
from gateway.ipfs.index import rows
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.collect import Collected, Collector, Overtaken
from gateway.ipfs.index.collection_job import CollectionJob
from gateway.ipfs.index.packs import Packs
from gateway.ipfs.index.pins import Pins
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.jobs import JobRunner
from gateway.model import CAR, IMPORT, Attributes, Bucket
from tests.unit.ipfs_jobs import settle
from tests.unit.object_parts import World, stream

Block = tuple[Cid, bytes]
HOUR = 3600 * 10**9


def leaf(data: bytes) -> Block:
    return Cid.of(RAW, SHA2_256, hashlib.sha256(data).digest()), data


def node(children: Sequence[Block]) -> Block:
    data = dagpb.encode([dagpb.Link(cid, "", 1) for cid, _ in children], None)
    return Cid.of(DAG_PB, SHA2_256, hashlib.sha256(data).digest()), data


A, B, C, D, E = (leaf(bytes([n]) * 500) for n in range(5))
AB, BC = node([A, B]), node([B, C])
TOP = node([AB, BC])


class Site:
    """A bucket of the API."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.index = BlockIndex(world.objects, world.catalog)
        chance = random.Random(3).randbytes
        self.packs = Packs(world.objects, self.index, world.clock, chance)
        self.pins = Pins(world.catalog, self.index, self.packs, world.clock, chance)
        self.collector = Collector(
            world.objects, world.catalog, self.index, self.packs, world.clock, chance
        )

    @property
    def bucket(self) -> Bucket:
        return self.world.objects.bucket("photos")

    async def store(self, *blocks: Block) -> None:
        await self.packs.store(self.bucket, (), each(blocks))
        self.world.clock.ns += 10**6

    async def collect(self, grace_ns: int = HOUR, after: int = 2 * HOUR) -> Collected:
        self.world.clock.ns += after
        return await self.collector.collect(self.bucket, grace_ns=grace_ns)

    def has(self, *blocks: Block) -> list[bool]:
        return [self.index.block(cid) is not None for cid, _ in blocks]

    async def check(self, *blocks: Block) -> None:
        for cid, data in blocks:
            found = self.index.block(cid)
            assert found is not None
            assert await self.index.bytes_of(found) == data

    def packs_left(self) -> int:
        return len(self.world.objects.list_objects(self.bucket, prefix="blocks/").objects)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    world = await World(publisher=IpfsPublisher()).start()
    await world.objects.configure_bucket("photos", publishes=True)
    yield Site(world)
    world.objects.close()


async def each(blocks: Sequence[Block]) -> AsyncIterator[Block]:
    for one in blocks:
        yield one


# ------------------------------------------------------------------ pins
async def test_pins_are_listed_in_order_and_removed(site: Site) -> None:
    await site.store(A, B, C, AB, BC, TOP)
    assert await site.pins.add(site.bucket, TOP[0], name="top") == 6
    assert await site.pins.add(site.bucket, A[0], recursive=False) == 1
    listed = site.pins.list(site.bucket)
    assert [(pin.cid, pin.recursive, pin.name) for pin in listed] == [
        (A[0], False, ""),
        (TOP[0], True, "top"),
    ]
    assert site.pins.list(site.bucket, after=A[0]) == listed[1:]
    assert site.pins.list(site.bucket, limit=1) == listed[:1]
    assert site.pins.get(site.bucket, TOP[0]) == listed[1]
    below = {cid async for cid, root in site.pins.indirect(site.bucket) if root == TOP[0]}
    assert below == {cid for cid, _ in (A, B, C, AB, BC)}
    assert await site.pins.remove(site.bucket, TOP[0]) == listed[1]
    with pytest.raises(NotPinned):
        await site.pins.remove(site.bucket, TOP[0])
    assert site.pins.get(site.bucket, TOP[0]) is None


async def test_a_recursive_pin_takes_the_place_of_a_direct_one_and_not_the_other_way(
    site: Site,
) -> None:
    await site.store(A, B, AB)
    await site.pins.add(site.bucket, AB[0], recursive=False)
    await site.pins.add(site.bucket, AB[0])
    with pytest.raises(AlreadyPinned):
        await site.pins.add(site.bucket, AB[0], recursive=False)
    assert [pin.recursive for pin in site.pins.list(site.bucket)] == [True]


async def test_what_is_not_whole_is_pinned_only_as_partial(site: Site) -> None:
    await site.store(A, AB)
    with pytest.raises(Incomplete):
        await site.pins.add(site.bucket, AB[0])
    assert site.pins.list(site.bucket) == []
    await site.pins.add(site.bucket, AB[0], recursive=False)
    with pytest.raises(Incomplete):
        await site.pins.add(site.bucket, AB[0])
    assert [pin.recursive for pin in site.pins.list(site.bucket)] == [False]
    assert await site.pins.add(site.bucket, AB[0], partial=True) == 2
    await site.collect()
    await site.check(A, AB)


async def test_what_objects_and_other_buckets_hold_is_stored_as_packs(site: Site) -> None:
    objects = site.world.objects
    await objects.put(site.bucket, "c", stream(C[1]), Attributes())
    await site.pins.add(site.bucket, C[0])
    await objects.delete(site.bucket, "c")
    await site.check(C)
    await objects.create_bucket(site.world.account, "others")
    other = await objects.configure_bucket("others", publishes=True)
    await objects.put(other, "a", stream(A[1]), Attributes())
    await site.packs.store(other, (), each([B, AB]))
    await site.store(B)
    await site.pins.add(site.bucket, AB[0])
    await objects.configure_bucket("others", publishes=False)
    await site.check(A, B, AB)


async def test_a_pin_is_undone_when_the_catalog_goes_away(site: Site) -> None:
    await site.store(A)
    site.world.catalog.available = False
    with pytest.raises(StoreError):
        await site.pins.add(site.bucket, A[0])
    site.world.catalog.available = True
    assert site.pins.list(site.bucket) == []


# ------------------------------------------------------------------ collections
async def test_what_no_pin_reaches_goes_and_the_rest_stays(site: Site) -> None:
    link = encode({"to": AB[0].raw})
    top = (Cid.of(DAG_CBOR, SHA2_256, hashlib.sha256(link).digest()), link)
    await site.store(A, B, AB, top)
    await site.store(C, BC)
    await site.store(D)
    await site.store(E)
    await site.pins.add(site.bucket, top[0])
    await site.pins.add(site.bucket, D[0], recursive=False)
    gone: list[Cid] = []
    site.world.clock.ns += 2 * HOUR
    got = await site.collector.collect(site.bucket, grace_ns=HOUR, dropped=gone.append)
    assert {cid.multihash for cid in gone} == {cid.multihash for cid, _ in (C, BC, E)}
    assert (got.blocks, got.packs) == (3, 2)
    assert got.bytes > 1000
    await site.check(A, B, AB, top, D)
    assert site.has(C, BC, E) == [False] * 3
    assert await site.collect() == (0, 0, 0)


async def test_a_direct_pin_keeps_its_block_alone(site: Site) -> None:
    await site.store(AB)
    await site.store(A)
    await site.store(B)
    await site.pins.add(site.bucket, AB[0], recursive=False)
    await site.collect()
    await site.check(AB)
    assert site.has(A, B) == [False, False]


async def test_the_root_of_mfs_keeps_what_it_reaches(site: Site) -> None:
    await site.store(A, B, AB)
    await site.store(C)
    await site.pins.add(site.bucket, C[0])
    row = Put(Space.BLOCKS, rows.mfs_key(site.bucket.id), rows.FORMAT + AB[0].raw)
    await site.world.catalog.commit(Batch(changes=[row]))
    assert (await site.collect()).blocks == 0
    await site.check(A, B, C, AB)


async def test_objects_and_young_packs_and_buckets_without_pins_are_left_alone(
    site: Site,
) -> None:
    await site.store(A)
    assert await site.collect() == (0, 0, 0)
    objects = site.world.objects
    body = b"".join([bytes(p) async for p in objects.read(first_pack(site))])
    asks = Attributes(metadata={IMPORT: CAR})
    await objects.put(site.bucket, "blocks/mine.car", stream(body), asks)
    await objects.put(site.bucket, "a.car", stream(body), asks)
    await site.store(B)
    await site.pins.add(site.bucket, B[0])
    await site.pins.remove(site.bucket, B[0])
    assert (await site.collect(after=HOUR // 2)).packs == 1
    assert (await site.collect(after=HOUR)).packs == 1
    assert site.has(A, B) == [True, False]


def first_pack(site: Site) -> Any:
    return site.world.objects.list_objects(site.bucket, prefix="blocks/").objects[0]


async def test_what_is_stored_while_a_writer_is_under_way_stays_until_it_ends(site: Site) -> None:
    await site.store(C)
    await site.pins.add(site.bucket, C[0])
    async with site.pins.hold(site.bucket):
        await site.store(A)
        assert (await site.collect()).packs == 0
        await site.store(B)
        assert (await site.collect()).packs == 0
    assert (await site.collect()).packs == 2
    prefix = rows.holds_prefix(site.bucket.id)
    assert not [key for key, _ in site.world.rows(Space.BLOCKS) if key.startswith(prefix)]


async def test_a_writer_that_was_killed_holds_for_a_day(site: Site) -> None:
    await site.store(C)
    await site.pins.add(site.bucket, C[0])
    key = rows.hold_key(site.bucket.id, site.world.clock.now_ns(), b"12345678")
    await site.world.catalog.commit(Batch(changes=[Put(Space.BLOCKS, key, rows.FORMAT)]))
    await site.store(A)
    assert (await site.collect(after=23 * HOUR)).packs == 0
    assert (await site.collect()).packs == 1
    assert key not in dict(site.world.rows(Space.BLOCKS))


async def test_sparse_packs_are_stored_again_as_one(site: Site) -> None:
    await site.store(A, B, C)
    await site.store(D, E, BC)
    used = site.world.used()
    await site.pins.add(site.bucket, A[0])
    await site.pins.add(site.bucket, D[0])
    got = await site.collect()
    assert (got.blocks, got.packs, site.packs_left()) == (4, 2, 1)
    assert site.world.used() == used - got.bytes - 16  # one seal's tag less
    await site.check(A, D)
    assert site.has(B, C, E, BC) == [False] * 4


async def test_small_packs_are_stored_together(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ipfs.index.collect.SMALL_PACKS", 3)
    for block in (A, B, C):
        assert (await site.collect()).packs == 0
        await site.store(block)
        await site.pins.add(site.bucket, block[0])
    got = await site.collect()
    assert (got.blocks, got.packs, site.packs_left()) == (0, 3, 1)
    await site.check(A, B, C)


async def test_a_block_that_is_stored_twice_is_kept_once(site: Site) -> None:
    await site.store(A, B)
    await site.store(B)
    await site.pins.add(site.bucket, A[0])
    await site.pins.add(site.bucket, B[0])
    got = await site.collect()
    assert (got.blocks, got.packs) == (0, 1)
    await site.check(A, B)


async def test_a_block_that_cannot_be_read_now_ends_the_collection(site: Site) -> None:
    big = [leaf(random.Random(n).randbytes(30_000)) for n in range(3)]
    top = node(big)
    await site.store(*big, top)
    await site.store(D)
    await site.pins.add(site.bucket, top[0])
    lost = dict(site.world.pool.segments)
    site.world.pool.segments.clear()
    with pytest.raises(StoreError):
        await site.collect()
    assert site.packs_left() == 2
    site.world.pool.segments.update(lost)
    assert (await site.collect()).packs == 1
    await site.check(*big, top)


async def test_pins_go_with_their_bucket_and_not_with_its_switch(site: Site) -> None:
    await site.store(A)
    await site.pins.add(site.bucket, A[0])
    bucket, objects = site.bucket, site.world.objects
    mfs = Put(Space.BLOCKS, rows.mfs_key(bucket.id), rows.FORMAT + A[0].raw)
    await site.world.catalog.commit(Batch(changes=[mfs]))
    await settle(site.world)
    await objects.configure_bucket("photos", publishes=False)
    await settle(site.world)
    assert [pin.cid for pin in site.pins.list(bucket)] == [A[0]]
    await objects.configure_bucket("photos", publishes=True)
    await settle(site.world)
    await site.check(A)
    [version] = objects.list_objects(bucket).objects
    await objects.delete(bucket, version.key)
    await objects.delete_bucket(bucket)
    await settle(site.world)
    assert site.world.rows(Space.BLOCKS) == []


async def test_the_job_collects_every_bucket_with_pins_once_a_day(site: Site) -> None:
    await site.store(A)
    await site.store(B)
    await site.pins.add(site.bucket, B[0])
    world = site.world
    await world.objects.create_bucket(world.account, "another")
    world.clock.ns += 25 * HOUR
    job = CollectionJob(site.collector, world.catalog, world.clock, 86400.0)
    runner = JobRunner(job, world.catalog, world.clock)
    pauses = [await runner.step() for _ in range(3)]
    assert pauses == [0, 60, 60]
    assert site.has(A, B) == [False, True]
    await site.store(C)
    world.clock.ns += 25 * HOUR
    assert await runner.step() == 0
    assert site.has(B, C) == [True, False]


async def test_a_private_bucket_is_not_collected(site: Site) -> None:
    await site.store(A, B, AB)
    await site.pins.add(site.bucket, AB[0])
    original = site.world.objects.list_objects

    def private(*given: Any, **named: Any) -> Any:
        """The switch is turned just when the packs were listed."""
        found = original(*given, **named)
        switch_off(site)
        return found

    site.world.objects.list_objects = private  # type: ignore[method-assign]
    with pytest.raises(Overtaken):
        await site.collect()
    site.world.objects.list_objects = original  # type: ignore[method-assign]
    await site.world.objects.configure_bucket("photos", publishes=True)
    await site.check(A, B, AB)


def switch_off(site: Site) -> None:
    """Turn the bucket private at once, from within a call that cannot wait."""
    work = site.world.objects.configure_bucket("photos", publishes=False)
    try:
        while True:
            work.send(None)
    except StopIteration:
        pass


async def test_a_pin_that_comes_before_a_deletion_saves_what_it_reaches(site: Site) -> None:
    await site.store(A, B, AB)
    await site.store(C)
    await site.store(D)
    await site.pins.add(site.bucket, D[0])
    delete = site.world.objects.delete

    async def late(*given: Any, **named: Any) -> Any:
        site.world.objects.delete = delete  # type: ignore[method-assign]
        await site.pins.add(site.bucket, AB[0])
        return await delete(*given, **named)

    site.world.objects.delete = late  # type: ignore[method-assign]
    got = await site.collect()
    assert (got.blocks, got.packs) == (1, 1)
    await site.check(A, B, AB, D)


async def test_a_pin_that_comes_just_before_the_commit_of_a_deletion_makes_it_fail(
    site: Site,
) -> None:
    await site.store(A)
    await site.store(D)
    await site.pins.add(site.bucket, D[0])
    catalog = site.world.catalog
    commit = catalog.commit

    async def late(batch: Batch) -> int:
        if any(isinstance(x, Delete) and x.space is Space.LIVE for x in batch.changes):
            catalog.commit = commit  # type: ignore[method-assign]
            await site.pins.add(site.bucket, A[0])
        return await commit(batch)

    catalog.commit = late  # type: ignore[method-assign]
    assert (await site.collect()).packs == 0
    await site.check(A, D)


async def test_of_two_collections_the_later_goes_on(site: Site) -> None:
    await site.store(A)
    await site.store(D)
    await site.pins.add(site.bucket, D[0])
    delete = site.world.objects.delete

    async def late(*given: Any, **named: Any) -> Any:
        site.world.objects.delete = delete  # type: ignore[method-assign]
        assert (await site.collect()).packs == 1
        return await delete(*given, **named)

    site.world.objects.delete = late  # type: ignore[method-assign]
    with pytest.raises(Overtaken):
        await site.collect()
    await site.check(D)


class Crowd:
    """Writers that store, pin and unpin DAGs that share blocks, and collections with no grace."""

    def __init__(self, site: Site, chance: random.Random) -> None:
        self.site = site
        self.chance = chance
        leaves = [leaf(chance.randbytes(chance.choice((100, 3000)))) for _ in range(20)]
        nodes = [node(chance.sample(leaves, 4)) for _ in range(8)]
        self.tops = [node(chance.sample(nodes, 2)) for _ in range(6)]
        self.known: dict[Cid, bytes] = dict([*leaves, *nodes, *self.tops])
        self.pinned: set[Cid] = set()
        self.commit = site.world.catalog.commit
        site.world.catalog.commit = self.slow_commit  # type: ignore[method-assign]

    async def slow_commit(self, batch: Batch) -> int:
        """What others do between the judging of a change and its commit shows here."""
        await self.turn()
        return await self.commit(batch)

    def below(self, *roots: Cid) -> list[Block]:
        """All blocks of some DAGs, roots first."""
        found: dict[Cid, bytes] = {}
        waiting = list(roots)
        for cid in waiting:
            found[cid] = self.known[cid]
            if cid.codec == DAG_PB:
                waiting += [link.cid for link in dagpb.decode(found[cid]).links]
        return list(found.items())

    async def turn(self) -> None:
        for _ in range(self.chance.randrange(6)):
            await asyncio.sleep(0)

    async def write(self, tops: list[Block]) -> None:
        pins, bucket = self.site.pins, self.site.bucket
        for _ in range(12):
            cid, _ = self.chance.choice(tops)
            await self.turn()
            if cid in self.pinned and self.chance.random() < 0.5:
                self.pinned.discard(cid)
                await pins.remove(bucket, cid)
                continue
            async with pins.hold(bucket):
                if self.chance.random() < 0.7:
                    blocks = self.below(cid)
                    await self.site.store(*blocks[3:])
                    await self.turn()
                    await self.site.store(*blocks[:3])
                await self.turn()
                with suppress(Incomplete):
                    await pins.add(bucket, cid)
                    self.pinned.add(cid)

    async def collect(self) -> None:
        for _ in range(12):
            await self.turn()
            with suppress(Overtaken):
                await self.site.collect(grace_ns=0, after=10**6)


@pytest.mark.parametrize("seed", range(6))
async def test_no_pinned_block_is_ever_lost_whatever_runs_at_the_same_time(
    site: Site, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"seed {seed}")
    monkeypatch.setattr("gateway.ipfs.index.collect.SMALL_PACKS", 4)
    crowd = Crowd(site, random.Random(seed))
    async with asyncio.TaskGroup() as group:
        for tops in (crowd.tops[:3], crowd.tops[3:]):
            group.create_task(crowd.write(tops))
            group.create_task(crowd.collect())
    await site.collect(grace_ns=0)
    needed = crowd.below(*crowd.pinned)
    await site.check(*needed)
    names = {cid.multihash for cid, _ in needed}
    for version in site.world.objects.list_objects(site.bucket, prefix="blocks/").objects:
        held = {name for name in crowd.known if version.uid in dict(site.index.packs_of(name))}
        assert any(cid.multihash in names for cid in held), "a pack without a needed block"
