"""A catalog whose writer and readers are one process."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from gateway.catalog.bodies import LogReader, Snapshot
from gateway.catalog.interface import BadBatch, Batch, Reader
from gateway.catalog.store import CatalogStore
from gateway.catalog.writer import CatalogWriter


class LocalCatalog:
    """Catalog over a store that this process owns. Make it inside the event loop."""

    def __init__(
        self, store: CatalogStore, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.store = store
        self.writer = CatalogWriter(store, monotonic=monotonic)
        self._log = LogReader(store.log.directory, store.disk)
        self._closed = False

    @classmethod
    def open(cls, directory: Path, **options: Any) -> "LocalCatalog":
        """As CatalogStore.open."""
        return cls(CatalogStore.open(directory, **options))

    def read(self) -> AbstractContextManager[Reader]:
        """See Catalog."""
        return Snapshot(self.store.index, self._log, self.writer.distrust)

    async def commit(self, batch: Batch) -> int:
        """See Catalog."""
        return await self.writer.commit(batch)

    async def commit_all(self, batches: Sequence[Batch | BadBatch]) -> list[int | Exception]:
        """See CatalogWriter.commit_all."""
        return await self.writer.commit_all(batches)

    async def close(self) -> None:
        """See Catalog."""
        if not self._closed:
            self._closed = True
            await self.writer.close()
            self._log.close()
            # Waits for a checkpoint that is being copied.
            await asyncio.to_thread(self.store.close)
