import asyncio
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

import chain.format
from chain.format import DirectoryLocked, NewerFormat
from chain.ids import AccountId
from chain.net.transport import Buffer
from miner.fragment import FragmentRecord, fragment_id
from miner.segments import PROFILES, Segment
from miner.store.files import Disk, LocalDisk, VolumeFile
from miner.store.interface import StoreError, StoreFailed, StoreFull
from miner.store.volume import AHEAD
from miner.store.volumes import VolumeStore
from tests.conformance.fragment_store_suite import FakeClock, fragments

PLEDGE = 64 * 1024**2
Made = tuple[FragmentRecord, Buffer]


def open_store(path: Path, disk: Disk | None = None, **options: object) -> VolumeStore:
    return VolumeStore.open(
        path,
        pledge=PLEDGE,
        clock=FakeClock(),
        entropy=random.Random(3).randbytes,
        disk=disk,
        **options,  # type: ignore[arg-type]
    )


async def crash(store: VolumeStore, directory: Path, copy: Path) -> None:
    """What a killed process leaves behind: the directory as it is while the store is open."""
    shutil.copytree(directory, copy)
    (copy / "LOCK").unlink()
    await store.close()


async def whole(store: VolumeStore, made: list[Made]) -> list[bool]:
    found = []
    for record, payload in made:
        entry = store.find(record.key)
        found.append(
            entry is not None
            and bytes(await store.read(record.key, 0, record.size)) == bytes(payload)
        )
    return found


def volume(directory: Path) -> Path:
    return sorted((directory / "volumes").iterdir())[-1]


async def fill(store: VolumeStore, *names: str, length: int = 9_000) -> list[Made]:
    made = [fragments(name, length)[1][0] for name in names]
    for each in made:
        await store.put(*each)
    return made


@pytest.mark.parametrize("index", ["kept", "lost", "behind"])
async def test_a_killed_store_has_everything_acknowledged(tmp_path: Path, index: str) -> None:
    store = open_store(tmp_path / "a")
    made = await fill(store, "a", "b")
    if index == "behind":
        shutil.copytree(tmp_path / "a" / "index", tmp_path / "old")
    made += await fill(store, "c", "d", length=900_000)
    await store.drop([made[1][0].key])
    await crash(store, tmp_path / "a", tmp_path / "b")
    if index != "kept":
        shutil.rmtree(tmp_path / "b" / "index")
    if index == "behind":
        shutil.copytree(tmp_path / "old", tmp_path / "b" / "index")
    again = open_store(tmp_path / "b")
    assert await whole(again, made) == [True, False, True, True]
    assert again.space().fragments == 3
    await fill(again, "e")
    await again.close()


