"""One budget of reusable buffers per process; waiting for one is the back-pressure.

Fresh anonymous memory costs a page fault per 4 KiB (0.25 CPU s per GiB), so buffers are kept and
handed out again. They are page-aligned (O_DIRECT) and of few sizes.

A slow miner's send queue or a client's socket may hold slices of a buffer after its transfer gave
it back. Every slice keeps a reference to the mapping, so the pool can see that, and never hands out
memory that someone still looks at.
"""

import asyncio
import contextlib
import mmap
import sys
from collections import deque

from chain.net.shared import Arena, Range

_SMALLEST = 64 << 10
# Buffers that nobody needed for so long go back to the system: an idle gateway is small.
IDLE_SECONDS = 10.0
_PRIVATE = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)
_HUGE_FROM = 2 << 20
# Given back, but still looked at: kept for a while in the hope that it comes free.
_RESTING_MAX = 16


Memory = mmap.mmap | Range


class Buffer:
    """`view` is as long as was asked for. Give it back to the pool it came from."""

    __slots__ = ("_memory", "capacity", "view")

    def __init__(self, memory: Memory, capacity: int, size: int) -> None:
        self._memory = memory
        self.capacity = capacity
        whole = memoryview(memory) if isinstance(memory, mmap.mmap) else memory.data
        self.view = whole[:size]

    def detach(self) -> Memory:
        """Let go of the memory."""
        self.view = memoryview(b"")
        memory, self._memory = self._memory, _NOTHING
        return memory


_NOTHING = mmap.mmap(-1, 1)


class BufferPool:
    """At most `limit` bytes of buffers in use or kept. For one event loop."""

    def __init__(self, limit: int, arena: Arena | None = None) -> None:
        """`arena`: where to take the buffers from, while it has room."""
        self._limit = limit
        self._arena = arena
        self._used = 0
        self._free: dict[int, list[Memory]] = {}
        self._resting: deque[Memory] = deque()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._taken = 0.0  # when a buffer was handed out last
        self._idle: asyncio.TimerHandle | None = None

    def try_reserve(self, size: int) -> bool:
        """Count `size` bytes that others hold (received frames) if there is room and nobody waits.

        `release` them.
        """
        if self._waiting or not self._fits(size):
            return False
        self._used += size
        return True

    def release(self, size: int) -> None:
        """The inverse of `try_reserve`."""
        if size:
            self._used -= size
            self._wake()

    @property
    def in_use(self) -> int:
        """Bytes handed out or reserved, and bytes given back that someone still looks at."""
        kept = self.kept
        return self._used - kept

    @property
    def kept(self) -> int:
        """Bytes of buffers that wait to be handed out again."""
        self._sweep()
        return sum(size * len(kept) for size, kept in self._free.items())

    async def take(self, size: int) -> Buffer:
        """A buffer of `size` bytes, as soon as the budget has room; first come, first served."""
        capacity = _capacity(size)
        assert capacity <= self._limit, "a buffer larger than the whole budget"
        if self._waiting or not self._room(capacity):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((capacity, turn))
            self._wake()
            try:
                await turn
            except asyncio.CancelledError:
                self._waiting.remove((capacity, turn))
                self._wake()
                raise
            self._waiting.remove((capacity, turn))
            buffer = self._make(capacity, size)
            self._wake()
            return buffer
        return self._make(capacity, size)

    def try_take(self, size: int) -> Buffer | None:
        """A buffer if there is room now and nobody waits, else None."""
        capacity = _capacity(size)
        if self._waiting or capacity > self._limit or not self._room(capacity):
            return None
        return self._make(capacity, size)

    def give(self, buffer: Buffer) -> None:
        """Take a buffer back."""
        self._resting.append(buffer.detach())
        self._wake()
        if self._idle is None:
            self._relax_at(asyncio.get_running_loop().time() + IDLE_SECONDS)

    def _relax_at(self, when: float) -> None:
        self._idle = asyncio.get_running_loop().call_at(when, self._relax)

    def _relax(self) -> None:
        """Let go of what is kept once no buffer was taken for a while."""
        self._idle = None
        rested = self._taken + IDLE_SECONDS
        if asyncio.get_running_loop().time() < rested:
            self._relax_at(rested)
            return
        self._sweep()
        self._used -= sum(len(memory) for kept in self._free.values() for memory in kept)
        self._free.clear()
        if self._arena is not None:
            self._arena.trim()

    def _sweep(self) -> None:
        """Move what nobody looks at any more to the free buffers."""
        for _ in range(len(self._resting)):
            memory = self._resting.popleft()
            if sys.getrefcount(memory) == 2:  # `memory` and the argument
                self._free.setdefault(len(memory), []).append(memory)
            else:
                self._resting.append(memory)
        while len(self._resting) > (0 if self._waiting else _RESTING_MAX):
            # Left to those who look at it; it is unmapped when they let go.
            self._used -= len(self._resting.popleft())

    def _make(self, capacity: int, size: int) -> Buffer:
        self._taken = asyncio.get_running_loop().time()
        kept = self._free.get(capacity)
        if kept:
            return Buffer(kept.pop(), capacity, size)
        self._used += capacity
        shared = None if self._arena is None else self._arena.take(capacity)
        return Buffer(_map(capacity) if shared is None else shared, capacity, size)

    def _room(self, capacity: int) -> bool:
        self._sweep()
        return bool(self._free.get(capacity)) or self._fits(capacity)

    def _fits(self, size: int) -> bool:
        self._sweep()
        for kept in self._free.values():
            while kept and self._used + size > self._limit:
                self._used -= len(kept.pop())
        return self._used + size <= self._limit

    def _wake(self) -> None:
        """Let the first in line go on if there is room; it takes its buffer when it runs."""
        if self._waiting and not self._waiting[0][1].done() and self._room(self._waiting[0][0]):
            self._waiting[0][1].set_result(None)


def _map(size: int) -> mmap.mmap:
    """Fresh memory. Private: Python's default is shared, whose faults cost twice as much.

    Long buffers ask for huge pages: one fault for 512. 12 MiB filled for the first time took
    0.4 ms instead of 7.1 (shared) or 4.5 (private).
    """
    if not _PRIVATE:
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=_PRIVATE)
    if size >= _HUGE_FROM and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _capacity(size: int) -> int:
    """The next of 64 KiB · 2^i · {8..15} / 8, or of 512 KiB: few sizes, at most an eighth wasted.

    Frames are a few bytes longer than a round number.
    """
    if size <= _SMALLEST:
        return _SMALLEST
    step = min(max(4096, 1 << (size - 1).bit_length() - 4), 512 << 10)
    return -(-size // step) * step
