"""Whatever clients do and leave half done, disks hold what live objects need, and nothing else.

And whoever sends a message again that he heard changes nothing.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chain.net import wire
from chain.net.transport import Buffer
from gateway.catalog.interface import Space
from gateway.errors import IncompleteBody, NoSuchKey
from gateway.model import ENABLED, Attributes, CompletedPart
from tests.fault.disks import MINERS, Disks
from tests.unit.object_parts import stream

MIB = 1 << 20
# Inline, one small segment, a pipeline of one segment, several segments.
SIZES = (1, 9_000, 9_000, 17_000, 40_000, 300_000, 2_500_000)
KEYS = [f"key {n}" for n in range(12)]


async def vanishing(data: bytes) -> AsyncIterator[Buffer]:
    """A client that is gone before its body's end, when its first segments are stored."""
    for at in range(0, len(data), MIB):
        yield data[at : at + MIB]
        await asyncio.sleep(0.02)
    raise IncompleteBody


@pytest.fixture
async def disks(tmp_path: Path, seed: int) -> AsyncIterator[Disks]:
    disks = Disks(tmp_path, seed)
    await disks.start()
    yield disks
    await disks.close()


class Clients:
    """Does one random thing after the other, and knows what must be there."""

    def __init__(self, disks: Disks) -> None:
        self.disks, self.random = disks, disks.random
        self.bodies: dict[str, bytes] = {}

    def body(self) -> bytes:
        return self.random.randbytes(self.random.choice(SIZES))

    async def act(self) -> None:
        act = self.random.choice(
            [self.put, self.put, self.delete, self.copy, self.vanish, self.upload, self.abort]
        )
        await act(self.random.choice(KEYS))

    async def put(self, key: str) -> None:
        data = self.body()
        objects, bucket = self.disks.objects, self.disks.bucket
        await objects.put(bucket, key, stream(data), Attributes(), length=len(data))
        self.bodies[key] = data

    async def delete(self, key: str) -> None:
        await self.disks.objects.delete(self.disks.bucket, key)
        self.bodies.pop(key, None)

    async def copy(self, key: str) -> None:
        objects, bucket = self.disks.objects, self.disks.bucket
        source = self.random.choice(KEYS)
        if source in self.bodies and source != key:
            await objects.copy(objects.head(bucket, source), bucket, key)
            self.bodies[key] = self.bodies[source]

    async def vanish(self, key: str) -> None:
        data = self.body()
        with pytest.raises(IncompleteBody):
            await self.disks.objects.put(
                self.disks.bucket, key, vanishing(data), Attributes(), length=2 * len(data)
            )

    async def upload(self, key: str) -> None:
        """Two parts, of which the first is sent twice, and a third that is left out."""
        objects, bucket = self.disks.objects, self.disks.bucket
        upload = await objects.create_upload(bucket, key, Attributes())
        first, last = self.random.randbytes(5 * MIB), self.body()
        parts = []
        for number, data in ((1, self.body()), (1, first), (2, last), (3, self.body())):
            part = await objects.put_part(upload, number, stream(data), length=len(data))
            parts.append(CompletedPart(number, part.etag))
        await objects.complete_upload(upload, parts[1:3])
        self.bodies[key] = first + last

    async def abort(self, key: str) -> None:
        objects = self.disks.objects
        upload = await objects.create_upload(self.disks.bucket, key, Attributes())
        data = self.body()
        await objects.put_part(upload, 1, stream(data), length=len(data))
        with pytest.raises(IncompleteBody):
            await objects.put_part(upload, 2, vanishing(data), length=2 * len(data))
        await objects.abort_upload(upload)

    async def check(self) -> None:
        objects, bucket = self.disks.objects, self.disks.bucket
        for key in KEYS:
            if key in self.bodies:
                version = objects.head(bucket, key)
                data = b"".join([bytes(piece) async for piece in objects.read(version)])
                assert data == self.bodies[key], key
            else:
                with pytest.raises(NoSuchKey):
                    objects.head(bucket, key)


