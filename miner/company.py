"""Writes of small segments begin together, so that they share messages and commits.

See docs/adr/135-small-writes-begin-together.md.
"""

import asyncio

from chain.gathering import Gathering


class Company:
    """`async with` it around a write. For one event loop."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._open = 0  # waiting or being written
        self._gathering = Gathering()

    async def __aenter__(self) -> None:
        self._open += 1
        if self._gathering.complete(len(self._waiting) + 1, self._open):
            self._begin()
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(future)
        if self._timer is None:
            self._timer = loop.call_later(self._gathering.patience, self._begin)
        try:
            await future
        except BaseException:
            self._open -= 1
            if future in self._waiting:
                self._waiting.remove(future)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._open -= 1
        self._gathering.end(asyncio.get_running_loop().time())

    def _begin(self) -> None:
        """Everyone who is here begins, and the next round gathers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._gathering.begin(self._open, asyncio.get_running_loop().time())
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
