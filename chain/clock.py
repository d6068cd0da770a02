"""The only reader of real time and real chance. Everything else takes them as arguments."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Protocol

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


system_entropy: Entropy = os.urandom
