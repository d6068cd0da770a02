"""Claims about gateway/ipfs/index/directories.py: it keeps what `build` makes of all keys."""

import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from chain.cids import Cid
from gateway.catalog.interface import Append, Batch, CatalogUnavailable, Delete, Put, Space
from gateway.ipfs.codecs import directory
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.errors import NotFound
from gateway.ipfs.index import directories as module
from gateway.ipfs.index import rows, tree
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.directories import Directories
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.model import ENABLED, Attributes, Bucket
from tests.unit.ipfs_jobs import settle
from tests.unit.object_parts import World, stream

DAY = 24 * 3600 * 10**9


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = await World(publisher=IpfsPublisher()).start()
    yield world
    world.objects.close()


async def published(world: World) -> Bucket:
    bucket = await world.objects.configure_bucket("photos", publishes=True)
    await settle(world)
    return bucket


async def put(world: World, key: str, data: bytes = b"x") -> None:
    bucket = world.objects.bucket("photos")
    await world.objects.put(bucket, key, stream(data), Attributes())


def expected(world: World) -> dict[str, directory.Directory]:
    """The directories of all keys by path, built from scratch."""
    bucket = world.objects.bucket("photos")
    folders: dict[str, dict[str, Link]] = {"": {}}
    for found in world.objects.list_objects(bucket, limit=1000).objects:
        place = tree.split(found.key)
        if found.cid is None or place is None:
            continue
        folder, name = place
        folders.setdefault(folder, {})[name] = Link(Cid.parse(found.cid), name, found.size)
        while folder:
            folder, _ = tree.parent(folder)
            folders.setdefault(folder, {})
    built: dict[str, directory.Directory] = {}
    for folder in sorted(folders, key=lambda path: -path.count("/")):
        entries = dict(folders[folder])
        for below, child in built.items():
            if tree.parent(below)[0] == folder and below:
                name = tree.parent(below)[1]
                entries[name] = Link(child.root, name, child.total)
        built[folder] = directory.build(entries.values())
    return built


def kept_blocks(world: World) -> dict[bytes, bytes]:
    return {
        key: value[1:] for key, value in world.rows(Space.BLOCKS) if value[:1] == rows.DIRECTORY
    }


def check(world: World, *, alone: bool) -> None:
    """Every directory is there; `alone`: and no other block."""
    bucket, wanted = world.objects.bucket("photos"), expected(world)
    found = Directories(world.catalog, world.clock)
    for path, built in wanted.items():
        assert found.root(bucket, path) == built.root
    blocks = {
        rows.directory_key(cid.multihash, bucket.id, rows.folder_id(path)): block
        for path, built in wanted.items()
        for cid, block in built.blocks
    }
    kept = kept_blocks(world)
    assert blocks.items() <= kept.items()
    assert not alone or blocks == kept
    weights = {rows.weight_key(bucket.id, rows.folder_id(p)) for p in wanted if sharded(wanted[p])}
    prefix = rows.weight_key(bucket.id, b"")
    assert weights == {key for key, _ in world.rows(Space.BLOCKS) if key.startswith(prefix)}
    entries = sum(len(names_of(built)) for built in wanted.values())
    assert found.progress(bucket) == (str(wanted[""].root), entries - len(wanted) + 1, 0)


def sharded(built: directory.Directory) -> bool:
    return directory.entries(dict(built.blocks)[built.root])[0]


def names_of(built: directory.Directory) -> list[str]:
    blocks = dict(built.blocks)
    is_shard, links = directory.entries(blocks[built.root])
    if not is_shard:
        return [link.name for link in links]
    found = directory.walk(built.root, blocks.__getitem__)
    return [link.name[2:] for link in found if len(link.name) > 2]


def keys(seed: random.Random) -> str:
    depth = seed.choice([1, 1, 2, 3])
    return "/".join(seed.choice("abcdefgh") for _ in range(depth))


class Torn:
    """A catalog that stops working after some commits."""

    def __init__(self, world: World, left: int) -> None:
        self.catalog, self.left = world.catalog, left
        self.committed: list[Batch] = []

    def read(self) -> Any:
        return self.catalog.read()

    async def commit(self, batch: Batch) -> int:
        self.left -= 1
        if self.left < 0:
            raise CatalogUnavailable
        self.committed.append(batch)
        return await self.catalog.commit(batch)


