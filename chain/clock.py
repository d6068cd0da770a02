"""The only reader of real time and real chance. Everything else takes them as arguments."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

# n -> n unpredictable bytes. Simulations pass `random.Random(seed).randbytes`.
Entropy = Callable[[int], bytes]


class Clock(Protocol):
    """Wall time for records, monotonic time for waiting."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch (UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; the origin means nothing."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock's time."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Deadline(NamedTuple):
    """A moment by both clocks: it has passed when either says so.

    The wall clock can be set back, the monotonic one stands still while the machine sleeps.
    """

    now_ns: int
    monotonic: float

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Self:
        """In so many seconds."""
        return cls(clock.now_ns() + int(seconds * 1e9), clock.monotonic() + seconds)

    def has_passed(self, clock: Clock) -> bool:
        """Whether it lies behind us."""
        return clock.now_ns() > self.now_ns or clock.monotonic() > self.monotonic

    def or_before(self, other: "Deadline") -> "Deadline":
        """Whichever comes first, by each clock."""
        return Deadline(min(self.now_ns, other.now_ns), min(self.monotonic, other.monotonic))


NEVER = Deadline(1 << 63, float("inf"))

system_entropy: Entropy = os.urandom
