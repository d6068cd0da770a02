"""The one writer: a thread that commits groups, fed from asyncio.

There is no artificial delay: a group is what queued up while the group before was being synced.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from gateway.catalog.interface import Batch, CatalogUnavailable, CommitUncertain
from gateway.catalog.judge import check
from gateway.catalog.log import LogFailed
from gateway.catalog.store import CatalogStore, Item

logger = logging.getLogger(__name__)

GROUP_BATCHES_MAX = 512
GROUP_BYTES_MAX = 4 << 20
PENDING_MAX = 8192
PENDING_BYTES_MAX = 64 << 20

T = TypeVar("T")


class _Entry(NamedTuple):
    """A batch (or moves) to commit, or a job to run between groups; and who waits for it."""

    item: Item | None
    job: Callable[[], Any] | None
    size: int
    future: "asyncio.Future[Any]"


class CatalogWriter:
    """Commits for one event loop. The thread alone touches the store's log and index for writing.

    `failed` is set when the disk failed under the log: the process should end and start anew.
    """

    def __init__(self, store: CatalogStore) -> None:
        self.store = store
        self.failed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._pending = 0
        self._pending_bytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="catalog-writer", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ event loop's side
    async def commit(self, batch: Batch) -> int:
        """See Catalog.commit. Raises Conflict, BadBatch, CatalogUnavailable, CatalogDamaged."""
        return await self._submit(batch, check(batch))

    async def move(self, moves: Item, size: int) -> int:
        """Write bodies again (see Group.move)."""
        return await self._submit(moves, size)

    async def run(self, job: Callable[[], T]) -> T:
        """Run a short job in the writer's thread, between groups."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._enqueue(_Entry(None, job, 0, future))
        return await future

    async def _submit(self, item: Item, size: int) -> int:
        future: asyncio.Future[int] = self._loop.create_future()
        self._enqueue(_Entry(item, None, size, future))
        return await future

    def _enqueue(self, entry: _Entry) -> None:
        if self._closed or self.failed.is_set():
            raise CatalogUnavailable("the catalog's writer has stopped")
        if self._pending >= PENDING_MAX or self._pending_bytes + entry.size > PENDING_BYTES_MAX:
            raise CatalogUnavailable("the catalog's writer has too much to do")
        self._pending += 1
        self._pending_bytes += entry.size
        self._queue.put(entry)

    def _deliver(self, done: list[tuple[_Entry, Any]], failed: bool) -> None:
        if failed:
            self.failed.set()
        for entry, outcome in done:
            self._pending -= 1
            self._pending_bytes -= entry.size
            if entry.future.done():
                continue  # whoever waited was cancelled
            if isinstance(outcome, BaseException):
                entry.future.set_exception(outcome)
            else:
                entry.future.set_result(outcome)

    async def close(self) -> None:
        """Commit what is queued, then end the thread. The store stays open."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    # ------------------------------------------------------------------ thread's side
    def _run(self) -> None:
        following: _Entry | None = None
        ended = False
        while not ended or following is not None:
            entry = following if following is not None else self._queue.get()
            following = None
            if entry is None:
                return
            if entry.job is not None:
                self._report([(entry, _attempt(entry.job))])
                continue
            group, following, ended = self._collect(entry)
            self._report(self._commit(group))

    def _collect(self, first: _Entry) -> tuple[list[_Entry], _Entry | None, bool]:
        """A group from what is queued, what must follow it, and whether the end was asked for."""
        group, size = [first], first.size
        while len(group) < GROUP_BATCHES_MAX and size < GROUP_BYTES_MAX:
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                break
            if entry is None:
                return group, None, True
            if entry.job is not None:
                return group, entry, False
            group.append(entry)
            size += entry.size
        return group, None, False

    def _commit(self, group: list[_Entry]) -> list[tuple[_Entry, Any]]:
        if self.store.failed is not None:
            return _all(group, CatalogUnavailable, f"{self.store.failed}")
        try:
            outcomes = self.store.commit([entry.item for entry in group if entry.item is not None])
        except CatalogUnavailable as error:
            return _all(group, CatalogUnavailable, str(error))
        except LogFailed as error:
            return _all(group, CommitUncertain, str(error))
        except Exception as error:
            logger.exception("a group of commits broke off")
            self.store.failed = self.store.failed or LogFailed(f"the writer broke: {error!r}")
            return _all(group, CommitUncertain, repr(error))
        return list(zip(group, outcomes, strict=True))

    def _report(self, done: list[tuple[_Entry, Any]]) -> None:
        failed = self.store.failed is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, done, failed)
        except RuntimeError:
            logger.warning("the event loop ended before the catalog's writer")


def _all(
    group: list[_Entry], kind: type[CatalogUnavailable], reason: str
) -> list[tuple[_Entry, Any]]:
    return [(entry, kind(reason)) for entry in group]


def _attempt(job: Callable[[], Any]) -> Any:
    try:
        return job()
    except Exception as error:  # noqa: BLE001 - handed to whoever waits
        return error
