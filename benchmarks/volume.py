"""CPU seconds per GiB and small fragment of storing, reading, scrubbing at one miner, in process.

python benchmarks/volume.py [--directory DIR]
"""

import argparse
import asyncio
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from chain.clock import SystemClock, system_entropy
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.memory import tune_malloc
from chain.net.transport import Caller
from miner.client import new_fragment
from miner.fragment import FragmentRecord, fragment_id
from miner.protocol import ReadFragment, StoreFragments
from miner.scrub import Scrubber, ScrubSettings
from miner.scrub_state import ScrubMemory
from miner.segments import PROFILES, Segment
from miner.service import MinerService
from miner.store.volumes import VolumeStore

GIB = 1 << 30

HERE = Caller(None, local=True)


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def records(count: int, size: int) -> list[tuple[FragmentRecord, bytes]]:
    """Fragments of made-up segments: the siblings' ids are arbitrary."""
    profile = PROFILES["standard"]
    made = []
    base = os.urandom(size)
    for _ in range(count):
        payload = os.urandom(32) + base[32:]
        ids = (fragment_id(payload), *(system_entropy(32) for _ in range(profile.n - 1)))
        made.append((FragmentRecord(Segment(profile, size * profile.k, ids), 0), payload))  # type: ignore[arg-type]
    return made


async def measure(
    service: MinerService, store: VolumeStore, size: int, count: int, width: int
) -> None:
    made = records(count, size)

    async def scrub(worker: int) -> None:
        if worker == 0:
            await scrub_everything(store)

    async def put(worker: int) -> None:
        for record, payload in made[worker::width]:
            await service.store_fragments(StoreFragments((new_fragment(record, payload),)), HERE)

    async def read(worker: int) -> None:
        for record, _ in made[worker::width]:
            await service.read_fragment(ReadFragment(record.segment.id, 0, 0, size), HERE)

    # The first read fills the page cache; on a fresh virtual machine that measures the host.
    for name, work in (("store", put), ("first", read), ("again", read), ("scrub", scrub)):
        used, wall = cpu(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for worker in range(width):
                group.create_task(work(worker))
        used, wall = cpu() - used, time.perf_counter() - wall
        print(
            f"{name:5s} {size >> 10:6d} KiB x {width:3d}: {used * 1e6 / count:8.1f} CPU us each, "
            f"{used * GIB / (size * count):6.3f} CPU s/GiB, {count / wall:8.0f}/s"
        )
    await store.drop([record.key for record, _ in made])


async def scrub_everything(store: VolumeStore) -> None:
    """A cycle that is over at once, at any rate."""
    record = ScrubMemory()
    state, settings = record.load(), ScrubSettings(rate=1 << 50, cycle=1e-3)
    none = AccountId(bytes(32))
    scrubber = Scrubber(
        store,
        lambda _: None,
        none,
        SystemClock(),
        settings=settings,
        record=record,
        state=state,
    )
    while not state.finished_ns:
        await scrubber.step()
        await asyncio.sleep(0.001)
    assert not state.waiting


async def run(directory: Path) -> None:
    store = VolumeStore.open(
        directory, pledge=64 * GIB, clock=SystemClock(), entropy=system_entropy
    )
    service = MinerService(store, Identity.generate(system_entropy))
    for size, count, width in (
        (4096, 4000, 64),
        (16 * 1024, 4000, 64),
        (64 * 1024, 1000, 16),
        (1 << 20, 512, 8),
        (4 << 20, 128, 8),
    ):
        await measure(service, store, size, count, width)
    await store.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="where the volumes lie")
    directory = Path(tempfile.mkdtemp(dir=parser.parse_args().directory))
    tune_malloc()
    try:
        asyncio.run(run(directory))
    finally:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
