"""`python -m gateway.forkserver --socket FD ROOM`: imports once and forks each node from that.

A node's imports take 0.3 to 0.9 CPU s; a fork of a process that has them takes milliseconds, and
shares their memory (docs/adr/229-nodes-are-forked.md).

Rules
1. This process has one thread and opens nothing: what a node opens, it opens after the fork.
2. It knows nothing of what runs: a node is forked twice, so that it becomes the supervisor's own
   child, which waits for it as for a program that it started.
3. A node gets what exec would leave it: a session of its own, its log as output, the descriptors
   that it is to inherit and no others, its command line.

A request is one packet on the socket FD: JSON, [command line, [descriptors to keep]], and beside it
the log's descriptor. The answer is the process id, or why there is none. ROOM is space within this
process's own command line, over which a node's is written.
"""

import contextlib
import ctypes
import errno
import gc
import importlib
import json
import os
import runpy
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

REQUEST_BYTES_MAX = 64 << 10
# Where `python -m MODULE ROLE` finds its work.
_NODES = {"chain": "chain.cli", "miner": "miner.cli", "gateway": "gateway.nodes.{role}"}
_STDERR = 2
_ARGUMENTS = slice(45, 47)  # in /proc/PID/stat after the name: where the command line lies


def serve(channel: socket.socket) -> list[str]:
    """Fork until the supervisor is gone. Returns in each node, with its command line."""
    gc.disable()  # until a node's own start: it finds nothing in imports
    while True:
        packet, (*logs,), _, _ = socket.recv_fds(channel, REQUEST_BYTES_MAX, 1)
        if not packet:
            sys.exit(0)
        words, keep = json.loads(packet)
        # What cannot be imported fails again in the node, which writes why into its log.
        with contextlib.suppress(Exception):
            _import_for(words)
        gc.freeze()  # or a node's first collection would copy all that it looks at
        try:
            pid = _fork_twice()
        except OSError as error:
            answer = f"cannot fork: {error.strerror}"
        else:
            if not pid:
                channel.detach()  # closed below, by its number
                _become(words, keep, logs[0])
                return [*words]
            answer = str(pid)
        os.close(logs[0])
        channel.send(answer.encode())


def run(words: list[str]) -> None:
    """Do what `words` would do as a program: here if it is `python -m MODULE …`."""
    if not _is_module(words):
        os.execv(words[0], words)  # noqa: S606 - the supervisor's own command line
    sys.argv[:] = words[2:]
    runpy.run_module(words[2], run_name="__main__", alter_sys=True)


def _is_module(words: Sequence[str]) -> bool:
    return words[0] == sys.executable and words[1:2] == ["-m"]


def _import_for(words: Sequence[str]) -> None:
    """All that one of our nodes is going to import; nothing for other programs."""
    if _is_module(words) and words[2] in _NODES:
        importlib.import_module(_NODES[words[2]].format(role=words[3]))


def _fork_twice() -> int:
    """The id of a process whose parent is gone; 0 in that process. Raises OSError."""
    reading, writing = os.pipe()
    if between := os.fork():
        os.close(writing)
        told = os.read(reading, 32)
        os.close(reading)
        os.waitpid(between, 0)
        if not told:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return int(told)
    try:
        pid = os.fork()
    except OSError:
        os._exit(1)
    if pid:
        os.write(writing, str(pid).encode())
        os._exit(0)
    return 0


def _become(words: Sequence[str], keep: Sequence[int], log: int) -> None:
    """Leave the server behind."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if descriptor > _STDERR and descriptor not in keep:
            with contextlib.suppress(OSError):  # the listing's own is closed already
                os.close(descriptor)
    _write_command_line(words)


def _write_command_line(words: Sequence[str]) -> None:
    """What `ps` shows, cut where it does not fit."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = map(int, fields[_ARGUMENTS])
    text = "\0".join(words).encode()[: end - begin - 1]
    ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)


if __name__ == "__main__":
    run(serve(socket.socket(fileno=int(sys.argv[2]))))
