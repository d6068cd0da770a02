"""The interface of everything that takes notifications: webhooks here, brokers by adapters.

An adapter is a class with `deliver` and `close`, a line in `gateway/events/drivers.py` and a
subclass of tests/conformance/target_suite.py (docs/operations.md).
"""

from collections.abc import Sequence
from typing import Protocol

from gateway.events.message import Message


class TargetUnavailable(Exception):
    """Nothing, or not all, was taken; the same messages are brought again later."""


class TargetRefused(Exception):
    """The target says that it will never take such messages, whenever they come."""


class Target(Protocol):
    """Where notifications of one name go."""

    @property
    def batch(self) -> int:
        """How many messages it takes at once, at least 1."""
        ...

    async def deliver(self, messages: Sequence[Message]) -> None:
        """Bring messages, in this order; they are safe with the target when this returns.

        1 to `batch` of them, any number of calls at once (never with the same key); ends within
        a bounded time, whatever the other side does. What fails may be brought again in part or
        whole: a target sees every message at least once. Raises TargetUnavailable, TargetRefused.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