async def test_the_index_of_another_boot_is_rebuilt(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a", boot="one")
    made = await fill(store, "a", "b")
    await crash(store, tmp_path / "a", tmp_path / "b")
    for page in (tmp_path / "b" / "index").glob("data.mdb"):
        page.write_bytes(b"\xff" * page.stat().st_size)  # what a lost power may leave
    again = open_store(tmp_path / "b", boot="two")
    assert await whole(again, made) == [True, True]
    await again.close()


async def test_a_tail_torn_anywhere_is_cut_and_all_before_it_kept(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    made = await fill(store, "a", "b")
    start = store.space().used
    made += await fill(store, "c", length=40_000)
    await store.close()
    end = volume(tmp_path / "a").stat().st_size
    inside = [start + 1, start + 31, start + 32, start + 200, start + 257, start + 600]
    blocks = list(range(start, end - 4096, 4096))
    for number, size in enumerate(sorted({*inside, *blocks, *(block + 1 for block in blocks)})):
        copy = tmp_path / f"torn{number}"
        shutil.copytree(tmp_path / "a", copy)
        shutil.rmtree(copy / "index")
        os.truncate(volume(copy), size)
        again = open_store(copy)
        assert await whole(again, made) == [True, True, False], size
        more = await fill(again, "e")
        assert await whole(again, more) == [True]
        await again.close()
        once_more = open_store(copy)
        assert await whole(once_more, made + more) == [True, True, False, True]
        await once_more.close()


@pytest.mark.parametrize("damage", ["zeros", "payload", "head"])
async def test_a_last_batch_written_in_part_is_not_taken_for_whole(
    tmp_path: Path, damage: str
) -> None:
    store = open_store(tmp_path / "a")
    made = await fill(store, "a")
    start = store.space().used
    made += await fill(store, "b", length=60_000)
    await store.close()
    shutil.rmtree(tmp_path / "a" / "index")
    with volume(tmp_path / "a").open("r+b") as file:
        file.seek({"zeros": start, "payload": start + 8192, "head": start + 40}[damage])
        file.write(bytes(4096) if damage == "zeros" else b"\x5a")
    for _ in range(2):
        again = open_store(tmp_path / "a")
        assert await whole(again, made) == [True, False]
        await again.close()
        shutil.rmtree(tmp_path / "a" / "index")


async def test_small_batches_find_blocks_of_zeros_that_a_stop_leaves_nothing_of(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path / "a")
    made = await fill(store, "a")
    size = volume(tmp_path / "a").stat().st_size
    assert size == store.space().used + AHEAD
    made += await fill(store, "b", "c", length=40_000)
    assert volume(tmp_path / "a").stat().st_size == size  # and so not its blocks
    made += await fill(store, "d", length=8_000_000)
    assert volume(tmp_path / "a").stat().st_size == store.space().used
    made += await fill(store, "e")
    await crash(store, tmp_path / "a", tmp_path / "b")
    assert volume(tmp_path / "a").stat().st_size == store.space().used
    assert volume(tmp_path / "b").stat().st_size == store.space().used + AHEAD
    shutil.rmtree(tmp_path / "b" / "index")
    again = open_store(tmp_path / "b")
    assert await whole(again, made) == [True] * 5
    assert volume(tmp_path / "b").stat().st_size == again.space().used
    await again.close()


async def test_damage_in_the_middle_costs_its_own_batch_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    made = await fill(store, "a")
    start = store.space().used
    made += await fill(store, "b", "c")
    await store.close()
    shutil.rmtree(tmp_path / "a" / "index")
    with volume(tmp_path / "a").open("r+b") as file:
        file.seek(start + 5)
        file.write(b"\xff")
    again = open_store(tmp_path / "a")
    assert await whole(again, made) == [True, False, True]
    await again.close()


async def test_a_flipped_byte_is_found_by_verify(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    made = await fill(store, "a", length=9_000)
    raw = volume(tmp_path).read_bytes()
    at = raw.index(bytes(made[0][1])[:64])
    with volume(tmp_path).open("r+b") as file:
        file.seek(at + 10)
        file.write(bytes([raw[at + 10] ^ 1]))
    assert not await store.verify(made[0][0].key)
    await store.close()


async def test_bytes_that_imitate_a_record_are_not_taken_for_one(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    inner, _ = (await fill(store, "a"))[0]
    forged = volume(tmp_path / "a").read_bytes()[4096:8192]
    await store.drop([inner.key])
    data = forged * 8
    segment = Segment(PROFILES["mirror"], len(data), (fragment_id(data),) * 3)
    await store.put(FragmentRecord(segment, 0), data)
    await store.close()
    shutil.rmtree(tmp_path / "a" / "index")
    again = open_store(tmp_path / "a")
    assert again.find(inner.key) is None
    assert [key for key, _ in again.scan(b"", 9)] == [FragmentRecord(segment, 0).key]
    await again.close()


async def test_space_comes_back_on_the_disk(tmp_path: Path) -> None:
    store = open_store(tmp_path, volume_bytes=1 << 20)
    made = await fill(store, *"abcdef", length=2_000_000)
    held = disk_bytes(tmp_path)
    await store.drop([record.key for record, _ in made[:5]])
    await store.drop([])
    await store.close()
    assert held - disk_bytes(tmp_path) > 2_300_000
    again = open_store(tmp_path, volume_bytes=1 << 20)
    assert await whole(again, made) == [False] * 5 + [True]
    await again.close()


def disk_bytes(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (directory / "volumes").iterdir())


@pytest.mark.parametrize("punch", [True, False])
async def test_small_fragments_are_compacted_and_never_resurrected(
    tmp_path: Path, punch: bool
) -> None:
    disk = FaultyDisk(tmp_path / "volumes")
    disk.punches = punch
    store = open_store(tmp_path, disk, volume_bytes=256 * 1024)
    made: list[Made] = []
    for number in range(60):
        made += fragments(str(number), 30_000)[1]
        for each in made[-6:]:
            await store.put(*each)
    kept = made[::9]
    gone = [each for each in made if each not in kept]
    await store.drop([record.key for record, _ in gone])
    await store.compact()
    assert await whole(store, kept) == [True] * len(kept)
    await store.close()
    assert disk_bytes(tmp_path) < 1_200_000  # of 2.9 MB; 40 fragments of 7.5 KB are kept
    shutil.rmtree(tmp_path / "index")
    again = open_store(tmp_path, volume_bytes=256 * 1024)
    assert await whole(again, kept) == [True] * len(kept)
    assert await whole(again, gone) == [False] * len(gone)
    assert again.space().fragments == len(kept)
    await again.close()


async def test_owners_survive_a_lost_index_and_compaction(tmp_path: Path) -> None:
    disk = FaultyDisk(tmp_path / "volumes")
    disk.punches = False
    store = open_store(tmp_path, disk, volume_bytes=64 * 1024)
    made = [each for name in "abcdef" for each in fragments(name, 30_000)[1]]
    owners = [AccountId(bytes([n + 1]) * 32) if n % 3 else None for n in range(len(made))]
    for (record, payload), owner in zip(made, owners, strict=True):
        await store.put(record, payload, owner)
    kept = list(range(0, len(made), 5))
    await store.drop([made[n][0].key for n in range(len(made)) if n not in kept])
    await store.compact()
    await store.close()
    shutil.rmtree(tmp_path / "index")
    again = open_store(tmp_path, volume_bytes=64 * 1024)
    assert await whole(again, [made[n] for n in kept]) == [True] * len(kept)
    assert [await again.owner(made[n][0].key) for n in kept] == [owners[n] for n in kept]
    await again.close()


async def test_an_empty_directory_is_a_new_store_and_a_second_process_is_refused(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path)
    assert store.space().fragments == 0
    with pytest.raises(DirectoryLocked):
        open_store(tmp_path)
    await store.close()


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    await open_store(tmp_path).close()
    (tmp_path / "FORMAT").write_text('{"kind": "fragments", "version": 99}')
    with pytest.raises(NewerFormat):
        open_store(tmp_path)


class FaultyFile:
    def __init__(self, disk: "FaultyDisk", inner: VolumeFile) -> None:
        self._disk = disk
        self._inner = inner
        self.close = inner.close
        self.direct = inner.direct
        self.read = inner.read
        self.read_into = inner.read_into
        self.read_cached = inner.read_cached
        self.read_disk = inner.read_disk
        self.truncate = inner.truncate
        self.size = inner.size

    def write(self, parts: Sequence[memoryview], offset: int) -> None:
        for part in parts:
            if self._disk.room < len(part):
                if self._disk.room >= 4096:
                    self._inner.write([part[: self._disk.room // 4096 * 4096]], offset)
                raise OSError(errno.ENOSPC, "no space left")
            self._disk.room -= len(part)
            self._inner.write([part], offset)
            offset += len(part)

    def sync(self) -> None:
        if self._disk.fail_syncs:
            self._disk.fail_syncs -= 1
            raise OSError(errno.EIO, "the disk is gone")
        self._inner.sync()

    def punch(self, start: int, end: int) -> bool:
        return self._disk.punches and self._inner.punch(start, end)


class FaultyDisk:
    """A disk that fills up, fails syncs, or cannot punch holes."""

    def __init__(self, directory: Path) -> None:
        self._inner = LocalDisk(directory)
        self.room = 1 << 40
        self.fail_syncs = 0
        self.punches = True
        self.names = self._inner.names
        self.remove = self._inner.remove

    def create(self, name: str) -> VolumeFile:
        return FaultyFile(self, self._inner.create(name))

    def open(self, name: str) -> VolumeFile:
        return FaultyFile(self, self._inner.open(name))

    def free_bytes(self) -> int:
        return 1 << 40


async def test_a_full_disk_refuses_and_the_store_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    disk = FaultyDisk(tmp_path / "volumes")
    store = open_store(tmp_path, disk)
    made = await fill(store, "a")
    disk.room = 20_000
    with pytest.raises(StoreFull):
        await fill(store, "b", length=400_000)
    assert await whole(store, made) == [True]
    disk.room = 1 << 30
    made += await fill(store, "b", length=400_000)
    await store.close()
    shutil.rmtree(tmp_path / "index")
    again = open_store(tmp_path)
    assert await whole(again, made) == [True, True]
    await again.close()


@pytest.mark.parametrize("end", ["closed", "killed"])
async def test_a_store_starts_on_a_full_disk_reads_and_takes_fragments_when_there_is_room(
    tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "a")
    made = await fill(store, "a", "b")
    if end == "killed":
        await crash(store, tmp_path / "a", tmp_path / "b")
    await store.close()
    directory = tmp_path / ("a" if end == "closed" else "b")

    def no_room(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left", str(path))

    monkeypatch.setattr(chain.format, "write_durably", no_room)
    disk = FaultyDisk(directory / "volumes")
    disk.room = 0
    again = open_store(directory, disk)
    assert await whole(again, made) == [True, True]
    with pytest.raises(StoreFull):
        await fill(again, "c")
    disk.room = 1 << 30
    made += await fill(again, "c")
    await again.close()
    once_more = open_store(directory)
    assert await whole(once_more, made) == [True] * 3
    await once_more.close()


async def test_a_failed_sync_acknowledges_nothing_and_moves_to_a_new_volume(
    tmp_path: Path,
) -> None:
    disk = FaultyDisk(tmp_path / "volumes")
    store = open_store(tmp_path, disk)
    made = await fill(store, "a")
    disk.fail_syncs = 1
    with pytest.raises(StoreFailed):
        await fill(store, "b")
    assert store.find(fragments("b", 9_000)[1][0][0].key) is None
    made += await fill(store, "b", "c")
    assert len(disk.names()) == 2
    await store.close()
    shutil.rmtree(tmp_path / "index")
    again = open_store(tmp_path)
    assert await whole(again, made) == [True] * 3
    await again.close()


CHILD = """
    import asyncio, random, sys
    from pathlib import Path
    from chain.clock import SystemClock
    from miner.store.volumes import VolumeStore
    from tests.conformance.fragment_store_suite import fragments

    async def main():
        store = VolumeStore.open(Path(sys.argv[1]), pledge=1 << 30, clock=SystemClock(),
                                 entropy=random.Random(1).randbytes, volume_bytes=1 << 20)
        async def worker(number):
            for turn in range(10000):
                name = f"{number}-{turn}"
                for record, payload in fragments(name, 20_000 * (1 + number % 3))[1]:
                    await store.put(record, payload)
                    print(name, record.index, flush=True)
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(worker(number))

    asyncio.run(main())
"""


def test_kill_9_while_storing_loses_nothing_acknowledged(tmp_path: Path) -> None:
    for after in (40, 150, 400):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdout is not None
        with child.stdout:
            lines = [child.stdout.readline() for _ in range(after)]
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.readlines()
        child.wait()
        asyncio.run(check_acknowledged(tmp_path, lines))


async def check_acknowledged(directory: Path, lines: list[str]) -> None:
    store = open_store(directory)
    for line in lines:
        if line.endswith("\n"):
            name, index = line.split()
            length = 20_000 * (1 + int(name[0]) % 3)
            record = fragments(name, length)[1][int(index)][0]
            assert store.find(record.key) is not None, line
            assert await store.verify(record.key), line
    await store.close()


async def test_a_broken_read_is_a_typed_error(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    made = await fill(store, "a", length=9_000)
    os.truncate(volume(tmp_path), 4096)
    with pytest.raises(StoreError):
        await store.read(made[0][0].key, 0, 100)
    assert not await store.verify(made[0][0].key)
    await store.close()
