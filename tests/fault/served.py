"""What tests of transports share: a service in a process, how an ask ended, broken messages."""

import os
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path

from chain.net import wire
from chain.net.transport import RemoteError, Unreachable

ROOT = Path(__file__).parents[2]
_SERVER = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path.cwd()))
from chain.process import run_node
from chain.net.nodes import NodeTransport
from {module} import HANDLERS

async def main(stop):
    transport = NodeTransport()
    await transport.serve(sys.argv[1], HANDLERS)
    print("up", flush=True)
    await stop.wait()
    await transport.close()

sys.exit(run_node(main, name="server"))
"""


def start_server(module: str, address: str) -> subprocess.Popen[bytes]:
    """A process that serves the HANDLERS of a module; it is up when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER.format(module=module), address],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdout.close()
    return process


async def outcome(ask: Awaitable[object]) -> object:
    """The reply, or the error that came instead."""
    try:
        return await ask
    except (Unreachable, RemoteError) as error:
        return error


def request(body: bytes, payloads: int = 0, tag: bytes = b"Measure", number: int = 1) -> bytes:
    """The head of an ask."""
    return wire.pack_head(wire.REQUEST, number, body, payloads, tag=tag)


GOOD = request(b"\x91\x00", 1)
# Frames, and the code that they are refused with; None: they are dropped without a word.
BROKEN: list[tuple[list[bytes], str | None]] = [
    ([b""], None),
    ([b"nonsense"], None),
    ([b"", b"", b""], None),
    ([wire.pack_head(wire.REPLY, 1, b"\x91\x00", 0)], None),
    ([GOOD], "malformed"),
    ([GOOD, b"a", b"b"], "malformed"),
    ([request(b"\x91\x01", 1), b"a"], "malformed"),
    ([request(b"\x91" * 5000)], "malformed"),
    ([request(b"", tag=b"Nothing")], "unknown_message"),
    ([request(b"", tag=b"\xff\n")], "unknown_message"),
]
