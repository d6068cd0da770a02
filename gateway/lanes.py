"""Work that runs beside the event loop, in order within a lane, lanes in parallel.

A hop to a thread costs 40 µs, so a lane takes what has queued up in one hop, and the event loop is
woken once per chunk, by the lane that finishes last.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol

from chain.net.transport import Buffer

Job = Callable[[], None]


class Feed(Protocol):
    """What takes a stream's bytes beside the event loop."""

    def push(self, data: Buffer, done: Job, *, hurry: bool) -> None:
        """Take more bytes, after all before; then call `done` in some thread.

        `hurry`: no more come before these are done. Else they may wait for more.
        """
        ...

    def close(self) -> None:
        """Forget what is not begun."""
        ...


class Lane:
    """Runs jobs one after the other on a shared executor. Jobs must not raise."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._jobs: deque[Job] = deque()
        self._lock = threading.Lock()
        self._running = False

    def push(self, job: Job) -> None:
        """Run `job` after all that were pushed before."""
        with self._lock:
            self._jobs.append(job)
            if self._running:
                return
            self._running = True
        self._executor.submit(self._drain)

    def abandon(self) -> None:
        """Forget the jobs that have not begun."""
        with self._lock:
            self._jobs.clear()

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._running = False
                    return
                job = self._jobs.popleft()
            job()


class Updates:
    """Feeds functions, one after the other, in a lane."""

    def __init__(self, executor: Executor, functions: Sequence[Callable[[Buffer], None]]) -> None:
        self._lane = Lane(executor)
        self._functions = functions

    def push(self, data: Buffer, done: Job, *, hurry: bool) -> None:  # noqa: ARG002 - a Feed
        """See Feed."""
        self._lane.push(lambda: self._take(data, done))

    def close(self) -> None:
        """See Feed."""
        self._lane.abandon()

    def _take(self, data: Buffer, done: Job) -> None:
        for function in self._functions:
            function(data)
        done()


class Countdown:
    """Calls `done` on the event loop after `count` calls of `hit` from any threads."""

    __slots__ = ("_count", "_done", "_lock", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int, done: Job) -> None:
        self._loop = loop
        self._count = count
        self._done = done
        self._lock = threading.Lock()

    def hit(self) -> None:
        """One of the parties is through."""
        with self._lock:
            self._count -= 1
            if self._count:
                return
        call_on(self._loop, self._done)


def call_on(loop: asyncio.AbstractEventLoop, job: Job) -> None:
    """Run `job` on the loop soon; a loop that was closed meanwhile needs nothing any more."""
    try:
        loop.call_soon_threadsafe(job)
    except RuntimeError:
        if not loop.is_closed():
            raise
