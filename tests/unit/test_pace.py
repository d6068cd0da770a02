"""Who waits for the disk: the event loop for a quick one, a thread for a slow one."""

import asyncio
import random
import threading
from pathlib import Path

import pytest

from chain.pace import QUICK_SECONDS, WATCHED, Pace
from gateway.catalog.disk import Disk
from gateway.catalog.interface import Batch, Put, Space
from gateway.catalog.local import LocalCatalog
from gateway.catalog.store import CatalogStore
from miner.store.committer import INLINE_BYTES
from miner.store.files import LocalDisk, LocalFile
from miner.store.volumes import VolumeStore
from tests.conformance.fragment_store_suite import PLEDGE, FakeClock, fragments

QUICK, SLOW = QUICK_SECONDS / 2, QUICK_SECONDS * 2


def test_a_disk_is_quick_while_one_of_its_last_writes_was() -> None:
    def quick(*seconds: float) -> bool:
        pace = Pace()
        for each in seconds:
            pace.took(each)
        return pace.quick

    assert not quick(), "nothing is known yet"
    assert quick(QUICK, *[SLOW] * (WATCHED - 1)), "a processor may have been busy"
    assert not quick(QUICK, *[SLOW] * WATCHED)
    assert quick(*[SLOW] * WATCHED, QUICK), "it is seen at once"


class Steps:
    """A clock that says of everything timed that it took `seconds`."""

    def __init__(self) -> None:
        self.seconds = QUICK
        self.now = 0.0

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


class StoreClock(FakeClock):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def monotonic(self) -> float:
        return self._steps()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which thread waited for each sync of a volume."""
    seen: list[str] = []
    sync = LocalFile.sync

    def noted(self: LocalFile) -> None:
        seen.append(threading.current_thread().name)
        sync(self)

    monkeypatch.setattr(LocalFile, "sync", noted)
    return seen


async def test_a_miner_s_loop_syncs_small_batches_itself_while_the_disk_is_quick(
    tmp_path: Path, threads: list[str]
) -> None:
    steps = Steps()
    store = VolumeStore.open(
        tmp_path, pledge=PLEDGE, clock=StoreClock(steps), entropy=random.Random(1).randbytes,
        disk=LocalDisk(tmp_path / "volumes"),
    )  # fmt: skip

    async def put(tag: str, length: int = 5) -> str:
        _, made = fragments(tag, length)
        while not store._committer.idle:  # noqa: ASYNC110 - it looks for space to give back
            await asyncio.sleep(0.001)
        await store.put(*made[0])
        return threads[-1]

    main, worker = threading.current_thread().name, "fragment-commit"
    assert await put("first") == worker
    assert await put("second") == main
    assert await put("large", 8 * INLINE_BYTES) == worker
    steps.seconds = SLOW
    assert [await put(f"slow {i}") for i in range(WATCHED)].count(main) == WATCHED
    assert await put("slow at last") == worker
    steps.seconds = QUICK
    assert await put("quick, seen by the thread") == worker
    assert await put("quick again") == main
    await store.close()


async def test_jobs_of_one_turn_happen_in_their_order(tmp_path: Path) -> None:
    store = VolumeStore.open(
        tmp_path, pledge=PLEDGE, clock=FakeClock(), entropy=random.Random(1).randbytes
    )
    _, made = fragments("a", 5)
    record, payload = made[0]
    await store.put(record, payload)
    for _ in range(3):
        stored = store.put(record, payload)
        assert await store.drop([record.key]) == 1, "a put, then its drop"
        await stored
        assert store.find(record.key) is None
        await store.put(record, payload)
    await store.close()


async def test_a_catalog_s_loop_syncs_small_groups_itself_while_the_disk_is_quick(
    tmp_path: Path,
) -> None:
    seen: list[str] = []

    class Noted(Disk):
        def sync(self, descriptor: int) -> None:
            seen.append(threading.current_thread().name)
            super().sync(descriptor)

    steps = Steps()
    catalog = LocalCatalog(CatalogStore.open(tmp_path / "c", disk=Noted()), monotonic=steps)

    async def commit(number: int) -> str:
        await catalog.commit(Batch(changes=[Put(Space.LIVE, b"%d" % number, b"x")]))
        return seen[-1]

    main, worker = threading.current_thread().name, "catalog-writer"
    assert await commit(0) == worker
    assert await commit(1) == main
    steps.seconds = SLOW
    assert [await commit(i) for i in range(WATCHED)].count(main) == WATCHED
    assert await commit(2) == worker
    steps.seconds = QUICK
    assert await commit(3) == worker
    assert await commit(4) == main
    await catalog.close()
