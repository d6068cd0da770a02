"""Memory that a caller shares with the services of its machine: long payloads need no socket.

An `Arena` is one memfd of the caller. Payloads that lie in it are sent by place and length, and
the service copies them, or works on them where they lie. For a reply that will be long the caller
lends a room in it; the service fills that and answers with the place.

Rules:
1. Only the arena's owner gives memory out, takes it back and makes holes.
2. A room is lent to one ask. Until that is answered nobody else gets it; when the connection broke
   first, nobody ever does: the service may still write to it.
3. What a service gets by place may have changed since: it copies first and checks the copy; or it
   uses a view and checks that when it is done with it (`Message.in_place`).
4. Pages are allocated before they are lent, so that touching them cannot fail; what finds no
   memory here is sent through the socket.
See docs/specs/wire.md, "Shared memory", and docs/adr/143.
"""

import asyncio
import contextlib
import fcntl
import mmap
import os
import stat
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chain import holes
from chain.net.transport import Buffer
from chain.net.wire import MalformedFrame

PAGE = mmap.PAGESIZE
# An arena's largest size: address space, not memory.
ARENA_MAX = 1 << 40
# Shorter payloads are copied into the socket: that costs less than a system call of their own.
REFERENCE_MIN = 64 << 10
# Payloads from here on are read where they lie, by services that stand it; copying what is shorter
# costs no more than the care it takes.
VIEW_MIN = 256 << 10
# Rooms that nobody needed for so long go back to the system.
IDLE_SECONDS = 10.0
_SEALS = getattr(fcntl, "F_SEAL_SHRINK", 0) | getattr(fcntl, "F_SEAL_GROW", 0)


class Reference(NamedTuple):
    """A payload that lies in the caller's arena."""

    offset: int
    size: int


class Room(NamedTuple):
    """Where in the caller's arena the payload of its reply may be put."""

    offset: int
    size: int


# A part of an arena. Views of it keep it.
Range = NDArray[np.uint8]


