"""Bounds of background work: bytes in memory at once, bytes a second."""

import asyncio

from chain.clock import Clock


class MemoryBudget:
    """At most so many bytes are held at once; what is larger than all of it is held alone."""

    def __init__(self, total: int) -> None:
        assert total > 0
        self._total = total
        self._free = total
        self._given = asyncio.Event()

    async def take(self, size: int) -> int:
        """Wait for `size` bytes; what to give back. Used by one task."""
        taken = min(size, self._total)
        while self._free < taken:
            self._given.clear()
            await self._given.wait()
        self._free -= taken
        return taken

    def give(self, taken: int) -> None:
        """Give back what `take` returned."""
        self._free += taken
        self._given.set()


class Pace:
    """At most `rate` bytes a second on the average, none saved up."""

    def __init__(self, rate: float, clock: Clock) -> None:
        assert rate > 0
        self._rate = rate
        self._clock = clock
        self._next = float("-inf")

    async def take(self, size: int) -> None:
        """Wait until `size` bytes may begin. Used by one task."""
        now = self._clock.monotonic()
        if now < self._next:
            await self._clock.sleep(self._next - now)
        self._next = max(now, self._next) + size / self._rate
