"""What clients were told, and so what a read may find.

A key holds what the last acknowledged write put there. A write that ended without an answer may
have been made or not; a write that was refused was not. Writes that overlap may take effect in
either order: a write is superseded only by an acknowledged one that began after it had ended.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from chain.clock import Clock

ABSENT = None
Content = int | None  # the number of a body that a client sent, or ABSENT


@dataclass(slots=True, eq=False)
class Attempt:
    """One write on its way."""

    key: "Key"
    content: Content
    began: float

    def acknowledged(self, now: float) -> None:
        """It was made."""
        ended = self.key.ended
        for content in [content for content, at in ended.items() if at < self.began]:
            del ended[content]
        self._end(now)

    def unanswered(self, now: float) -> None:
        """Nobody knows."""
        self._end(now)

    def refused(self) -> None:
        """It was not made."""
        self.key.running.remove(self)

    def _end(self, now: float) -> None:
        self.key.ended[self.content] = now
        self.key.running.remove(self)


@dataclass(slots=True)
class Key:
    """One object key: contents that it may hold, by when their writes ended; and what runs."""

    ended: dict[Content, float] = field(default_factory=lambda: {ABSENT: float("-inf")})
    running: list[Attempt] = field(default_factory=list)

    def may_hold(self) -> AbstractSet[Content]:
        """What a read that begins now may find."""
        return {*self.ended, *(attempt.content for attempt in self.running)}

    def settle(self, content: Content) -> None:
        """Nothing runs and a read found this: so it is."""
        assert not self.running
        self.ended = {content: float("-inf")}


class Model:
    """All keys and all bodies of a run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.keys: dict[tuple[str, str], Key] = {}
        self.bodies: list[bytes] = []
        self.wrong: list[str] = []

    def body(self, data: bytes) -> int:
        """Count a body in; its number."""
        self.bodies.append(data)
        return len(self.bodies) - 1

    def key(self, bucket: str, key: str) -> Key:
        """The state of one key."""
        return self.keys.setdefault((bucket, key), Key())

    def begin(self, bucket: str, key: str, content: Content) -> Attempt:
        """A write of `content` (ABSENT: a deletion) begins."""
        state = self.key(bucket, key)
        attempt = Attempt(state, content, self._clock.monotonic())
        state.running.append(attempt)
        return attempt

    def found(self, bucket: str, key: str, content: Content) -> None:
        """A read begins and finds this version: it must be one that may be there."""
        may = self.key(bucket, key).may_hold()
        if content not in may:
            self.wrong.append(f"{bucket}/{key} holds {content}, not one of {sorted(map(str, may))}")
