"""The job that signs records of own keys anew: in time, and when what they follow moves."""

from chain.clock import Clock
from gateway.ipfs.ipns.keybook import KeyBook, Roots
from gateway.jobs import Step
from gateway.records import JobRow

_KEYS = 64  # looked at in a step
_PAUSE_SECONDS = 60.0  # between passes: names follow within it


class IpnsRenewal:
    """The Job of gateway/jobs.py."""

    name = "ipns"

    def __init__(self, book: KeyBook, roots: Roots, clock: Clock) -> None:
        self._book = book
        self._roots = roots
        self._clock = clock

    async def step(self, state: JobRow) -> Step:
        """The next keys."""
        if not state.position:
            left = _PAUSE_SECONDS - (self._clock.now_ns() - state.ended_ns) / 1e9
            if 0 < left <= _PAUSE_SECONDS:
                return Step(pause=left)
        position, signed = await self._book.renew(state.position, _KEYS, self._roots)
        ended = not position
        return Step(position, signed, pause=_PAUSE_SECONDS if ended else 0.0, ended=ended)