class Arena:
    """The owner's side. All but letting go of ranges is for one thread.

    `rooms` is how many bytes may be lent for replies, or be kept for that, at once. Memory that is
    let go stays for whoever takes some next, of whatever size, until `trim`; when more than `limit`
    bytes would be there, as much goes of what nobody has. Who takes memory gets what is there
    first: a page that is met for the first time costs 0.5 CPU s/GiB, a hole the same again.
    """

    def __init__(self, fd: int, size: int, rooms: int, limit: int) -> None:
        self.fd = fd
        self.size = size
        self.rooms = rooms
        self._limit = limit
        self._map = np.frombuffer(mmap.mmap(fd, size), np.uint8)
        self._address = address_of(self._map)
        self._free: list[tuple[int, int]] = [(0, size)]  # sorted, never adjacent
        self._pages = np.zeros(size // PAGE, np.bool_)  # memory is behind it
        self._left: deque[tuple[int, int]] = deque()  # let go, in any thread
        self._retired: set[int] = set()
        weakref.finalize(self, os.close, fd)

    @classmethod
    def create(cls, size: int, *, rooms: int, limit: int) -> "Arena | None":
        """`size` bytes of address space, or None where memory cannot be shared."""
        size = -(-size // PAGE) * PAGE
        assert 0 < size <= ARENA_MAX
        if sys.platform != "linux":
            return None
        try:
            fd = os.memfd_create("cumulus", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:
            return None
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return cls(fd, size, rooms, limit)
        except (OSError, ValueError):
            os.close(fd)
            return None

    def take(self, size: int) -> Range | None:
        """Memory of `size` bytes, a multiple of the page size; None when there is none left.

        It goes back when nobody looks at it any more.
        """
        assert size % PAGE == 0
        self._collect()
        start = self._best(size)
        if start is None:
            return None
        self._cut(start, start + size)
        if not self._populate(start, start + size):
            self._left.append((start, start + size))
            return None
        found: Range = self._map[start : start + size]
        weakref.finalize(found, self._left.append, (start, start + size)).atexit = False
        return found

    def _best(self, size: int) -> int | None:
        """Where to take `size` bytes: at an end of a free range, where most memory is."""
        ends = ((start, end - size) for start, end in self._free if end - start >= size)
        places = (place for pair in ends for place in pair)
        return max(places, key=lambda place: self._behind(place, place + size), default=None)

    def _behind(self, start: int, end: int) -> int:
        """How many pages of a range have memory behind them."""
        return int(np.count_nonzero(self._pages[start // PAGE : end // PAGE]))

    def _cut(self, start: int, end: int) -> None:
        """Take a part out of the free range that it lies in."""
        at = next(n for n, (low, high) in enumerate(self._free) if low <= start and end <= high)
        low, high = self._free[at]
        rest = ((low, start), (end, high))
        self._free[at : at + 1] = [(low, high) for low, high in rest if low < high]

    def start_of(self, taken: Range) -> int:
        """Where in the arena it begins."""
        return address_of(taken) - self._address

    def reference(self, payload: Buffer) -> Reference | None:
        """Where a payload lies in the arena; None for what is better sent as it is."""
        if len(payload) < REFERENCE_MIN or type(payload) is not memoryview:
            return None
        if not payload.contiguous:
            return None
        offset = address_of(payload) - self._address
        return Reference(offset, len(payload)) if 0 <= offset < self.size else None

    def retire(self, lent: Range) -> None:
        """Give its memory back now, and never hand out its place again."""
        start = self.start_of(lent)
        self._retired.add(start)
        self._punch(start, start + len(lent))

    def trim(self) -> None:
        """Give the memory that nobody has back to the system."""
        self._collect()
        self._drop(len(self._pages))

    def _drop(self, count: int) -> None:
        """Give back the memory of `count` pages that nobody has: of the shortest ranges first."""
        for start, end in sorted(self._free, key=lambda free: free[1] - free[0]):
            if count <= 0:
                return
            there = np.flatnonzero(self._pages[start // PAGE : end // PAGE])[-count:]
            if len(there):
                self._punch(start + int(there[0]) * PAGE, end)
                count -= len(there)

    def _populate(self, start: int, end: int) -> bool:
        """See that memory is behind it; False when there is none."""
        missing = (end - start) // PAGE - self._behind(start, end)
        if not missing:
            return True
        self._drop(self._behind(0, self.size) + missing - self._limit // PAGE)
        try:
            os.posix_fallocate(self.fd, start, end - start)
        except OSError:
            self._punch(start, end)
            return False
        self._pages[start // PAGE : end // PAGE] = True
        return True

    def _punch(self, start: int, end: int) -> None:
        self._pages[start // PAGE : end // PAGE] = False
        holes.punch(self.fd, start, end)

    def _collect(self) -> None:
        """Put ranges that were let go among the free ones."""
        came = False
        while self._left:
            start, end = self._left.popleft()
            if start not in self._retired:
                self._free.append((start, end))
                came = True
        if not came:
            return
        merged: list[tuple[int, int]] = []
        for start, end in sorted(self._free):
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        self._free = merged


class Loan:
    """A room that is lent to one ask. One of `answered` and `lost` is called, once."""

    __slots__ = ("_memory", "_peer", "_rooms")

    def __init__(self, rooms: "Rooms", peer: object, memory: Range) -> None:
        self._rooms = rooms
        self._peer = peer
        self._memory = memory

    @property
    def room(self) -> Room:
        """Where it is."""
        return Room(self._rooms.arena.start_of(self._memory), len(self._memory))

    def frames(self, frames: Sequence[Buffer | Reference | Room]) -> list[Buffer]:
        """A reply's frames, those that lie in the room as views. Raises MalformedFrame."""
        return [
            self._view(frame) if isinstance(frame, Reference | Room) else frame for frame in frames
        ]

    def _view(self, place: Reference | Room) -> memoryview:
        start = place.offset - self._rooms.arena.start_of(self._memory)
        if start < 0 or start + place.size > len(self._memory):
            raise MalformedFrame("a reply beyond its room")
        return self._memory.data[start : start + place.size]

    def answered(self) -> None:
        """The room is kept for the peer once nobody looks at it."""
        self._rooms.give(self._peer, self._memory)
        del self._memory

    def lost(self) -> None:
        """The peer may write to the room for ever."""
        self._rooms.retire(self._memory)
        del self._memory


class Rooms:
    """An arena's memory lent for replies. What one peer filled is kept for it alone.

    A service that meets a page for the first time pays for a fault (0.2 CPU s/GiB). For one event
    loop.
    """

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.used = 0  # bytes lent, looked at, or kept
        self._lent = 0.0  # when a room was lent last
        self._idle: asyncio.TimerHandle | None = None
        self._kept: dict[object, list[Range]] = {}
        self._resting: deque[tuple[object, Range]] = deque()  # answered, perhaps looked at

    def lend(self, peer: object, size: int) -> Loan | None:
        """Room for `size` bytes and the blocks around them; None when there is none."""
        memory = self._take(peer, _room_bytes(size))
        if memory is None:
            return None
        self._lent = asyncio.get_running_loop().time()
        return Loan(self, peer, memory)

    def _take(self, peer: object, size: int) -> Range | None:
        self._sweep()
        own = _pick(self._kept.get(peer, []), size)
        if own is not None:
            return own
        if self.used + size > self.arena.rooms:
            # Another peer's: its pages are there, if not for this one.
            for kept in sorted(self._kept.values(), key=len, reverse=True):
                found = _pick(kept, size)
                if found is not None:
                    return found
            while self.used + size > self.arena.rooms:
                if not self._drop_one():
                    return None
        made = self.arena.take(size)
        if made is not None:
            self.used += size
        return made

    def give(self, peer: object, room: Range) -> None:
        """The ask was answered: the room is kept for the peer once nobody looks at it."""
        self._resting.append((peer, room))
        if self._idle is None:
            self._relax_at(asyncio.get_running_loop().time() + IDLE_SECONDS)

    def _relax_at(self, when: float) -> None:
        self._idle = asyncio.get_running_loop().call_at(when, self._relax)

    def _relax(self) -> None:
        """Keep nothing once no room was lent for a while."""
        self._idle = None
        now = asyncio.get_running_loop().time()
        if now < self._lent + IDLE_SECONDS:
            self._relax_at(self._lent + IDLE_SECONDS)
            return
        self._sweep()
        self.used -= sum(len(room) for kept in self._kept.values() for room in kept)
        self._kept.clear()
        self.arena.trim()
        if self._resting:
            self._relax_at(now + IDLE_SECONDS)

    def retire(self, room: Range) -> None:
        """The ask will never be answered."""
        self.used -= len(room)
        self.arena.retire(room)

    def forget(self, peer: object) -> None:
        """Keep nothing for this peer; what is looked at goes when it is not any more."""
        for room in self._kept.pop(peer, ()):
            self.used -= len(room)
        for _ in range(len(self._resting)):
            owner, room = self._resting.popleft()
            if owner is peer:
                self.used -= len(room)
            else:
                self._resting.append((owner, room))

    def _sweep(self) -> None:
        for _ in range(len(self._resting)):
            peer, room = self._resting.popleft()
            if sys.getrefcount(room) == 2:  # `room` and the argument
                self._kept.setdefault(peer, []).append(room)
            else:
                self._resting.append((peer, room))

    def _drop_one(self) -> bool:
        """Give up what is kept for whom most is kept for."""
        most = max(self._kept.values(), key=len, default=[])
        if not most:
            return False
        self.used -= len(most.pop(0))
        return True


class Guest:
    """A service's side of a caller's arena. Raises ValueError for what is none."""

    def __init__(self, fd: int, size: int) -> None:
        if not 0 < size <= ARENA_MAX or size % PAGE:
            raise ValueError(f"an arena of {size} bytes")
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise ValueError("not a memory of the size that was said")
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError:
            raise ValueError("not a memory file") from None
        if not seals & fcntl.F_SEAL_SHRINK:
            raise ValueError("its owner could cut it under us")
        self._fd = fd
        self._size = size
        self._map: mmap.mmap | None = None
        self._address = 0

    def copy(self, place: Reference) -> memoryview:
        """A payload in memory of our own. Raises MalformedFrame."""
        self._check(place)
        own = np.empty(place.size, np.uint8).data
        done = 0
        while done < place.size:
            try:
                count = os.preadv(self._fd, [own[done:]], place.offset + done)
            except OSError as error:
                raise MalformedFrame(f"a caller's memory cannot be read: {error}") from None
            if not count:
                raise MalformedFrame("a caller's memory ends early")
            done += count
        return own

    def room(self, place: Room) -> memoryview:
        """The room itself. Raises MalformedFrame."""
        return self._view(place)

    def view(self, place: Reference) -> memoryview:
        """A payload where the caller has it, and may change it. Raises MalformedFrame."""
        return self._view(place).toreadonly()

    def _view(self, place: Reference | Room) -> memoryview:
        self._check(place)
        if self._map is None:
            try:
                self._map = mmap.mmap(self._fd, self._size)
            except (OSError, ValueError) as error:
                raise MalformedFrame(f"a caller's memory cannot be mapped: {error}") from None
            self._address = address_of(self._map)
        return memoryview(self._map)[place.offset : place.offset + place.size]

    def reference(self, payload: Buffer) -> Reference | None:
        """Where a reply's payload lies in the arena; None for what does not."""
        if type(payload) is not memoryview or self._map is None or payload.obj is not self._map:
            return None
        return Reference(address_of(payload) - self._address, len(payload))

    def close(self) -> None:
        """Let go; the mapping stays for handlers that still fill a room."""
        self._map = None
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            os.close(fd)

    def _check(self, place: Reference | Room) -> None:
        if place.offset + place.size > self._size:
            raise MalformedFrame("a place beyond the caller's memory")


def address_of(buffer: Buffer | mmap.mmap | Range) -> int:
    """Where a buffer begins in this process."""
    address: int = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return address


def _pick(kept: list[Range], size: int) -> Range | None:
    """Take the one of this size that was used last."""
    for at in range(len(kept) - 1, -1, -1):
        if len(kept[at]) == size:
            return kept.pop(at)
    return None


def _room_bytes(size: int) -> int:
    """Room for `size` bytes that begin and end within blocks, in few sizes: 64 KiB steps."""
    return -(-(size + 2 * PAGE) // REFERENCE_MIN) * REFERENCE_MIN
