"""Serving the catalog's writer to the other processes of the machine."""

import asyncio
import logging

from chain.clock import Clock, Entropy, system_entropy
from chain.net.transport import Caller, Handlers, RemoteError, Transport
from gateway.catalog import protocol
from gateway.catalog.compaction import Compactor
from gateway.catalog.interface import (
    BadBatch,
    Batch,
    CatalogDamaged,
    CatalogFull,
    CatalogUnavailable,
    CommitUncertain,
    Conflict,
)
from gateway.catalog.local import LocalCatalog
from gateway.catalog.once import NotBegun, Once, Repeated
from gateway.catalog.protocol import (
    Commit,
    Committed,
    Heard,
    IndexDamaged,
    Outcome,
    decode_batch,
)

logger = logging.getLogger(__name__)

# How often the compactor looks whether there is something to do.
HOUSEKEEPING_SECONDS = 10.0
REASON_MAX = 1024
SESSION_BYTES, CLIENT_BYTES_MAX = 8, 16


class CatalogService:
    """Handlers over the process's own catalog. Only callers on this machine are served."""

    def __init__(self, catalog: LocalCatalog, entropy: Entropy = system_entropy) -> None:
        self.catalog = catalog
        self._once = Once[Committed](entropy(SESSION_BYTES))
        self._index_id = catalog.store.index.identifier

    def handlers(self) -> Handlers:
        """The service's table, to serve alone or together with others."""
        return Handlers().on(Commit, self.commit).on(IndexDamaged, self.damaged)

    async def commit(self, message: Commit, caller: Caller) -> Committed:
        """Judge and commit. Refusals carry the codes of protocol.py."""
        if not caller.local:
            raise RemoteError("forbidden", "the catalog serves its own machine only")
        if len(message.client) > CLIENT_BYTES_MAX or message.number < 0:
            raise RemoteError(protocol.BAD, "not a client and a number")
        try:
            return await self._once.answer(
                message.session, message.client, message.number, lambda: self._commit(message)
            )
        except NotBegun:
            raise RemoteError(protocol.NOT_BEGUN, self._once.session.hex()) from None
        except Repeated:
            raise RemoteError(protocol.REPEATED, "this message came before") from None

    async def damaged(self, message: IndexDamaged, caller: Caller) -> Heard:
        """End, so that the next start makes the index again; not for one that was replaced."""
        if not caller.local:
            raise RemoteError("forbidden", "the catalog serves its own machine only")
        if message.index_id == self._index_id:
            self.catalog.writer.distrust(message.reason[:REASON_MAX])
        return Heard()

    async def _commit(self, message: Commit) -> Committed:
        batches: list[Batch | BadBatch] = []
        for raw in message.batches:
            try:
                batches.append(decode_batch(raw))
            except BadBatch as error:
                batches.append(error)
        try:
            done = await self.catalog.commit_all(batches)
        except CommitUncertain as error:
            raise RemoteError(protocol.UNCERTAIN, str(error)) from None
        except CatalogFull as error:
            raise RemoteError(protocol.FULL, str(error)) from None
        except CatalogUnavailable as error:
            raise RemoteError(protocol.UNAVAILABLE, str(error)) from None
        outcomes = [_outcome(batch, one) for batch, one in zip(batches, done, strict=True)]
        return Committed(outcomes, self._index_id)


def _outcome(batch: Batch | BadBatch, done: int | Exception) -> Outcome:
    if isinstance(done, int):
        return Outcome(done)
    if isinstance(done, Conflict) and isinstance(batch, Batch):
        return Outcome(0, protocol.index_of(batch, done.failed))
    code = protocol.BAD if isinstance(done, BadBatch) else protocol.DAMAGED
    return Outcome(0, code=code, reason=str(done)[:REASON_MAX])


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
    settled = False
    while True:
        await clock.sleep(HOUSEKEEPING_SECONDS)
        try:
            if not settled:
                await compactor.catalog.writer.run(compactor.store.settle)
            settled = True
            await compactor.work()
        except (OSError, CatalogUnavailable, CatalogDamaged) as error:
            logger.warning("compaction stopped and tries again later: %s", error)
