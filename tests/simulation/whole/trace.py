"""What happened in a run, line by line: the same seed must give the same lines in every process."""

import hashlib
from dataclasses import dataclass, field

from chain.net.memory import Deliver, MemoryNetwork
from chain.net.simulation import SimClock


@dataclass(slots=True)
class Trace:
    """A running hash over all lines; lines are kept when they are wanted."""

    clock: SimClock
    keep_events: bool = False
    keep_messages: bool = False
    lines: list[str] = field(default_factory=list)
    count: int = 0
    _hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def note(self, text: str) -> None:
        """An event at the present virtual time."""
        self._add(text, kept=self.keep_events)

    def message(self, text: str) -> None:
        """A message was sent."""
        self._add(text, kept=self.keep_messages)

    def _add(self, text: str, *, kept: bool) -> None:
        line = f"{self.clock.monotonic():.6f} {text}\n"
        self._hash.update(line.encode())
        self.count += 1
        if kept:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """Of all lines so far."""
        return self._hash.hexdigest()


class TracedNetwork(MemoryNetwork):
    """Notes every message that is sent; what arrives shows in what is sent next."""

    trace: Trace

    def carry(self, source: str, target: str, deliver: Deliver, broken: Deliver) -> None:
        """See MemoryNetwork."""
        self.trace.message(f"{source} > {target}")
        super().carry(source, target, deliver, broken)
