"""How the supervisor starts a node: as a program of its own, or by a fork of a server
(gateway/forkserver.py).
"""

import asyncio
import ctypes
import json
import os
import socket
import sys
from collections.abc import Sequence
from typing import Protocol

# OpenBLAS would start threads in a process that forks; nobody here multiplies matrices.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
_ROOM = 4096  # bytes for a node's command line
_ANSWER_BYTES_MAX = 256
_PR_SET_CHILD_SUBREAPER = 36


class Process(Protocol):
    """A running child; `returncode` as asyncio's, None until it was waited for."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int: ...


class Spawner(Protocol):
    """Starts children with `log` as their output and the descriptors `keep`."""

    async def spawn(self, words: Sequence[str], keep: Sequence[int], log: int) -> Process:
        """Raises OSError."""
        ...

    async def close(self) -> None:
        """Let go of what helps starting; children run on."""
        ...


def spawner_here(keep: Sequence[int]) -> Spawner:
    """The quickest that works on this system, for children that may `keep` these descriptors."""
    if sys.platform != "linux":
        return Programs()
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # before Linux 5.3, or a sandbox
        return Programs()
    return Forks(keep)


class Programs:
    """Each child is a program."""

    async def spawn(self, words: Sequence[str], keep: Sequence[int], log: int) -> Process:
        """Raises OSError."""
        return await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=keep,
            start_new_session=True,
        )

    async def close(self) -> None:
        """Nothing is held."""


class Forks:
    """Each child is a fork of one server process, which inherits all that children may `keep`."""

    def __init__(self, keep: Sequence[int]) -> None:
        self._keep = keep
        self._one_at_a_time = asyncio.Lock()
        self._channel: socket.socket | None = None
        self._server: asyncio.subprocess.Process | None = None

    @property
    def server(self) -> int | None:
        """The fork server's process."""
        return self._server.pid if self._server else None

    async def spawn(self, words: Sequence[str], keep: Sequence[int], log: int) -> Process:
        """Raises OSError."""
        request = json.dumps([words, keep]).encode()
        async with self._one_at_a_time:
            try:
                answer = await self._ask(request, log)
            except ConnectionError:  # somebody killed it
                await self.close()
                answer = await self._ask(request, log)
        if not answer.isdigit():
            raise OSError(answer.decode())
        return ForkedProcess(int(answer))

    async def _ask(self, request: bytes, log: int) -> bytes:
        """Raises OSError."""
        if self._channel is None:
            self._channel = await self._start_server(log)
        socket.send_fds(self._channel, [request], [log])
        answer = await asyncio.get_running_loop().sock_recv(self._channel, _ANSWER_BYTES_MAX)
        if not answer:
            raise ConnectionResetError("the fork server is gone")
        return answer

    async def _start_server(self, log: int) -> socket.socket:
        _adopt_orphans(1)
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway.forkserver"),
                *("--socket", str(its.fileno()), " " * _ROOM),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(its.fileno(), *self._keep),
                start_new_session=True,
                env=os.environ | _ENVIRONMENT,
            )
        ours.setblocking(False)
        return ours

    async def close(self) -> None:
        """End the server; children run on."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._server is not None:
            await self._server.wait()
            _adopt_orphans(0)


def _adopt_orphans(flag: int) -> None:
    """Whether what our descendants leave behind becomes ours, instead of the first process's."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, flag, 0, 0, 0)


class ForkedProcess:
    """A child that the kernel gave us when its parent was gone."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        self._descriptor = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._collect)

    def _collect(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        self._ended.set()

    async def wait(self) -> int:
        """The exit code, minus the signal's number for one that was killed."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode
