"""Many small objects in a stopped network's catalog, put there as PUTs would: the same object path.

HTTP alone is left out (a million PUTs through it take half an hour). The ledger is told by the
network itself once it runs: see `drained`.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from benchmarks.objects import MemoryPool
from chain.clock import SystemClock, system_entropy
from chain.keys.keystore import Keystore
from chain.net.transport import Buffer
from gateway.catalog.client import CatalogClient
from gateway.catalog.compaction import Compactor
from gateway.catalog.interface import CatalogUnavailable, Space
from gateway.catalog.local import LocalCatalog
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.keys import FileOwnerKeys, KeyRing
from gateway.model import Algorithm, Attributes
from gateway.objects import ObjectService
from gateway.store import StoreSettings
from gateway.view import CatalogLeases

SIGNED = frozenset({Algorithm.SHA256})
_TOGETHER = 64  # PUTs at once: they share groups, as those of a busy gateway do
_HOUSE_EVERY = 20_000
_DRAIN_SECONDS = 900.0


def key_of(number: int) -> str:
    """A name as users give them, spread over 4,000 folders."""
    return f"users/{number * 7919 % 4000:04}/2026/{number % 12 + 1:02}/photo-{number:08}.jpg"


def fill(
    data_dir: Path,
    bucket: str,
    count: int,
    size: int,
    *,
    first: int = 0,
    key: Callable[[int], str] = key_of,
) -> float:
    """Put objects `first`.. in an order drawn at random; returns CPU seconds of this process."""
    begun = time.process_time()
    asyncio.run(_fill(data_dir, bucket, range(first, first + count), size, key))
    return time.process_time() - begun


async def _fill(
    data_dir: Path, name: str, numbers: range, size: int, key: Callable[[int], str]
) -> None:
    catalog = LocalCatalog.open(data_dir / "catalog")
    compactor = Compactor(catalog)
    pool = MemoryPool()  # what is inline never gets there
    owners = FileOwnerKeys(Keystore(data_dir / "keys"), system_entropy)
    objects = ObjectService(
        catalog,
        pool,
        pool,
        KeyRing(owners, system_entropy),
        CatalogLeases(catalog),
        clock=SystemClock(),
        entropy=system_entropy,
        settings=StoreSettings(),
        publisher=IpfsPublisher(),
    )
    assert size <= StoreSettings().inline_max
    bucket = objects.bucket(name)
    order = list(numbers)
    random.Random(1).shuffle(order)

    async def put(share: list[int]) -> None:
        for number in share:
            await objects.put(
                bucket,
                key(number),
                _body(os.urandom(size)),
                Attributes("image/jpeg"),
                length=size,
                algorithms=SIGNED,
            )

    try:
        for at in range(0, len(order), _HOUSE_EVERY):
            some = order[at : at + _HOUSE_EVERY]
            async with asyncio.TaskGroup() as group:
                for lane in range(_TOGETHER):
                    group.create_task(put(some[lane::_TOGETHER]))
            await compactor.work()  # the catalog process looks every ten seconds
    finally:
        objects.close()
        await catalog.close()


async def _body(data: bytes) -> AsyncIterator[Buffer]:
    yield data


def drained(data_dir: Path) -> bool:
    """Wait until a running network told the ledger of everything; False if that takes too long."""
    catalog = CatalogClient(data_dir / "catalog", None)  # type: ignore[arg-type]  # reads only
    end = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < end:
        try:
            with catalog.read() as reader:
                if not reader.scan(Space.OUTBOX, b"\x00", None, 1):
                    return True
        except CatalogUnavailable:
            pass  # it starts
        time.sleep(0.5)
    return False
