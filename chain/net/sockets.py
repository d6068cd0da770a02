"""ZeroMQ sockets without blocking on an event loop: when to read, how to send and receive."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

import zmq

from chain.net import wire
from chain.net.transport import Buffer

log = logging.getLogger(__name__)

# Below this a copy is cheaper than pyzmq's hand-back of the buffer from its own thread.
ZERO_COPY_MIN = 64 << 10
# Messages taken in one go before other callbacks get their turn.
BATCH = 64
# Plain integers: pyzmq's enumerations cost 1-5 us at every use.
DONTWAIT, SEND_MORE = int(zmq.DONTWAIT), int(zmq.DONTWAIT) | int(zmq.SNDMORE)
RCVMORE, EVENTS, POLLOUT = int(zmq.RCVMORE), int(zmq.EVENTS), int(zmq.POLLOUT)


class Readable:
    """Calls `step()` in the event loop while the socket has something to read.

    `step` takes one message; zmq.Again out of it means that nothing is left (libzmq has then
    emptied its mailbox, so ZMQ_FD will signal again), and `idle` is called. It returns False to
    stop before that; then `wake` starts again. A message on which `step` fails is logged and
    passed over: it must not leave those behind it unread until the next signal.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        step: Callable[[], bool],
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._step = step
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._closed = False
        self._paused = False
        self._fd = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._drain)
        self.wake()

    def wake(self) -> None:
        """Look again soon: a send may have eaten the socket's signal."""
        if self._closed:
            return
        if self._paused:
            self._paused = False
            self._loop.add_reader(self._fd, self._drain)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain_scheduled)

    def drain_now(self) -> None:
        """Take everything that has already arrived."""
        with contextlib.suppress(zmq.Again):
            while not self._closed and self._step():
                pass

    def close(self) -> None:
        """Watch no more. Call it before closing the socket."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)

    def _drain_scheduled(self) -> None:
        self._scheduled = False
        self._drain()

    def _drain(self) -> None:
        try:
            for _ in range(BATCH):
                if self._closed:
                    return
                if not self._step():
                    self._pause()
                    return
        except zmq.Again:
            self._idle()
            return
        except zmq.ZMQError:
            raise
        except Exception:
            log.exception("a message was passed over")
        self.wake()

    def _pause(self) -> None:
        """What is not read keeps ZMQ_FD readable: watching it meanwhile would spin."""
        if not self._closed and not self._paused:
            self._paused = True
            self._loop.remove_reader(self._fd)


def send_frames(socket: zmq.Socket[bytes], frames: Sequence[Buffer]) -> bool:
    """Queue one message; False when the socket takes none now."""
    last = len(frames) - 1
    for index, frame in enumerate(frames):
        flags = SEND_MORE if index < last else DONTWAIT
        copy = len(frame) < ZERO_COPY_MIN
        try:
            socket.send(frame, flags, copy)
        except zmq.Again:
            # A non-blocking send does not always look at its mailbox first; EVENTS does.
            if index or not int(socket.get(EVENTS)) & POLLOUT:
                return False
            socket.send(frame, flags, copy)
        except zmq.ZMQError:
            return False
    return True


def receive_frames(socket: zmq.Socket[bytes]) -> list[Buffer] | None:
    """The rest of one waiting message, its large frames as views; None when it has too many.

    Raises zmq.Again when no message waits.
    """
    frames: list[Buffer] = [socket.recv(DONTWAIT)]
    return _receive_payloads(socket, frames) if socket.get(RCVMORE) else frames


def receive_authenticated(socket: zmq.Socket[bytes]) -> tuple[list[Buffer] | None, str]:
    """As `receive_frames`, with the ZAP user id ("" when there is none)."""
    head = socket.recv(DONTWAIT, copy=False)
    user = ""
    with contextlib.suppress(zmq.ZMQError, UnicodeDecodeError):
        user = str(head.get("User-Id"))
    frames: list[Buffer] = [head.buffer]
    return _receive_payloads(socket, frames) if head.more else frames, user


def _receive_payloads(socket: zmq.Socket[bytes], frames: list[Buffer]) -> list[Buffer] | None:
    many = False
    while True:
        frame = socket.recv(DONTWAIT, copy=False)
        if len(frames) <= wire.PAYLOADS_MAX:
            frames.append(frame.buffer)
        else:
            many = True
        if not frame.more:
            return None if many else frames
