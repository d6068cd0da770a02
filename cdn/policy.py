"""What a cache keeps and what it gives up. Pure: keys and sizes in, victims out.

Three rules, each for one job (docs/specs/edge.md):

* `Ghost` (admission): a key is kept from its second request on. A scan of any length, or one
  large download, costs a set insertion per slice and evicts nothing.
* `Gdsf` (RAM): Greedy-Dual-Size-Frequency, Cherkasova 1998. Priority L + frequency / size: the best
  object hit ratio, and an object hit is what latency sees.
* `S3Fifo` (disk): Yang et al., SOSP 2023. Three queues, byte-based: the best byte hit ratio,
  and bytes are what the miners behind pay for.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
_K = TypeVar("_K", bound=Hashable)


class Policy(Protocol[_K]):
    """A byte budget and an order of giving up."""

    capacity: int
    used: int

    def __contains__(self, key: _K) -> bool: ...

    def __len__(self) -> int: ...

    def hit(self, key: _K) -> None:
        """`key`, which is in, was asked for."""
        ...

    def add(self, key: _K, size: int) -> list[_K]:
        """Take `key` in, or change its size; return who must go (maybe `key` itself)."""
        ...

    def remove(self, key: _K) -> None:
        """Forget `key`; nothing happens if it is not in."""
        ...


class Ghost(Generic[K]):
    """The last `limit` keys that were seen, without their bytes."""

    def __init__(self, limit: int) -> None:
        assert limit > 0
        self.limit = limit
        self._seen: OrderedDict[K, None] = OrderedDict()

    def seen(self, key: K) -> bool:
        """Whether `key` was seen lately; it is from now on."""
        if key in self._seen:
            self._seen.move_to_end(key)
            return True
        self._seen[key] = None
        if len(self._seen) > self.limit:
            self._seen.popitem(last=False)
        return False

    def __len__(self) -> int:
        return len(self._seen)


class _Rank:
    __slots__ = ("frequency", "priority", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.frequency = 1
        self.priority = 0.0


class Gdsf(Generic[K]):
    """Greedy-Dual-Size-Frequency over a lazy heap: a hit is O(1), an eviction O(log n)."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._age = 0.0  # L: the priority of the last victim
        self._ranks: dict[K, _Rank] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0  # ties go to the oldest, and keys are never compared

    def __contains__(self, key: K) -> bool:
        return key in self._ranks

    def __len__(self) -> int:
        return len(self._ranks)

    def hit(self, key: K) -> None:
        rank = self._ranks[key]
        rank.frequency += 1
        rank.priority = self._age + rank.frequency / rank.size

    def add(self, key: K, size: int) -> list[K]:
        size = max(size, 1)
        rank = self._ranks.get(key)
        if size > self.capacity:
            self.remove(key)
            return [key]
        if rank is None:
            rank = self._ranks[key] = _Rank(size)
        else:
            self.used -= rank.size
            rank.size = size
        self.used += size
        rank.priority = self._age + rank.frequency / size
        self._push(key, rank)
        return self._evict()

    def remove(self, key: K) -> None:
        rank = self._ranks.pop(key, None)
        if rank is not None:
            self.used -= rank.size  # its heap entry is skipped when it comes up

    def _push(self, key: K, rank: _Rank) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (rank.priority, self._sequence, key))
        if len(self._heap) > 64 + 4 * len(self._ranks):
            self._heap = [(r.priority, i, k) for i, (k, r) in enumerate(self._ranks.items())]
            self._sequence = len(self._heap)
            heapq.heapify(self._heap)

    def _evict(self) -> list[K]:
        victims = []
        while self.used > self.capacity:
            priority, _, key = heapq.heappop(self._heap)
            rank = self._ranks.get(key)
            if rank is None:
                continue
            if rank.priority > priority:  # it was hit since: put it back where it belongs
                self._push(key, rank)
                continue
            if rank.priority < priority:  # left over from a former life of this key
                continue
            self._age = priority
            self.remove(key)
            victims.append(key)
        return victims


