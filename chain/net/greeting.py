"""How a local connection begins: the caller may show its shared memory, then messages follow.

A greeting is a zero byte, which no message begins with, and the arena's size (u64, big-endian),
with the memory's file descriptor beside it (SCM_RIGHTS). It must be taken from the socket before an
event loop's transport reads: that would drop the descriptor.
"""

import asyncio
import contextlib
import logging
import os
import socket as socketlib
import struct
from collections.abc import Callable
from pathlib import Path

from chain.net.shared import Arena, Guest

log = logging.getLogger(__name__)

BACKLOG = 512
# After accept failed (no descriptors are left), so long.
RETRY_SECONDS = 0.2
_GREETING = struct.Struct(">BQ")

Serve = Callable[[Guest | None], asyncio.BaseProtocol]


async def connect(path: str, arena: Arena | None, make: Callable[[], asyncio.BaseProtocol]) -> None:
    """Connect, greet, and hand over to the protocol. Raises OSError."""
    loop = asyncio.get_running_loop()
    link = socketlib.socket(socketlib.AF_UNIX, socketlib.SOCK_STREAM)
    try:
        link.setblocking(False)
        # At once or never on this kind of socket: nothing is "in progress".
        link.connect(path)
        if arena is not None:
            # The buffer of a new socket has room for it.
            socketlib.send_fds(link, [_GREETING.pack(0, arena.size)], [arena.fd])
        await loop.create_unix_connection(make, sock=link)
    except BaseException:
        link.close()
        raise


class Door:
    """A listening socket; `serve(memory)` makes the protocol of each connection that greeted.

    A connection is handed over when its first byte is there. Raises OSError.
    """

    def __init__(self, path: str, serve: Serve) -> None:
        self._serve = serve
        self._loop = asyncio.get_running_loop()
        self._arriving: set[socketlib.socket] = set()
        self._entering: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        with contextlib.suppress(FileNotFoundError):
            if Path(path).is_socket():
                Path(path).unlink()
        self._socket = socketlib.socket(socketlib.AF_UNIX, socketlib.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(path)
            self._socket.listen(BACKLOG)
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Let nobody in any more, nor those who have said nothing yet."""
        if self._retry is not None:
            self._retry.cancel()
        else:
            self._loop.remove_reader(self._socket)
        self._socket.close()
        for link in list(self._arriving):
            self._turn_away(link)
        for task in self._entering:
            task.cancel()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("cannot accept local connections now: %s", error)
                self._loop.remove_reader(self._socket)
                self._retry = self._loop.call_later(RETRY_SECONDS, self._again)
                return
            link.setblocking(False)
            self._arriving.add(link)
            self._loop.add_reader(link, self._arrived, link)

    def _again(self) -> None:
        self._retry = None
        self._loop.add_reader(self._socket, self._accept)

    def _arrived(self, link: socketlib.socket) -> None:
        """The first byte is there, or the connection ended."""
        try:
            memory = _greeted(link)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ValueError) as error:
            log.warning("a local connection is ended: %s", error)
            self._turn_away(link)
            return
        self._loop.remove_reader(link)
        self._arriving.discard(link)
        task = self._loop.create_task(self._enter(link, memory))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _enter(self, link: socketlib.socket, memory: Guest | None) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self._serve(memory), link)
        except BaseException as error:
            link.close()
            if memory is not None:
                memory.close()
            if not isinstance(error, OSError):
                raise
            log.warning("a local connection is ended: %s", error)

    def _turn_away(self, link: socketlib.socket) -> None:
        self._loop.remove_reader(link)
        self._arriving.discard(link)
        link.close()


def _greeted(link: socketlib.socket) -> Guest | None:
    """The memory that the caller shows; None for one that begins with a message.

    Raises ValueError for what is no greeting, OSError.
    """
    if link.recv(1, socketlib.MSG_PEEK) != b"\0":
        return None
    flags = getattr(socketlib, "MSG_CMSG_CLOEXEC", 0)
    data, descriptors, _, _ = socketlib.recv_fds(link, _GREETING.size, 1, flags)
    try:
        if len(data) != _GREETING.size or len(descriptors) != 1:
            raise ValueError("a greeting without memory")
        return Guest(descriptors[0], _GREETING.unpack(data)[1])
    except ValueError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
