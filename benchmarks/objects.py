"""CPU of the object path without HTTP and without miners: `python -m benchmarks.objects`.

Catalog and storage pool are in memory, so the figures are the gateway's own: hashes, sealing,
parity, fragment ids, rows. User and system time of the whole process.
"""

import argparse
import asyncio
import os
import resource
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from chain.clock import NEVER, Deadline, SystemClock, system_entropy
from chain.ids import SegmentId
from chain.keys.keystore import Keystore
from chain.net.transport import Buffer
from gateway.accounts import AccountService
from gateway.catalog.memory import MemoryCatalog
from gateway.keys import FileOwnerKeys, KeyRing
from gateway.model import Algorithm, Attributes, Bucket
from gateway.objects import ObjectService
from gateway.store import Lease, StoreSettings
from miner.pool import Release
from miner.records import Row
from miner.segments import Arrived, Segment
from miner.writing import FragmentReceipt

MIB, GIB = 1 << 20, 1 << 30
BODY_PIECE = 256 << 10


@dataclass
class Kept:
    rows: list[Row]
    receipts: list[FragmentReceipt] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    deadline: Deadline = NEVER


class MemoryPool:
    """Keeps the data shards while `keeping`, else forgets them: fresh memory has its own cost."""

    def __init__(self) -> None:
        self.segments: dict[bytes, bytes] = {}
        self.keeping = False

    async def write(self, segment: Segment, shards: Sequence[Buffer]) -> Kept:
        await asyncio.sleep(0)  # others run meanwhile
        if self.keeping:
            self.segments[segment.id] = b"".join(shards[: segment.profile.k])
        return Kept([Row("placement", segment.id, b"-")])

    async def read(
        self,
        segment: Segment,
        ranges: Sequence[tuple[int, int]],
        *,
        verify: bool = False,
        arrived: Arrived | None = None,
    ) -> list[Buffer]:
        del verify, arrived
        sealed = memoryview(self.segments[segment.id])
        return [sealed[start:end] for start, end in ranges]

    def release_rows(self, segment: SegmentId) -> Release:
        self.segments.pop(segment, None)
        return Release([], [])


class Unlimited:
    def lease(self, _account: str) -> Lease:
        return Lease(b"lease", 1 << 60)


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def body(data: bytes, times: int = 1) -> AsyncIterator[Buffer]:
    view = memoryview(data)
    for _ in range(times):
        for at in range(0, len(data), BODY_PIECE):
            yield view[at : at + BODY_PIECE]


async def timed(label: str, unit: str, scale: float, run: Callable[[], Awaitable[None]]) -> None:
    clock = SystemClock()
    wall, begun = clock.monotonic(), cpu()
    await run()
    used, elapsed = cpu() - begun, clock.monotonic() - wall
    print(f"{label:44} {used * scale:9.2f} CPU {unit:6} {elapsed * scale:9.2f} wall", flush=True)


class Bench:
    def __init__(self, objects: ObjectService, bucket: Bucket, pool: MemoryPool) -> None:
        self.objects, self.bucket, self.pool = objects, bucket, pool

    async def put(self, key: str, data: bytes, times: int, *hashes: Algorithm) -> None:
        await self.objects.put(
            self.bucket,
            key,
            body(data, times),
            Attributes(),
            length=len(data) * times,
            algorithms=frozenset(hashes),
        )

    async def large(self, mib: int) -> None:
        data = os.urandom(16 * MIB)
        times, scale = mib // 16, GIB / (mib * MIB)
        await self.put("warm", data, 2, Algorithm.SHA256)
        for label, hashes in (
            ("PUT large, MD5 + SHA-256", (Algorithm.SHA256,)),
            ("PUT large, MD5 + CRC64NVME", (Algorithm.CRC64NVME,)),
        ):
            await timed(label, "s/GiB", scale, partial(self.put, "large", data, times, *hashes))
        self.pool.keeping = True
        await self.put("large", data, times)
        version = self.objects.head(self.bucket, "large")

        async def get() -> None:
            size = 0
            async for piece in self.objects.read(version):
                size += len(piece)
            assert size == version.size

        await get()
        await timed("GET large", "s/GiB", scale, get)

    async def together(self, mib: int) -> None:
        """Four at once, whose hashes are computed side by side once code for it is there."""
        large, small = os.urandom(16 * MIB), os.urandom(256 << 10)
        rounds = mib // 4

        async def four(data: bytes, times: int) -> None:
            async with asyncio.TaskGroup() as group:
                for i in range(4):
                    group.create_task(self.put(f"one of {i}", data, times, Algorithm.SHA256))

        async def four_small() -> None:
            for _ in range(rounds * 4):
                await four(small, 1)

        await four(large, 1)
        for _ in range(100):  # until code is there, if it can be had
            await asyncio.sleep(0 if self.objects._store.engine.hashing.ready else 0.1)
        times, scale = mib // 64, 16 / (mib // 64)
        await timed("PUT large, four at once", "s/GiB", scale, partial(four, large, times))
        await timed("PUT 256 KiB, four at once", "us", 1e6 / (rounds * 16), four_small)

    async def small(self, count: int) -> None:  # noqa: C901 - five short closures
        data = os.urandom(4096)
        scale = 1e6 / count

        async def put() -> None:
            for i in range(count):
                await self.put(f"small/{i:06}", data, 1, Algorithm.SHA256)

        async def get() -> None:
            for i in range(count):
                version = self.objects.head(self.bucket, f"small/{i:06}")
                async for _ in self.objects.read(version):
                    pass

        async def head() -> None:
            for i in range(count):
                self.objects.head(self.bucket, f"small/{i:06}")

        async def page() -> None:
            for _ in range(100):
                self.objects.list_objects(self.bucket, prefix="small/")

        async def delete() -> None:
            for i in range(count):
                await self.objects.delete(self.bucket, f"small/{i:06}")

        for label, each, run in (
            ("PUT 4 KiB, MD5 + SHA-256", scale, put),
            ("GET 4 KiB", scale, get),
            ("HEAD", scale, head),
            ("LIST 1,000", 1e6 / 100, page),
            ("DELETE", scale, delete),
        ):
            await timed(label, "us", each, run)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of the large object")
    parser.add_argument("--count", type=int, default=2000, help="number of small objects")
    parser.add_argument("--profile", default="small")
    options = parser.parse_args()
    clock, catalog, pool = SystemClock(), MemoryCatalog(), MemoryPool()
    with tempfile.TemporaryDirectory() as directory:
        owners = FileOwnerKeys(Keystore(Path(directory) / "keys"), system_entropy)
        keys = KeyRing(owners, system_entropy)
        accounts = AccountService(catalog, keys, clock=clock, entropy=system_entropy)
        objects = ObjectService(
            catalog,
            pool,
            pool,
            keys,
            Unlimited(),
            clock=clock,
            entropy=system_entropy,
            settings=StoreSettings(profile=options.profile),
        )
        account = (await accounts.create("Bench")).account
        bench = Bench(objects, await objects.create_bucket(account, "bench"), pool)
        await bench.large(options.mib)
        await bench.together(options.mib)
        await bench.small(options.count)
        objects.close()


if __name__ == "__main__":
    asyncio.run(main())
