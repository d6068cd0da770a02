"""Typed messages between nodes, whatever carries them.

A message names its reply, so `await peer.ask(DropFragments(...))` is a `Dropped` to the type
checker. A service is a table of handlers. Bulk bytes travel as `Payload` fields: they are sent as
frames of their own and never copied into the encoded message. See docs/specs/wire.md.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, get_args

import msgspec

from chain.ids import AccountId

Reply = TypeVar("Reply", bound=msgspec.Struct)
# Anything with a buffer: bytes, bytearray, memoryview, mmap, numpy array.
Buffer = bytes | bytearray | memoryview


class RemoteError(Exception):
    """The peer refused: `code` is for programs, `reason` for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Unreachable(Exception):
    """No answer: the peer is gone, silent past the deadline, or its queue is full."""


class QueueFull(Unreachable):
    """Too much waits here for that peer already. It says nothing about the peer."""


class Payload:
    """Bulk bytes inside a message, carried as a frame of their own."""

    __slots__ = ("buffer",)

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer

    def __len__(self) -> int:
        return len(self.buffer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Payload) and bytes(self.buffer) == bytes(other.buffer)

    __hash__ = None  # type: ignore[assignment]


class Message(msgspec.Struct, Generic[Reply], frozen=True, array_like=True):
    """Base of every request; its type argument is the reply's type."""

    @classmethod
    def reply_type(cls) -> type[msgspec.Struct]:
        """The struct that answers this message."""
        for base in cls.__orig_bases__:  # type: ignore[attr-defined]
            for argument in get_args(base):
                return argument  # type: ignore[no-any-return]
        raise TypeError(f"{cls.__name__} names no reply")

    # Whether its handlers stand payloads that the caller may change while they work: long ones that
    # lie in the caller's memory are then views of it (chain/net/shared.py), else copies.
    in_place: ClassVar[bool] = False

    def reply_bytes(self) -> int:
        """How long the payload of its reply may be, if the caller lends memory for it; else 0."""
        return 0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the authenticated identity, or None on a machine-local (ipc) channel.

    Over CURVE the identity comes from the ZAP user id, never from the routing id. `room` is memory
    of the caller's, page-aligned, in which the reply's payload may be put; it need not.
    """

    identity: AccountId | None
    local: bool
    room: memoryview | None = None


Handler = Callable[[Any, Caller], Awaitable[msgspec.Struct]]
M = TypeVar("M", bound=Message[Any])


class Handlers:
    """A service: message type -> coroutine function `(message, caller) -> reply`."""

    def __init__(self) -> None:
        self.table: dict[type[Message[Any]], Handler] = {}

    def on(
        self,
        message: type[Message[Reply]],
        handler: Callable[[Any, Caller], Awaitable[Reply]],
    ) -> Self:
        """Answer `message` with `handler`; mypy refuses a handler of another reply type."""
        assert message not in self.table, message
        self.table[message] = handler
        return self


class Peer(Protocol):
    """The other end of a connection. Safe to use from one event loop."""

    async def ask(self, message: Message[Reply], *, timeout: float = 30.0) -> Reply:  # noqa: ASYNC109
        """Send and wait for the answer. Raises RemoteError, Unreachable."""
        ...

    def close(self) -> None:
        """Forget the connection; waiting asks raise Unreachable."""
        ...


class Server(Protocol):
    """A served address."""

    @property
    def address(self) -> str:
        """Where it listens, with the real port when port 0 was asked for."""
        ...

    async def close(self) -> None:
        """Answer nothing more."""
        ...


class Transport(Protocol):
    """How nodes reach each other: chain/net/nodes.py, or memory (chain/net/memory.py)."""

    async def serve(self, address: str, handlers: Handlers) -> Server:
        """Listen at `ipc://PATH`, `tcp://HOST:PORT` (CURVE) or `memory://NAME`."""
        ...

    def connect(self, address: str, identity: AccountId | None = None) -> Peer:
        """A peer at `address`; over CURVE it must prove to be `identity`. Never blocks."""
        ...

    async def close(self) -> None:
        """Close every server and peer."""
        ...
