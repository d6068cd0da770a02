"""Serving the catalog's writer to the other processes of the machine."""

import asyncio
import logging

from chain.clock import Clock
from chain.net.transport import Caller, Handlers, RemoteError, Transport
from gateway.catalog import protocol
from gateway.catalog.compaction import Compactor
from gateway.catalog.interface import (
    BadBatch,
    Batch,
    CatalogDamaged,
    CatalogUnavailable,
    CommitUncertain,
    Conflict,
)
from gateway.catalog.local import LocalCatalog
from gateway.catalog.protocol import Commit, Committed, decode_batch, refusals

logger = logging.getLogger(__name__)

# How often the compactor looks whether there is something to do.
HOUSEKEEPING_SECONDS = 10.0


class CatalogService:
    """Handlers over the process's own catalog. Only callers on this machine are served."""

    def __init__(self, catalog: LocalCatalog) -> None:
        self.catalog = catalog
        self._index_id = catalog.store.index.identifier

    def handlers(self) -> Handlers:
        """The service's table, to serve alone or together with others."""
        return Handlers().on(Commit, self.commit)

    async def commit(self, message: Commit, caller: Caller) -> Committed:
        """Judge and commit. Refusals carry the codes of protocol.py."""
        if not caller.local:
            raise RemoteError("forbidden", "the catalog serves its own machine only")
        try:
            batch = decode_batch(message.batch.buffer)
            sequence = await self.catalog.commit(batch)
        except Conflict as conflict:
            return Committed(0, _index_of(batch, conflict), self._index_id)
        except BadBatch as error:
            raise RemoteError(protocol.BAD, str(error)) from None
        except CommitUncertain as error:
            raise RemoteError(protocol.UNCERTAIN, str(error)) from None
        except CatalogUnavailable as error:
            raise RemoteError(protocol.UNAVAILABLE, str(error)) from None
        except CatalogDamaged as error:
            raise RemoteError(protocol.DAMAGED, str(error)) from None
        return Committed(sequence, protocol.COMMITTED, self._index_id)


def _index_of(batch: Batch, conflict: Conflict) -> int:
    """Which of `refusals(batch)` failed: by identity, since equal ones may stand twice."""
    return next(index for index, one in enumerate(refusals(batch)) if one is conflict.failed)


class WriterStopped(Exception):
    """The disk failed under the log: end the process; the next one replays what is there."""


async def run_catalog(
    catalog: LocalCatalog,
    transport: Transport,
    address: str,
    clock: Clock,
    stop: asyncio.Event,
    *,
    more: Handlers | None = None,
) -> None:
    """Serve and keep house until `stop` is set. Raises WriterStopped.

    `more` are handlers of others to serve at the same address. The catalog stays open.
    """
    handlers = CatalogService(catalog).handlers()
    for message, handler in (more.table if more else {}).items():
        handlers.on(message, handler)
    compactor = Compactor(catalog)
    server = await transport.serve(address, handlers)
    try:
        async with asyncio.TaskGroup() as group:
            house = group.create_task(_keep_house(compactor, clock))
            watch = group.create_task(catalog.writer.failed.wait())
            waiting = group.create_task(stop.wait())
            await asyncio.wait({watch, waiting}, return_when=asyncio.FIRST_COMPLETED)
            for task in (house, watch, waiting):
                task.cancel()
    finally:
        await server.close()
    if catalog.writer.failed.is_set():
        raise WriterStopped(str(catalog.store.failed))


async def _keep_house(compactor: Compactor, clock: Clock) -> None:
    while True:
        await clock.sleep(HOUSEKEEPING_SECONDS)
        try:
            await compactor.work()
        except (OSError, CatalogUnavailable, CatalogDamaged) as error:
            logger.warning("compaction stopped and tries again later: %s", error)
