"""Writes of small segments begin together, so that they share messages and commits.

A message costs wake-ups and a commit a sync, whatever they carry. Clients that were answered
together come again together, one a few milliseconds after the other. So a write that had company
lately waits a moment for it; a lone one waits for nobody.
See docs/adr/135-small-writes-begin-together.md.
"""

import asyncio

# Longest wait; and never longer than the last write took, as a faster disk has less to share.
GATHER_SECONDS = 0.01
# So many begin at once: more in a message and a commit would save little.
COMPANY_MAX = 8


class Company:
    """`async with` it around a write. For one event loop."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._open = 0  # waiting or being written
        self._most = self._before = 0  # that were open at once: in this round, in the last one
        self._began = self._took = 0.0

    async def __aenter__(self) -> None:
        self._open += 1
        self._most = max(self._most, self._open)
        if len(self._waiting) + 1 >= min(max(self._most, self._before), COMPANY_MAX):
            self._begin()
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(future)
        if self._timer is None:
            self._timer = loop.call_later(min(GATHER_SECONDS, self._took), self._begin)
        try:
            await future
        except BaseException:
            self._open -= 1
            if future in self._waiting:
                self._waiting.remove(future)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._open -= 1
        self._took = asyncio.get_running_loop().time() - self._began

    def _begin(self) -> None:
        """Everyone who is here begins, and the next round gathers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._began = asyncio.get_running_loop().time()
        self._before, self._most = self._most, self._open
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
