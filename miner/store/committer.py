"""What changes the fragment store: jobs in the order they came, in batches.

A batch is what came in one turn of the event loop, or what waited while the last one was made
durable: one fdatasync and one index transaction for all of it.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chain.clock import Clock
from chain.pace import Pace
from miner.store.compaction import Compactor
from miner.store.interface import Batch, Stored, StoreError, StoreFailed
from miner.store.journal import Journal, NewFragment, Outcome

log = logging.getLogger(__name__)

BATCH_BYTES, BATCH_FRAGMENTS = 64 * 1024**2, 4096
# What the event loop commits itself: so many bytes are hashed and copied in 0.1 ms.
INLINE_BYTES, INLINE_DROPS = 256 * 1024, 64
# Space given up by batches of the event loop is given back by the thread, so much later.
TIDY_SECONDS = 1.0


@dataclass(slots=True)
class Put:
    """Store a fragment."""

    new: NewFragment
    future: "asyncio.Future[Stored]"


@dataclass(slots=True)
class Drop:
    """Forget fragments; gives how many there were."""

    keys: Sequence[bytes]
    future: "asyncio.Future[int]"


@dataclass(slots=True)
class DropDamaged:
    """Forget those that are damaged on the disk; gives how many."""

    keys: Sequence[bytes]
    future: "asyncio.Future[int]"


@dataclass(slots=True)
class Confirm:
    """Mark fragments as wanted by a placement."""

    keys: Sequence[bytes]
    future: "asyncio.Future[None]"


@dataclass(slots=True)
class Compact:
    """Give back all the space that can be given back."""

    future: "asyncio.Future[None]"


class _Tidy:
    """Give back space if that is cheap; nobody waits for it."""


Job = Put | Drop | DropDamaged | Confirm | Compact


class _Done(NamedTuple):
    job: Job
    result: Stored | int | StoreError | None


class Committer:
    """Takes jobs from one event loop to the journal.

    The loop itself commits a few small fragments while the disk is quick: handing a batch to a
    thread and back costs nine futex calls. All else is the thread's: large batches, compaction,
    and a disk that makes one wait. `damaged` tells which of some keys do not read.
    """

    def __init__(
        self,
        journal: Journal,
        damaged: Callable[[Sequence[bytes]], list[bytes]],
        clock: Clock,
    ) -> None:
        self.waiting = 0  # bytes of fragments that wait
        self._journal = journal
        self._compactor = Compactor(journal)
        self._damaged = damaged
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn: list[Job] = []
        self._pace = Pace()
        self._handed = 0  # jobs that the thread has
        self._changing = threading.Lock()  # held by whoever uses the journal
        self._tidying: asyncio.TimerHandle | None = None
        self._jobs: queue.SimpleQueue[Job | _Tidy | None] = queue.SimpleQueue()
        self._held_back: Job | None = None
        self._thread = threading.Thread(target=self._run, name="fragment-commit", daemon=True)
        self._thread.start()

    # ---- the event loop's side

    def submit(self, job: Job) -> None:
        """Queue a job; its future is answered in a later turn of the running loop."""
        if isinstance(job, Put):
            self.waiting += len(job.new.payload)
        self._turn.append(job)
        if len(self._turn) == 1:
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._end_turn)

    @property
    def idle(self) -> bool:
        """Whether the thread has nothing to do."""
        return not self._handed and not self._changing.locked()

    def _end_turn(self) -> None:
        jobs, self._turn = self._turn, []
        if not jobs:
            return
        inline = self._pace.quick and self.idle and _is_small(jobs)
        if inline and self._changing.acquire(blocking=False):
            try:
                done = self._commit(jobs)
            finally:
                self._changing.release()
            if isinstance(jobs[-1], Drop):
                self._tidy_later()
            self._answer(done)
            return
        self._handed += len(jobs)
        for job in jobs:
            self._jobs.put(job)

    def _tidy_later(self) -> None:
        if self._tidying is None and self._loop is not None:
            self._tidying = self._loop.call_later(TIDY_SECONDS, self._hand_tidy)

    def _hand_tidy(self) -> None:
        self._tidying = None
        self._jobs.put(_Tidy())

    def _finish(self, done: list[_Done]) -> None:
        self._handed -= len(done)
        self._answer(done)

    def _answer(self, done: list[_Done]) -> None:
        for job, result in done:
            if isinstance(job, Put):
                self.waiting -= len(job.new.payload)
            if job.future.done():
                continue
            if isinstance(result, StoreError):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)  # type: ignore[arg-type]

    def stop(self) -> None:
        """Take no more jobs; `join` returns when those that came are done."""
        self._end_turn()
        if self._tidying is not None:
            self._tidying.cancel()
        self._jobs.put(None)

    def join(self) -> None:
        """Wait for the thread."""
        self._thread.join()

    # ---- the thread's side

    def _run(self) -> None:
        stop = False
        while not stop:
            jobs, stop = self._take()
            with self._changing:
                if jobs:
                    done = self._commit(jobs)
                    try:
                        assert self._loop is not None
                        self._loop.call_soon_threadsafe(self._finish, done)
                    except RuntimeError:
                        return  # the loop is gone, and with it everyone who waited
                if not stop:
                    self._tidy()

    def _take(self) -> tuple[list[Job], bool]:
        """What waits, up to a batch, and whether to stop after it.

        A batch stores first and drops then, so a put that comes after a drop begins a new one.
        """
        jobs: list[Job] = []
        size, drops = 0, False
        job = self._held_back or self._jobs.get()
        self._held_back = None
        while True:
            if job is None:
                return jobs, True
            if isinstance(job, _Tidy):
                return jobs, False
            if drops and isinstance(job, Put):
                self._held_back = job
                return jobs, False
            jobs.append(job)
            drops = drops or isinstance(job, Drop)
            size += len(job.new.payload) if isinstance(job, Put) else 0
            if size >= BATCH_BYTES or len(jobs) >= BATCH_FRAGMENTS:
                return jobs, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, False

    def _commit(self, jobs: list[Job]) -> list[_Done]:
        began = self._clock.monotonic()
        done = self._commit_batch(jobs)
        if _is_small(jobs):
            self._pace.took(self._clock.monotonic() - began)
        return done

    def _commit_batch(self, jobs: list[Job]) -> list[_Done]:
        puts = [job for job in jobs if isinstance(job, Put)]
        drops = [key for job in jobs if isinstance(job, Drop) for key in job.keys]
        now_ns = self._clock.now_ns()
        damaged: set[bytes] = set()
        try:
            suspects = {key for job in jobs if isinstance(job, DropDamaged) for key in job.keys}
            # A put of what is here gets a receipt for it, so that must be whole.
            index = self._journal.index
            suspects |= index.present(put.new.key for put in puts)
            if suspects:
                damaged.update(self._damaged(list(suspects)))
            if damaged:
                self._journal.commit([], list(damaged), now_ns)
            held: set[bytes] = set()
            if drops:
                held = {put.new.key for put in puts}.intersection(drops) | index.present(drops)
            outcome = self._journal.commit([put.new for put in puts], drops, now_ns)
            for job in jobs:
                if isinstance(job, Confirm):
                    self._journal.confirm(job.keys)
                elif isinstance(job, Compact):
                    self._journal.retire()
                    while self._compactor.step(now_ns):
                        pass
        except StoreError as error:
            return [_Done(job, error) for job in jobs]
        except Exception as error:
            log.exception("a batch failed")
            return [_Done(job, StoreFailed(f"{type(error).__name__}: {error}")) for job in jobs]
        return self._results(jobs, puts, outcome, held | damaged, now_ns)

    def _results(
        self, jobs: list[Job], puts: list[Put], outcome: Outcome, held: set[bytes], now_ns: int
    ) -> list[_Done]:
        good = [put for put, error in zip(puts, outcome.errors, strict=True) if error is None]
        fragments = tuple((put.new.id, len(put.new.payload)) for put in good)
        batch = Batch(outcome.number, now_ns, fragments)
        done = [_Done(put, Stored(batch, position)) for position, put in enumerate(good)]
        done += [
            _Done(put, error)
            for put, error in zip(puts, outcome.errors, strict=True)
            if error is not None
        ]
        for job in jobs:
            if isinstance(job, Drop | DropDamaged):
                done.append(_Done(job, len(held.intersection(job.keys))))
            elif isinstance(job, Confirm | Compact):
                done.append(_Done(job, None))
        return done

    def _tidy(self) -> None:
        try:
            self._journal.retire()
            # Compaction yields to every writer: one step, then the queue again.
            while (
                self._jobs.empty()
                and not self._held_back
                and self._compactor.step(self._clock.now_ns())
            ):
                pass
        except StoreError as error:
            log.warning("cannot give space back now: %s", error)
        except Exception:
            log.exception("cannot give space back")


def _is_small(jobs: list[Job]) -> bool:
    """Whether it is one batch of a few small fragments, and then of drops."""
    size, drops = 0, 0
    for job in jobs:
        if isinstance(job, Put) and not drops:
            size += len(job.new.payload)
        elif isinstance(job, Drop):
            drops += len(job.keys)
        else:
            return False
    return size <= INLINE_BYTES and drops <= INLINE_DROPS
