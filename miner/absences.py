"""Fragments that their miners said a moment ago they do not have.

Until the loss is in the placement map, and the map here shows it, every read would ask for them
again: an ask costs both processes about as much as to read 1 MiB.
"""

from collections import OrderedDict

from chain.clock import Clock
from chain.ids import AccountId

# A fragment may be stored there anew: repair likes empty miners.
_SECONDS = 5.0
_KEPT = 4096

Absent = tuple[AccountId, bytes, int]  # miner, segment, index


class Absences:
    """What miners said lately; the newest are kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: OrderedDict[Absent, float] = OrderedDict()

    def note(self, absent: Absent) -> None:
        """The miner says that it has no such fragment."""
        self._until[absent] = self._clock.monotonic() + _SECONDS
        self._until.move_to_end(absent)
        if len(self._until) > _KEPT:
            self._until.popitem(last=False)

    def __contains__(self, absent: Absent) -> bool:
        until = self._until.get(absent)
        if until is None:
            return False
        if self._clock.monotonic() < until:
            return True
        del self._until[absent]
        return False
