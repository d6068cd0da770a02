"""Claims about gateway/ipfs/index/recent.py: what is remembered is served only while public."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from itertools import pairwise

import httpx
import pytest

from chain.cids import RAW, SHA2_256, Cid
from gateway.ipfs.codecs.unixfs import leaf_cid
from gateway.ipfs.index.blocks import Leaf
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.ipfs.index.recent import RecentLeaves
from gateway.ipfs.web.app import IpfsApp
from gateway.ipfs.web.serving import IpfsConfig
from gateway.model import Attributes
from tests.unit.object_parts import FakeClock, World, stream

MIB = 1 << 20
CID = Cid.of(RAW, SHA2_256, bytes(32))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = await World(publisher=IpfsPublisher()).start()
    yield world
    world.objects.close()


async def body(*parts: bytes) -> AsyncGenerator[bytes, None]:
    for part in parts:
        yield part


async def sent(recent: RecentLeaves, leaf: Leaf, *parts: bytes) -> bytes:
    return b"".join([bytes(part) async for part in recent.through(leaf, body(*parts))])


async def test_a_leaf_is_kept_when_it_comes_again_and_the_oldest_go(world: World) -> None:
    version = await world.objects.put(world.bucket, "k", stream(b"x" * 90), Attributes())
    leaves = [Leaf(CID, version, at, at + 30) for at in (0, 30, 60)]
    recent = RecentLeaves(60)
    for number, leaf in enumerate(leaves):
        data = bytes([number]) * 15
        assert recent.get(leaf) is None
        assert await sent(recent, leaf, data, data) == data * 2
        assert recent.get(leaf) is None
        assert await sent(recent, leaf, data, data) == data * 2
        assert recent.get(leaf) == data * 2
        assert recent.get(leaves[0]) is not None or number == 2
    recent.get(leaves[0])
    assert [recent.get(leaf) is not None for leaf in leaves] == [True, False, True]


async def test_what_was_broken_off_is_not_kept(world: World) -> None:
    version = await world.objects.put(world.bucket, "k", stream(b"x" * 90), Attributes())
    leaf, recent = Leaf(CID, version, 0, 30), RecentLeaves()
    await sent(recent, leaf, b"short")
    assert await sent(recent, leaf, b"short") == b"short"
    assert recent.get(leaf) is None


@pytest.mark.parametrize(
    ("data", "reads"), [(b"<html>", [0, 0, 0]), (b"<html>" + bytes(2 * MIB), [1, 1, 0])]
)
async def test_a_leaf_in_memory_is_served_as_it_was_and_not_once_it_is_private(
    world: World, data: bytes, reads: list[int]
) -> None:
    app = IpfsApp(world.objects, world.catalog, IpfsConfig(), FakeClock())
    public = Attributes(metadata={"ipfs": "publish"})
    await world.objects.put(world.bucket, "k", stream(data), public)
    leaf = data[:MIB]
    path = f"/ipfs/{leaf_cid(hashlib.sha256(leaf).digest())}"
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        first, seen = await http.get(path), [len(world.pool.reads)]
        assert first.content == leaf
        assert first.headers["content-type"] == "text/html; charset=utf-8"
        for _ in range(2):
            again = await http.get(path)
            seen.append(len(world.pool.reads))
            assert (again.content, again.headers) == (first.content, first.headers)
        assert [after - before for before, after in pairwise([0, *seen])] == reads
        part = await http.get(path, headers={"range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, b"htm")
        head = await http.head(path)
        assert head.headers["content-length"] == str(len(leaf))
        await world.objects.delete(world.bucket, "k")
        assert (await http.get(path)).status_code == 404
