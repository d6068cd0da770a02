"""The one writer: a thread that commits groups, fed from asyncio.

There is no artificial delay: a group is what queued up while the group before was being synced.
"""

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from gateway.catalog.group import Move
from gateway.catalog.interface import BadBatch, Batch, CatalogUnavailable, CommitUncertain
from gateway.catalog.judge import check
from gateway.catalog.log import LogFailed
from gateway.catalog.store import CatalogStore, Item, Outcome

logger = logging.getLogger(__name__)

GROUP_BATCHES_MAX = 512
GROUP_BYTES_MAX = 4 << 20
PENDING_MAX = 8192
PENDING_BYTES_MAX = 64 << 20

T = TypeVar("T")


class _Entry(NamedTuple):
    """Batches (or moves) to commit, or a job to run between groups; and who waits for them."""

    items: list[Item]
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
        self._queue: queue.SimpleQueue[list[_Entry] | None] = queue.SimpleQueue()
        self._waiting: list[_Entry] = []
        self._pending = 0
        self._pending_bytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="catalog-writer", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ event loop's side
    async def commit(self, batch: Batch) -> int:
        """See Catalog.commit. Raises Conflict, BadBatch, CatalogUnavailable, CatalogDamaged."""
        return _sequence(await self._submit([batch], check(batch)))

    async def commit_all(self, batches: Sequence[Batch | BadBatch]) -> list[int | Exception]:
        """Commit each batch for itself, in order: its sequence number, or why it was refused.

        A batch that could not be read is passed through. Raises CatalogUnavailable.
        """
        size = 0
        items: list[Item] = []
        refused: dict[int, BadBatch] = {}
        for place, batch in enumerate(batches):
            try:
                if isinstance(batch, BadBatch):
                    raise batch
                size += check(batch)
            except BadBatch as error:
                refused[place] = error
            else:
                items.append(batch)
        outcomes = iter(await self._submit(items, size) if items else ())
        return [refused.get(i) or next(outcomes) for i in range(len(batches))]

    async def move(self, moves: Sequence[Move], size: int) -> int:
        """Write bodies again (see Group.move)."""
        return _sequence(await self._submit([moves], size))

    async def run(self, job: Callable[[], T]) -> T:
        """Run a short job in the writer's thread, between groups."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._enqueue(_Entry([], job, 0, future))
        return await future

    async def _submit(self, items: list[Item], size: int) -> list[Outcome]:
        future: asyncio.Future[list[Outcome]] = self._loop.create_future()
        self._enqueue(_Entry(items, None, size, future))
        return await future

    def _enqueue(self, entry: _Entry) -> None:
        if self._closed or self.failed.is_set():
            raise CatalogUnavailable("the catalog's writer has stopped")
        if self._pending >= PENDING_MAX or self._pending_bytes + entry.size > PENDING_BYTES_MAX:
            raise CatalogUnavailable("the catalog's writer has too much to do")
        self._pending += len(entry.items)
        self._pending_bytes += entry.size
        # Handed over at the end of this turn of the loop: commits that came together stay together
        # (8 at once: groups of 8 instead of 1 and 7), and the thread is woken once.
        if not self._waiting:
            self._loop.call_soon(self._hand_over)
        self._waiting.append(entry)

    def _hand_over(self) -> None:
        if self._waiting:
            self._queue.put(self._waiting)
            self._waiting = []

    def _deliver(self, done: list[tuple[_Entry, Any]], failed: bool) -> None:
        if failed:
            self.failed.set()
        for entry, outcome in done:
            self._pending -= len(entry.items)
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
            self._hand_over()
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    # ------------------------------------------------------------------ thread's side
    def _run(self) -> None:
        backlog: deque[_Entry] = deque()
        ended = False
        while not ended or backlog:
            ended = self._fetch(backlog, wait=not backlog and not ended) or ended
            if not backlog:
                continue
            if backlog[0].job is not None:
                entry = backlog.popleft()
                self._report([(entry, _attempt(entry.job))])
            else:
                self._report(self._commit(_group_of(backlog)))

    def _fetch(self, backlog: deque[_Entry], *, wait: bool) -> bool:
        """Take what is queued; returns whether the end was asked for."""
        while True:
            try:
                entries = self._queue.get(block=wait)
            except queue.Empty:
                return False
            if entries is None:
                return True
            backlog.extend(entries)
            wait = False

    def _commit(self, group: list[_Entry]) -> list[tuple[_Entry, Any]]:
        if self.store.failed is not None:
            return _all(group, CatalogUnavailable, f"{self.store.failed}")
        try:
            outcomes = iter(self.store.commit([item for entry in group for item in entry.items]))
        except CatalogUnavailable as error:
            return _all(group, CatalogUnavailable, str(error))
        except LogFailed as error:
            return _all(group, CommitUncertain, str(error))
        except Exception as error:
            logger.exception("a group of commits broke off")
            self.store.failed = self.store.failed or LogFailed(f"the writer broke: {error!r}")
            return _all(group, CommitUncertain, repr(error))
        return [(entry, [next(outcomes) for _ in entry.items]) for entry in group]

    def _report(self, done: list[tuple[_Entry, Any]]) -> None:
        failed = self.store.failed is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, done, failed)
        except RuntimeError:
            logger.warning("the event loop ended before the catalog's writer")


def _group_of(backlog: deque[_Entry]) -> list[_Entry]:
    """The next group: batches up to a limit or up to a job."""
    group = [backlog.popleft()]
    size, count = group[0].size, len(group[0].items)
    while backlog and count < GROUP_BATCHES_MAX and size < GROUP_BYTES_MAX:
        if backlog[0].job is not None:
            break
        size += backlog[0].size
        count += len(backlog[0].items)
        group.append(backlog.popleft())
    return group


def _sequence(outcomes: list[Outcome]) -> int:
    """The one outcome; raises what it was refused for."""
    (outcome,) = outcomes
    if isinstance(outcome, int):
        return outcome
    raise outcome


def _all(
    group: list[_Entry], kind: type[CatalogUnavailable], reason: str
) -> list[tuple[_Entry, Any]]:
    return [(entry, kind(reason)) for entry in group]


def _attempt(job: Callable[[], Any] | None) -> Any:
    assert job is not None
    try:
        return job()
    except Exception as error:  # noqa: BLE001 - handed to whoever waits
        return error
