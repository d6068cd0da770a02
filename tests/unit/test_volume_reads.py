"""Which reads of a volume go past the page cache, and where they are put."""

import mmap
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chain.net.transport import Buffer
from miner.fragment import FragmentRecord
from miner.store.files import LocalDisk, LocalFile, VolumeFile
from miner.store.volumes import VolumeStore
from tests.conformance.fragment_store_suite import FakeClock, fragments

MIB = 1 << 20


class WatchedFile(LocalFile):
    """Says what is read past the cache; as if every file system could do that."""

    past: list[int]

    @property
    def direct(self) -> bool:
        return True

    def read_disk(self, buffer: memoryview, offset: int) -> int:
        self.past.append(len(buffer))
        return super().read_disk(buffer, offset)


class WatchedDisk(LocalDisk):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.past: list[int] = []
        self._where = directory

    def create(self, name: str) -> VolumeFile:
        super().create(name).close()
        return self.open(name)

    def open(self, name: str) -> VolumeFile:
        file = WatchedFile(self._where / name)
        file.past = self.past
        return file


@pytest.fixture
def disk(tmp_path: Path) -> WatchedDisk:
    return WatchedDisk(tmp_path / "volumes")


@pytest.fixture
async def store(tmp_path: Path, disk: WatchedDisk) -> AsyncIterator[VolumeStore]:
    opened = VolumeStore.open(
        tmp_path,
        pledge=64 * MIB,
        clock=FakeClock(),
        entropy=random.Random(3).randbytes,
        disk=disk,
    )
    yield opened
    await opened.close()


@pytest.fixture
async def made(store: VolumeStore) -> tuple[FragmentRecord, Buffer]:
    one = fragments("a", 2 * MIB, "mirror")[1][0]
    await store.put(*one)
    return one


async def test_only_the_same_range_is_read_again_through_the_cache(
    store: VolumeStore, disk: WatchedDisk, made: tuple[FragmentRecord, Buffer]
) -> None:
    record, payload = made
    seen = []
    # A reader that restores what is lost takes the first MiB, and then all of it.
    for end in (MIB, 2 * MIB, 2 * MIB, MIB, 100_000):
        before = len(disk.past)
        assert bytes(await store.read(record.key, 0, end)) == bytes(payload[:end])
        seen.append(len(disk.past) - before)
    assert seen == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("again", [False, True], ids=["disk", "cache"])
async def test_a_read_is_put_in_the_callers_room_if_it_fits(
    store: VolumeStore, made: tuple[FragmentRecord, Buffer], again: bool
) -> None:
    record, payload = made
    if again:
        await store.read(record.key, 5, MIB)
    memory = mmap.mmap(-1, 2 * MIB)
    found = await store.read(record.key, 5, MIB, memoryview(memory))
    assert isinstance(found, memoryview)
    assert found.obj is memory
    assert bytes(found) == bytes(payload[5:MIB])
    small = memoryview(mmap.mmap(-1, mmap.PAGESIZE))
    found = await store.read(record.key, 6, MIB, small)
    assert bytes(found) == bytes(payload[6:MIB])
    assert bytes(small) == bytes(mmap.PAGESIZE)
