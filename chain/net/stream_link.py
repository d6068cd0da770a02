"""One end of a connection between processes of one machine: frames in, frames out."""

import asyncio
import logging
import socket as socketlib
from collections.abc import Sequence
from typing import cast

from chain.net import framing, wire
from chain.net.framing import Frame
from chain.net.shared import Arena, Guest, Reference, Room
from chain.net.transport import Buffer

log = logging.getLogger(__name__)

# A socket's default (208 KiB) makes ten wake-ups on each side of a 2 MiB frame; 1 MiB makes two.
SEND_BUFFER = 1 << 20
# Unsent bytes at which we stop handing over more (asks) or reading more (requests).
WRITE_HIGH = 4 << 20
# Smaller payloads are copied behind the head, so that a message is one write.
JOIN_BYTES = 16 << 10


class StreamLink(asyncio.BufferedProtocol):
    """One connection: frames in, frames out."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.writable = True
        self._reader = framing.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(WRITE_HIGH)
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socketlib.SOL_SOCKET, socketlib.SO_SNDBUF, SEND_BUFFER)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        del sizehint
        return self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        try:
            messages = self._reader.filled(nbytes)
        except wire.MalformedFrame as error:
            self.refused(error)
            return
        if messages:
            self.received(messages)

    def refused(self, error: wire.MalformedFrame) -> None:
        """The other side does not speak as it should."""
        log.warning("a local connection is ended: %s", error)
        self.transport.abort()

    def received(self, messages: list[list[Frame]]) -> None:
        """Complete messages."""
        raise NotImplementedError

    def send_placed(self, frames: Sequence[Frame], memory: Arena | Guest) -> None:
        """Queue one message; of payloads that lie in the caller's memory only the place."""
        placed: list[Frame] = [
            frame if isinstance(frame, Reference | Room) else memory.reference(frame) or frame
            for frame in frames
        ]
        if not self.transport.is_closing():
            prefix, parts = framing.pack(placed)
            self._write(prefix, parts)

    def send(self, frames: Sequence[Buffer]) -> None:
        """Queue one message."""
        if not self.transport.is_closing():
            self._write(framing.prefix(frames), frames)

    def _write(self, prefix: bytes, frames: Sequence[Buffer]) -> None:
        if len(frames) == 1 or sum(map(len, frames)) <= JOIN_BYTES:
            self.transport.write(b"".join((prefix, *frames)))
        else:
            self.transport.writelines([b"".join((prefix, frames[0])), *frames[1:]])
