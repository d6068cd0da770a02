"""The job that signs records of own keys anew: in time, and when what they follow moves."""

from chain.clock import Clock
from gateway.ipfs.ipns.keybook import KeyBook, Roots
from gateway.jobs import Step
from gateway.records import JobRow

_KEYS = 64  # looked at in a step
_PASS_SECONDS = 60.0  # between passes
# Between looks at the first of the keys that follow: a step that changes nothing leaves no row.
_LOOK_SECONDS = 2.0
_FOLLOWERS = 1024


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
            left = _PASS_SECONDS - (self._clock.now_ns() - state.ended_ns) / 1e9
            if 0 < left <= _PASS_SECONDS:
                _, signed = await self._book.renew(
                    b"", _FOLLOWERS, self._roots, followers_only=True
                )
                return Step(done=signed, pause=min(left, _LOOK_SECONDS))
        position, signed = await self._book.renew(state.position, _KEYS, self._roots)
        ended = not position
        return Step(position, signed, pause=_LOOK_SECONDS if ended else 0.0, ended=ended)
