"""The one writer: groups of commits, judged on the event loop and brought to stable storage.

There is no artificial delay: a group is what queued up while the group before was being synced.
The loop waits itself for a disk that is quick: handing a group of two commits to a thread and back
costs 11 futex calls, a fifth of the process's CPU. A slow disk is a thread's to wait for, so that
the loop goes on with all else.
"""

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from chain.pace import Pace
from gateway.catalog.group import Move
from gateway.catalog.interface import BadBatch, Batch, CatalogUnavailable, CommitUncertain
from gateway.catalog.judge import check
from gateway.catalog.log import LogFailed
from gateway.catalog.store import CatalogStore, Item, Outcome, Pending

logger = logging.getLogger(__name__)

GROUP_BATCHES_MAX = 512
GROUP_BYTES_MAX = 4 << 20
PENDING_MAX = 8192
PENDING_BYTES_MAX = 64 << 20
# Larger groups are a thread's to write, however quick the disk is.
INLINE_BYTES = 256 << 10

T = TypeVar("T")
_Step = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class _Entry(NamedTuple):
    """Batches (or moves) to commit, or a job to run between groups; and who waits for them."""

    items: list[Item]
    job: Callable[[], Any] | None
    size: int
    future: "asyncio.Future[Any]"


class CatalogWriter:
    """Commits for one event loop, which alone uses the store while the thread is idle.

    `failed` is set when the disk failed under the log: the process should end and start anew.
    """

    def __init__(self, store: CatalogStore, *, monotonic: Callable[[], float]) -> None:
        self.store = store
        self._monotonic = monotonic
        self._pace = Pace()
        self.failed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._steps: queue.SimpleQueue[_Step | None] = queue.SimpleQueue()
        self._waiting: deque[_Entry] = deque()
        self._work: asyncio.Task[None] | None = None
        self._pending = 0
        self._pending_bytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="catalog-writer", daemon=True)
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
        self._waiting.append(entry)
        # The task begins with the next turn of the loop: commits that came together stay together.
        if self._work is None:
            self._work = self._loop.create_task(self._run())

    async def _run(self) -> None:
        """Work off what waits."""
        while self._waiting:
            entry = self._waiting[0]
            if entry.job is not None:
                self._waiting.popleft()
                self._deliver([(entry, await self._step(entry.job))])
            else:
                self._deliver(await self._commit(_group_of(self._waiting)))
        self._work = None

    async def _commit(self, group: list[_Entry]) -> list[tuple[_Entry, Any]]:
        store = self.store
        if store.failed is not None:
            return _all(group, CatalogUnavailable, f"{store.failed}")
        try:
            if store.log.full:
                _raise(await self._step(store.make_room))
            pending = store.prepare([item for entry in group for item in entry.items])
            try:
                if pending.group.records:
                    await self._bring_down(pending)
                outcomes = iter(store.finish(pending))
            except BaseException as error:
                store.break_off(pending, error)
                raise
        except CatalogUnavailable as error:
            return _all(group, type(error), str(error))
        except LogFailed as error:
            return _all(group, CommitUncertain, str(error))
        except Exception as error:
            logger.exception("a group of commits broke off")
            store.failed = store.failed or LogFailed(f"the writer broke: {error!r}")
            return _all(group, CommitUncertain, repr(error))
        return [(entry, [next(outcomes) for _ in entry.items]) for entry in group]

    async def _bring_down(self, pending: Pending) -> None:
        """To stable storage."""
        small = sum(map(len, pending.group.records)) <= INLINE_BYTES
        began = self._monotonic()
        if small and self._pace.quick:
            self.store.write(pending)
        else:
            _raise(await self._step(lambda: self.store.write(pending)))
        if small:
            self._pace.took(self._monotonic() - began)

    async def _step(self, job: Callable[[], Any]) -> Any:
        """Run `job` in the thread; its result, or the exception as a value."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._steps.put((job, future))
        return await future

    def _deliver(self, done: list[tuple[_Entry, Any]]) -> None:
        if self.store.failed is not None:
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

    def distrust(self, reason: str) -> None:
        """A reader met damage in the index: stop, and let the next start make it again.

        May be called in any thread.
        """
        self._loop.call_soon_threadsafe(self._distrust, reason)

    def _distrust(self, reason: str) -> None:
        if self.store.failed is None:
            logger.error("%s", self.store.distrust(reason))
        self.failed.set()

    async def close(self) -> None:
        """Commit what is queued, then end the thread. The store stays open."""
        if not self._closed:
            self._closed = True
            if self._work is not None:
                await self._work
            self._steps.put(None)
            await asyncio.to_thread(self._thread.join)

    # ------------------------------------------------------------------ thread's side
    def _serve(self) -> None:
        while (step := self._steps.get()) is not None:
            job, future = step
            outcome = _attempt(job)
            try:
                self._loop.call_soon_threadsafe(_resolve, future, outcome)
            except RuntimeError:
                logger.warning("the event loop ended before the catalog's writer")
            del step, job, future, outcome


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


def _attempt(job: Callable[[], Any]) -> Any:
    try:
        return job()
    except Exception as error:  # noqa: BLE001 - handed to whoever waits
        return error


def _resolve(future: "asyncio.Future[Any]", outcome: Any) -> None:
    if not future.done():
        future.set_result(outcome)


def _raise(outcome: Any) -> None:
    if isinstance(outcome, Exception):
        raise outcome
