"""A catalog's writer as a process of its own, for tests that kill it.

python catalog_process.py commit DIRECTORY    commits for ever; prints the number of each
python catalog_process.py serve DIRECTORY ADDRESS
python catalog_process.py serve DIRECTORY ADDRESS MARKER    dies behind a commit and before its
                                                            answer when the file MARKER is there
"""

import asyncio
import os
import sys
from pathlib import Path

from chain.clock import SystemClock
from chain.net.nodes import NodeTransport
from chain.net.transport import Caller
from gateway.catalog import service
from gateway.catalog.compaction import CompactionSettings, Compactor
from gateway.catalog.interface import Batch, Delete, Put, Space
from gateway.catalog.local import LocalCatalog
from gateway.catalog.protocol import Commit, Committed
from gateway.catalog.service import CatalogService, run_catalog
from gateway.catalog.store import StoreSettings

SETTINGS = StoreSettings(file_bytes=64 << 10, map_bytes=1 << 30)
BODY = bytes(range(256)) * 8


def rows(number: int) -> list[Put | Delete]:
    """What commit `number` writes: a body, its row, and the removal of the body 40 commits ago."""
    key = number.to_bytes(8, "big")
    old = max(0, number - 40).to_bytes(8, "big")
    return [
        Put(Space.BODIES, key, key + BODY),
        Put(Space.LIVE, key, key),
        Delete(Space.BODIES, old),
    ]


async def commit_for_ever(directory: Path) -> None:
    catalog = LocalCatalog.open(directory, settings=SETTINGS)
    compactor = Compactor(catalog, CompactionSettings(checkpoint_bytes=128 << 10))

    with catalog.read() as reader:
        newest = reader.scan(Space.LIVE, b"", None, 1, reverse=True)
    number = int.from_bytes(newest[0][0], "big") if newest else 0
    while True:
        number += 1
        await catalog.commit(Batch(changes=rows(number)))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        if number % 50 == 0:
            await compactor.work()


class Dying(CatalogService):
    """Commits, and ends the process before it answers, while there is a marker."""

    marker: Path

    async def commit(self, message: Commit, caller: Caller) -> Committed:
        """See CatalogService."""
        done = await super().commit(message, caller)
        if self.marker.exists() and any(one.sequence for one in done.outcomes):
            self.marker.unlink()
            os._exit(9)
        return done


async def serve(directory: Path, address: str) -> None:
    catalog = LocalCatalog.open(directory, settings=SETTINGS)
    await run_catalog(catalog, NodeTransport(), address, SystemClock(), asyncio.Event())


if __name__ == "__main__":
    if sys.argv[1] == "commit":
        asyncio.run(commit_for_ever(Path(sys.argv[2])))
    else:
        if len(sys.argv) > 4:
            Dying.marker = Path(sys.argv[4])
            service.CatalogService = Dying  # type: ignore[misc]
        asyncio.run(serve(Path(sys.argv[2]), sys.argv[3]))