class S3Fifo(Generic[K]):
    """A small probation queue, a main queue, and the ghosts of what probation gave up.

    `ghost_limit` bounds the ghosts in number beside their bound in bytes (those of main).
    """

    FREQUENCY_MAX = 3

    def __init__(self, capacity: int, *, ghost_limit: int = 1 << 18) -> None:
        self.capacity = capacity
        self.used = 0
        self._small_capacity = max(capacity // 10, 1)
        self._small_used = 0
        self._sizes: dict[K, int] = {}
        self._frequency: dict[K, int] = {}
        # Queue entries carry a stamp, so that what was removed, or moved, is skipped.
        self._stamps: dict[K, int] = {}
        self._in_small: set[K] = set()
        self._small: deque[tuple[K, int]] = deque()
        self._main: deque[tuple[K, int]] = deque()
        self._stamp = 0
        self._ghosts: OrderedDict[K, int] = OrderedDict()
        self._ghost_bytes = 0
        self._ghost_limit = ghost_limit

    def __contains__(self, key: K) -> bool:
        return key in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def hit(self, key: K) -> None:
        count = self._frequency[key]
        if count < self.FREQUENCY_MAX:
            self._frequency[key] = count + 1

    def add(self, key: K, size: int) -> list[K]:
        size = max(size, 1)
        if key in self._sizes:
            if self._sizes[key] == size:
                return []
            self.remove(key)
        if size > self.capacity:
            return [key]
        victims = self._make_room(size)
        self._sizes[key] = size
        self._frequency[key] = 0
        self.used += size
        ghost = self._ghosts.pop(key, None)
        if ghost is not None:
            self._ghost_bytes -= ghost
            self._enqueue(self._main, key)
        else:
            self._in_small.add(key)
            self._small_used += size
            self._enqueue(self._small, key)
        return victims

    def remove(self, key: K) -> None:
        size = self._sizes.pop(key, None)
        if size is None:
            return
        self.used -= size
        del self._frequency[key], self._stamps[key]
        if key in self._in_small:
            self._in_small.remove(key)
            self._small_used -= size
        if len(self._small) + len(self._main) > 64 + 4 * len(self._sizes):
            self._small = deque(e for e in self._small if self._stamps.get(e[0]) == e[1])
            self._main = deque(e for e in self._main if self._stamps.get(e[0]) == e[1])

    def _enqueue(self, queue: deque[tuple[K, int]], key: K) -> None:
        self._stamp += 1
        self._stamps[key] = self._stamp
        queue.append((key, self._stamp))

    def _make_room(self, size: int) -> list[K]:
        victims: list[K] = []
        while self.used + size > self.capacity:
            if self._small_used > self._small_capacity or not self._main:
                self._turn_small(victims)
            else:
                self._turn_main(victims)
        return victims

    def _turn_small(self, victims: list[K]) -> None:
        """Move on the oldest of probation: to main if it was hit, else out."""
        key, stamp = self._small.popleft()
        if self._stamps.get(key) != stamp:
            return
        if self._frequency[key] > 0:
            self._in_small.remove(key)
            self._small_used -= self._sizes[key]
            self._frequency[key] = 0
            self._enqueue(self._main, key)
            return
        size = self._sizes[key]
        self.remove(key)
        victims.append(key)
        self._ghosts[key] = size
        self._ghost_bytes += size
        while (
            len(self._ghosts) > self._ghost_limit
            or self._ghost_bytes > self.capacity - self._small_capacity
        ) and self._ghosts:
            _, gone = self._ghosts.popitem(last=False)
            self._ghost_bytes -= gone

    def _turn_main(self, victims: list[K]) -> None:
        """Give the oldest of main another round for each hit, else let it go."""
        key, stamp = self._main.popleft()
        if self._stamps.get(key) != stamp:
            return
        if self._frequency[key] > 0:
            self._frequency[key] -= 1
            self._enqueue(self._main, key)
            return
        self.remove(key)
        victims.append(key)
