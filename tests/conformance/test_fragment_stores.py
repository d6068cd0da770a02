import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from miner.store.interface import FragmentStore
from miner.store.memory import MemoryStore
from miner.store.volumes import VolumeStore
from tests.conformance.fragment_store_suite import PLEDGE, FakeClock, FragmentStoreSuite


class TestMemoryStore(FragmentStoreSuite):
    @pytest.fixture
    def store(self, clock: FakeClock) -> FragmentStore:
        return MemoryStore(clock, PLEDGE)


class TestVolumeStore(FragmentStoreSuite):
    @pytest.fixture
    async def store(self, clock: FakeClock, tmp_path: Path) -> AsyncIterator[FragmentStore]:
        entropy = random.Random(1).randbytes
        store = VolumeStore.open(tmp_path, pledge=PLEDGE, clock=clock, entropy=entropy)
        yield store
        await store.close()


class SlowDiskClock(FakeClock):
    """Whatever it times took a second."""

    looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return super().monotonic() + self.looks


class TestVolumeStoreOnASlowDisk(TestVolumeStore):
    """Every batch is the thread's; with the other clocks the event loop commits small ones."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return SlowDiskClock()


class TestVolumeStoreOfTinyVolumes(FragmentStoreSuite):
    """Volumes roll, retire and are compacted all the time."""

    @pytest.fixture
    async def store(self, clock: FakeClock, tmp_path: Path) -> AsyncIterator[FragmentStore]:
        store = VolumeStore.open(
            tmp_path,
            pledge=PLEDGE,
            clock=clock,
            entropy=random.Random(2).randbytes,
            volume_bytes=64 * 1024,
        )
        yield store
        await store.close()
