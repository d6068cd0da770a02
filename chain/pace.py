"""How long a disk makes one wait: whether an event loop may do so itself."""

from collections import deque

QUICK_SECONDS = 0.002
WATCHED = 8


class Pace:
    """Of one disk; feed it how long each small write took, with its sync.

    A disk is quick while one of the last few writes was: on a busy machine most of the time that a
    write takes may be spent waiting for a processor. Handing a write to a thread and back costs
    nine futex calls and as many context switches, more CPU than a small write itself; but a loop
    that waits for a slow disk serves nobody else.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=WATCHED)

    def took(self, seconds: float) -> None:
        """Note one write."""
        self._seconds.append(seconds)

    @property
    def quick(self) -> bool:
        """Whether the event loop may wait for the next one. Unknown disks are not."""
        return min(self._seconds, default=QUICK_SECONDS) < QUICK_SECONDS