@pytest.mark.parametrize("seed", range(3))
async def test_disks_hold_what_live_objects_need_and_nothing_else(disks: Disks, seed: int) -> None:
    del seed  # the fixture's
    clients = Clients(disks)
    for _ in range(3):
        for _ in range(16):
            await clients.act()
        await disks.tidy()
        assert not disks.problems()
        await clients.check()
    for key in KEYS:
        await clients.delete(key)
    await disks.tidy()
    assert not disks.problems()
    assert [store.space().fragments for store in disks.stores] == [0] * MINERS
    with disks.catalog.read() as reader:
        assert reader.counter(b"used/lease-1") == 0


class VersionsClients(Clients):
    """The same in a bucket with versioning: what was there before stays until it is removed."""

    def __init__(self, disks: Disks) -> None:
        super().__init__(disks)
        self.kept: dict[str, list[tuple[str, bytes | None]]] = {key: [] for key in KEYS}

    async def act(self) -> None:
        key = self.random.choice(KEYS[:4])  # some versions of each
        await self.random.choice([self.put, self.delete, self.copy, self.upload, self.erase])(key)
        self.note(key)

    def note(self, key: str) -> None:
        """What the act on a key has put in front."""
        page = self.disks.objects.list_versions(self.disks.bucket, prefix=key, limit=1)
        names = [name for name, _ in self.kept[key]]
        for version in page.versions:
            if version.version_id not in names:
                body = None if version.deleted else self.bodies[key]
                self.kept[key].insert(0, (version.version_id, body))

    async def erase(self, key: str) -> None:
        if self.kept[key]:
            at = self.random.randrange(len(self.kept[key]))
            name, _ = self.kept[key].pop(at)
            assert await self.disks.objects.delete(self.disks.bucket, key, name)
            body = self.kept[key][0][1] if self.kept[key] else None
            self.bodies.pop(key, None)
            if body is not None:
                self.bodies[key] = body

    async def check(self) -> None:
        await super().check()
        objects, bucket = self.disks.objects, self.disks.bucket
        for key, versions in self.kept.items():
            page = objects.list_versions(bucket, prefix=key)
            assert [v.version_id for v in page.versions if v.key == key] == [n for n, _ in versions]
            for name, body in versions:
                if body is not None:
                    version = objects.head(bucket, key, name)
                    data = b"".join([bytes(piece) async for piece in objects.read(version)])
                    assert data == body, (key, name)


@pytest.mark.parametrize("seed", range(2))
async def test_versions_are_live_data_until_they_are_removed(disks: Disks, seed: int) -> None:
    """Survey, repair, releases, compaction and the books look after what is not the latest."""
    del seed  # the fixture's
    disks.bucket = await disks.objects.configure_bucket(disks.bucket.name, versioning=ENABLED)
    clients = VersionsClients(disks)
    for _ in range(3):
        for _ in range(12):
            await clients.act()
        await disks.tidy()
        assert not disks.problems()
        await clients.check()
    while any(clients.kept.values()):
        for key in KEYS:
            await clients.erase(key)
    await disks.tidy()
    assert not disks.problems()
    assert [store.space().fragments for store in disks.stores] == [0] * MINERS
    with disks.catalog.read() as reader:
        assert reader.counter(b"used/lease-1") == 0
        for space in (Space.VERSIONS, Space.HEADS, Space.BODIES, Space.STREAMS):
            assert not reader.scan(space, b"\x00", None, 1)


@pytest.mark.parametrize("seed", [7])
async def test_messages_sent_again_change_nothing(disks: Disks, seed: int) -> None:
    clients = Clients(disks)
    for _ in range(30):
        await clients.act()
    await disks.tidy()
    recorded = list(disks.network.requests)
    kinds = Counter(wire.parse_head(frames[0]).tag.decode() for _, frames, _ in recorded)
    assert {"StoreFragments", "DropFragments", "Commit", "AskCommitted"} <= kinds.keys()
    random.Random(seed).shuffle(recorded)
    before = disks.rows()
    answers: list[list[Buffer]] = []
    for name, frames, caller in recorded:
        server = disks.network.find(name)
        assert server is not None
        server.receive(frames, caller, answers.append)
    async with asyncio.timeout(20):
        while len(answers) < len(recorded):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await disks.tidy()
    assert disks.rows() == before
    assert not disks.problems()
    await clients.check()
