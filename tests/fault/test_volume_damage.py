"""What rots on a miner's disk is found there, and nothing healthy is lost for it."""

import asyncio
import os
from pathlib import Path

import pytest

from chain.ids import AccountId
from miner.fragment import FragmentRecord
from miner.scrub import Scrubber, ScrubSettings
from miner.scrub_state import ScrubMemory
from miner.store.checking import Checker
from miner.store.files import LocalFile
from miner.store.layout import MAGIC
from miner.store.volumes import VolumeStore
from tests.conformance.fragment_store_suite import FakeClock
from tests.fault.test_volume_recovery import Made, fill, open_store, volume, whole


def flip(path: Path, at: int, mask: int = 1) -> None:
    """Change a byte on the disk."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ mask]))
        os.fsync(file.fileno())


def place_of(path: Path, made: Made) -> int:
    """Where the payload lies in the volume's file."""
    return path.read_bytes().index(bytes(made[1])[:64])


async def scrubbed(store: VolumeStore) -> None:
    """A whole cycle, second looks included, at once."""
    clock, record = FakeClock(), ScrubMemory()
    state = record.load()
    settings = ScrubSettings(1 << 40, 1e-3)
    scrubber = Scrubber(
        store,
        lambda _: None,
        AccountId(bytes(32)),
        clock,
        settings=settings,
        record=record,
        state=state,
    )
    for _ in range(4):
        await scrubber.step()
        await clock.sleep(100)


@pytest.mark.parametrize("where", ["payload", "head", "description", "last byte"])
async def test_rot_anywhere_in_a_record_is_found(tmp_path: Path, where: str) -> None:
    store = open_store(tmp_path)
    made = await fill(store, "a", "b", "c", length=5_000_000)
    path = volume(tmp_path)
    at, size = place_of(path, made[1]), made[1][0].size
    record = path.read_bytes().rindex(MAGIC, 0, at)
    places = {"payload": at + size // 2, "head": record + 15, "description": record + 50}
    flip(path, places.get(where, at + size - 1))
    keys = [record.key for record, _ in made]
    assert await store.damaged(keys) == [keys[1]]
    assert [await store.verify(key) for key in keys] == [True, False, True]
    await scrubbed(store)
    assert [store.find(key) is None for key in keys] == [False, True, False]
    await store.put(*made[1])
    assert await whole(store, made) == [True] * 3
    assert await store.damaged(keys) == []
    await store.close()


@pytest.mark.parametrize("where", ["payload", "head"])
async def test_a_put_of_what_rotted_is_written_anew(tmp_path: Path, where: str) -> None:
    store = open_store(tmp_path)
    made = await fill(store, "a", "b", length=100_000)
    path = volume(tmp_path)
    flip(path, place_of(path, made[0]) + {"payload": 7, "head": -3}[where])
    keys = [record.key for record, _ in made]
    before = store._journal.volumes[1].figures.end
    for put in [store.put(*each) for each in made]:
        await put
    assert await store.damaged(keys) == []
    assert await whole(store, made) == [True, True]
    written = (
        store._journal.volumes[1].figures.end - before
    )  # a tombstone and one fragment: the other was whole
    assert made[0][0].size < written < 2 * made[0][0].size
    await store.close()
    again = open_store(tmp_path, boot="another")  # the index is made again from the volumes
    assert await again.damaged(keys) == []
    assert await whole(again, made) == [True, True]
    await again.close()


async def test_a_check_reads_the_disk_and_leaves_the_page_cache_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    made = await fill(store, "a", "b", length=9_000_000)
    path = volume(tmp_path)
    file = LocalFile(path)
    if file._direct == file._fd or not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("no O_DIRECT here")
    os.posix_fadvise(file._fd, 0, 0, os.POSIX_FADV_DONTNEED)
    cached = made[0][0]
    for _ in range(2):  # what is read again is kept
        await store.read(cached.key, 0, cached.size)
    assert await store.damaged([record.key for record, _ in made]) == []

    def resident(each: Made) -> bool:
        buffer = memoryview(bytearray(4096))
        at = place_of_payload(store, each[0])
        return file.read_cached(buffer, at + each[0].size // 2) == 4096

    assert [resident(each) for each in made] == [True, False]
    file.close()
    await store.close()


def place_of_payload(store: VolumeStore, record: FragmentRecord) -> int:
    place = store._index.get(record.key)
    assert place is not None
    return place.payload


async def test_a_drop_of_damage_takes_nothing_that_was_stored_anew(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    made = await fill(store, "a", length=500_000)
    key = made[0][0].key
    flip(volume(tmp_path), place_of(volume(tmp_path), made[0]) + 7)
    assert await store.damaged([key]) == [key]
    await store.drop([key])
    await store.put(*made[0])
    assert await store.drop_damaged([key, bytes(33)]) == 0
    assert await whole(store, made) == [True]
    flip(volume(tmp_path), volume(tmp_path).read_bytes().rindex(bytes(made[0][1])[:64]) + 7)
    async with asyncio.TaskGroup() as group:  # in one batch, or in two
        dropping = group.create_task(store.drop_damaged([key]))
        await asyncio.sleep(0)
        storing = store.put(*made[0])
    assert dropping.result() == 1
    again = await storing
    assert again.batch.fragments[again.position][0] == made[0][0].id
    assert await whole(store, made) == [True]
    await store.close()


class Unreadable(Checker):
    """A disk that cannot read some volumes for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = True

    def is_whole(self, *arguments: object) -> bool:
        if self.broken:
            raise OSError(5, "the disk cannot read")
        return super().is_whole(*arguments)  # type: ignore[arg-type]


async def test_what_cannot_be_read_for_a_moment_stays(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    made = await fill(store, "a", "b")
    checker = store._checker = Unreadable()
    keys = [record.key for record, _ in made]
    assert await store.damaged(keys) == keys
    checker.broken = False
    await scrubbed(store)
    assert await whole(store, made) == [True, True]
    checker.broken = True
    await scrubbed(store)
    assert [store.find(key) for key in keys] == [None, None]
    await store.close()


async def test_what_is_read_once_leaves_the_page_cache_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ((record, payload),) = await fill(store, "a", length=9_000_000)
    file = LocalFile(volume(tmp_path))
    if not file.direct or not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("no O_DIRECT here")
    os.posix_fadvise(file._fd, 0, 0, os.POSIX_FADV_DONTNEED)
    middle = place_of_payload(store, record) + record.size // 2
    for kept in (False, True):
        for start, end in ((0, record.size), (1, record.size - 1), (5, 300_005)):
            data = await store.read(record.key, start, end)
            assert bytes(data) == payload[start:end]
        found = file.read_cached(memoryview(bytearray(4096)), middle) == 4096
        assert found is kept
    file.close()
    await store.close()