@pytest.mark.parametrize("seed", range(6))
async def test_after_any_puts_deletes_and_crashes_it_is_what_build_makes_of_all_keys(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(directory, "BLOCK_BYTES_MAX", 300)  # six entries
    monkeypatch.setattr(module, "SLICE", chance.choice([1, 3, 50]))
    monkeypatch.setattr(module, "WINDOW", chance.choice([5, 500]))
    monkeypatch.setattr(module, "_BATCH_BYTES", chance.choice([200, 8 << 20]))
    monkeypatch.setattr(module, "_SWEPT", 7)
    bucket = await published(world)
    for _ in range(12):
        for _ in range(chance.randint(1, 25)):
            world.clock.ns += 1_000_000
            key = keys(chance)
            if chance.random() < 0.6:
                await put(world, key, bytes([chance.randint(0, 3)]))
            else:
                await world.objects.delete(bucket, key)
        torn: Any = Torn(world, chance.randint(0, 6))
        with suppress(CatalogUnavailable):
            await Directories(torn, world.clock).step()
        await settle(world)
        check(world, alone=False)
    world.clock.ns += DAY + 10**6
    await settle(world)
    check(world, alone=True)
    for found in world.objects.list_objects(bucket, limit=1000).objects[2:]:
        await world.objects.delete(bucket, found.key)
    await settle(world)
    world.clock.ns += DAY + 10**6
    await settle(world)
    check(world, alone=True)
    await world.objects.configure_bucket("photos", publishes=False)
    await settle(world)
    assert world.rows(Space.BLOCKS) == []
    assert world.rows(Space.JOBS) == []


async def test_a_key_that_is_also_a_folder_shows_when_the_folder_is_empty(world: World) -> None:
    bucket = await published(world)
    await put(world, "a", b"the object")
    await put(world, "a/b")
    await settle(world)
    check(world, alone=False)
    found = Directories(world.catalog, world.clock)
    folder = found.root(bucket, "a")
    await put(world, "a", b"another object")  # changes nothing
    await settle(world)
    assert found.root(bucket, "a") == folder
    await world.objects.delete(bucket, "a/b")
    await settle(world)
    with pytest.raises(NotFound):
        found.root(bucket, "a")
    version = world.objects.head(bucket, "a")
    one = directory.build([Link(Cid.parse(version.cid or ""), "a", version.size)])
    assert found.progress(bucket) == (str(one.root), 1, 0)


async def test_what_does_not_fit_one_commit_goes_ahead_and_a_crash_leaves_nothing_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH_BYTES", 150)
    await published(world)
    await put(world, "a/b/c/d/e/f/g/h")  # eight blocks of 50 bytes
    torn: Any = Torn(world, 2)
    with suppress(CatalogUnavailable):
        await Directories(torn, world.clock).step()
    sizes = [
        sum(len(c.value) for c in batch.changes if isinstance(c, Put) and c.value[:1] == b"\3")
        for batch in torn.committed
    ]
    assert len(sizes) == 2
    assert max(sizes) <= 150
    await world.objects.delete(world.bucket, "a/b/c/d/e/f/g/h")
    await settle(world)
    world.clock.ns += DAY + 10**6
    await settle(world)
    check(world, alone=True)


async def test_keys_that_are_no_paths_are_in_no_directory(world: World) -> None:
    bucket = await published(world)
    for key in ("/a", "a//b", "a/./b", "../a", "folder/", "n" * 256, "é" * 128):
        await put(world, key)
    await put(world, "n" * 255)
    await settle(world)
    assert Directories(world.catalog, world.clock).progress(bucket)[1:] == (1, 0)


async def test_a_replaced_root_is_served_for_a_day_and_comes_back(world: World) -> None:
    bucket = await published(world)
    found, index = Directories(world.catalog, world.clock), BlockIndex(world.objects, world.catalog)
    roots = []
    for body in (b"1", b"2", b"1"):  # the first state comes back
        await put(world, "d/f", body)
        await settle(world)
        roots.append((found.root(bucket), found.root(bucket, "d")))
        world.clock.ns += DAY // 2
    assert roots[0] == roots[2]
    assert all(index.block(cid) for pair in roots for cid in pair)
    world.clock.ns += DAY // 2 + 1  # now the first list is due, and what came back stays
    await settle(world)
    assert [index.block(cid) is not None for cid in roots[1]] == [False, False]
    assert [index.block(cid) is not None for cid in roots[2]] == [True, True]


async def test_replaced_blocks_are_bounded_in_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETIRED_BYTES", 1000)
    await published(world)
    for number in range(60):
        await put(world, "f", bytes([number]))
        await settle(world)
    assert 1 < len(kept_blocks(world)) < 25


async def test_of_a_thousand_files_one_change_makes_the_blocks_on_its_path(world: World) -> None:
    bucket = await published(world)
    for number in range(300):
        await put(world, f"{number % 10}/{number % 7}/{number}")
    await settle(world)
    before = kept_blocks(world).keys()
    await put(world, "3/3/3", b"new")
    with world.catalog.read() as reader:
        row = rows.tree_row(reader.get(Space.BLOCKS, rows.tree_key(bucket.id)) or b"")
        made = tree.plan(reader, bucket.id, row, ["3/3/3"])
    assert len(made.blocks) == len(made.gone) == 3
    await settle(world)
    assert len(kept_blocks(world).keys() - before) == 3


async def test_many_changes_of_one_key_are_one_row_each_and_one_slice(world: World) -> None:
    bucket = await published(world)
    for number in range(5):
        await put(world, "k", bytes([number]))  # replaces: still one row
    queued = [value for key, value in world.rows(Space.JOBS) if b"ipfs-changed/" in key]
    assert queued == [b"k"] * 5
    sequence = world.catalog.sequence
    await Directories(world.catalog, world.clock).step()
    assert world.catalog.sequence == sequence + 1
    assert Directories(world.catalog, world.clock).progress(bucket)[1:] == (1, 0)


async def test_a_bucket_that_does_not_publish_queues_nothing(world: World) -> None:
    await put(world, "k")
    await put(world, "k")
    await world.objects.delete(world.bucket, "k")
    assert not [key for key, _ in world.rows(Space.JOBS) if b"ipfs" in key]
    with pytest.raises(NotFound):
        Directories(world.catalog, world.clock).root(world.bucket)


async def test_what_a_delete_marker_hides_is_gone_and_comes_back_with_the_version(
    world: World,
) -> None:
    await world.objects.configure_bucket("photos", versioning=ENABLED)
    bucket = await published(world)
    await put(world, "a/k")
    found = Directories(world.catalog, world.clock)
    await settle(world)
    there = found.root(bucket)
    hidden = await world.objects.delete(bucket, "a/k")
    await settle(world)
    assert found.root(bucket) == tree.EMPTY.root
    assert hidden is not None
    assert hidden.marker is not None
    await world.objects.delete(bucket, "a/k", version_id=hidden.marker.version_id)
    await settle(world)
    assert found.root(bucket) == there


async def test_a_switch_that_is_turned_back_while_all_is_swept_builds_it_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SWEPT", 2)
    bucket = await published(world)
    for number in range(9):
        await put(world, f"{number}/f")
    await settle(world)
    root = Directories(world.catalog, world.clock).root(bucket)
    await world.objects.configure_bucket("photos", publishes=False)
    for _ in range(3):
        await Directories(world.catalog, world.clock).step()
    bucket = await world.objects.configure_bucket("photos", publishes=True)
    with pytest.raises(NotFound):
        Directories(world.catalog, world.clock).root(bucket)
    await settle(world)
    assert Directories(world.catalog, world.clock).root(bucket) == root
    world.clock.ns += DAY + 10**6
    await settle(world)
    check(world, alone=True)


async def test_directories_of_the_first_releases_are_replaced(world: World) -> None:
    bucket = await published(world)
    await put(world, "a/k")
    await settle(world)
    tree_rows = [key for key, _ in world.rows(Space.BLOCKS) if key[0] == 8]
    old = directory.build([])  # as if one had been handed out
    legacy = rows.DirectoryRoot("photos", "", old.root.raw, old.root.multihash)
    await world.catalog.commit(
        Batch(
            changes=[
                *(Delete(Space.BLOCKS, key) for key in [*tree_rows, *kept_blocks(world)]),
                Put(Space.BLOCKS, rows.directory_key(old.root.multihash, bucket.id, b""), b"\x03x"),
                Put(Space.BLOCKS, rows.roots_prefix(bucket.id) + bytes(8), rows.pack(legacy)),
            ]
        )
    )
    await settle(world)
    world.clock.ns += DAY + 10**6
    await settle(world)
    check(world, alone=True)
    assert not [key for key, _ in world.rows(Space.BLOCKS) if key[:1] == b"\x02"]


async def test_a_queue_without_a_tree_is_emptied(world: World) -> None:
    row = Append(Space.JOBS, rows.changed_prefix(b"i" * 16), b"key")
    await world.catalog.commit(Batch(changes=[row]))
    await settle(world)
    assert world.rows(Space.JOBS) == []
