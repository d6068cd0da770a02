"""Programs of the simulated network: they start, are killed at any moment, and start again.

What a program keeps on disk is an attribute of its object; what it keeps in memory lives in `run`.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from typing import Any

from chain.net.simulation import NANOSECONDS, SimClock
from gateway.catalog.interface import CatalogUnavailable
from gateway.errors import ServiceUnavailable, SlowDown
from gateway.hashing.blocks import Hash
from gateway.hashing.machine_code import Unavailable
from tests.simulation.whole.trace import Trace

# What a background task may meet while others are away; a program starts it again.
_PASSING = (CatalogUnavailable, ServiceUnavailable, SlowDown)
_AGAIN_SECONDS = 5.0


class JumpingClock(SimClock):
    """A node's clock: its wall time can be set, as by a person or a time server."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead_ns = 0
        self._passed = 0.0

    def jump(self, seconds: float) -> None:
        """Set the wall time forward (or back); time that is waited for is not touched."""
        self._ahead_ns += int(seconds * NANOSECONDS)

    def let_pass(self, seconds: float) -> None:
        """So much time goes by, on the wall and off it; nobody who waits is woken."""
        self._passed += seconds

    def now_ns(self) -> int:
        """See Clock."""
        return super().now_ns() + self._ahead_ns

    def monotonic(self) -> float:
        """See Clock."""
        return super().monotonic() + self._passed


class InlineExecutor(Executor):
    """Runs at once what is submitted: threads know no virtual time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def nothing_compiled() -> dict[str, Hash]:
    """A machine on which no code is generated."""
    raise Unavailable("simulated")


class Process(ABC):
    """One program under a name that is also its end of every connection."""

    def __init__(self, name: str, trace: Trace) -> None:
        self.name = name
        self.trace = trace
        self.clock = JumpingClock()
        self.problems: list[str] = []
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def run(self) -> None:
        """Until cancelled."""

    @property
    def is_up(self) -> bool:
        """Whether the program runs."""
        return self._task is not None

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin, unless it runs."""
        if self._task is None:
            self.trace.note(f"start {self.name}")
            self._task = group.create_task(self._run())

    async def kill(self) -> None:
        """End it wherever it stands."""
        task, self._task = self._task, None
        if task is not None:
            self.trace.note(f"kill {self.name}")
            task.cancel()
            await asyncio.wait([task])

    async def steadily(self, work: Callable[[], Awaitable[object]]) -> None:
        """Endless work that begins again after what may pass; all else is a finding."""
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - judged here
                cause = root(error)
                self.trace.note(f"{self.name}: {type(cause).__name__}")
                if not isinstance(cause, _PASSING):
                    self.problems.append(f"{self.name}: {cause!r}")
            await self.clock.sleep(_AGAIN_SECONDS)

    async def _run(self) -> None:
        try:
            await self.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            self.problems.append(f"{self.name} crashed: {root(error)!r}")


def root(error: BaseException) -> BaseException:
    """The first error within groups of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
