"""Other S3 servers, measured beside us in the same run: moto's server, and s3rver where npm has it.

npm install --no-save s3rver@3.7.1
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Target

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0


@dataclass(frozen=True)
class Peer:
    """A running server."""

    name: str
    target: Target
    pid: int


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def peers(folder: Path) -> Iterator[list[Peer]]:
    """Every peer that is installed, until the block ends."""
    found: list[Peer] = []
    with contextlib.ExitStack() as stack:
        for name, command in _commands(folder):
            port = free_port()
            argv = [word.replace("PORT", str(port)) for word in command]
            process = subprocess.Popen(
                argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
            )
            stack.callback(_end, process)
            if _listens(port, process):
                found.append(Peer(name, _target(name, port), process.pid))
            else:
                print(f"{name} did not start: not compared", file=sys.stderr)
        for name in sorted({"moto", "s3rver"} - {peer.name for peer in found}):
            print(f"{name} is not measured beside us", file=sys.stderr)
        yield found


def _commands(folder: Path) -> list[tuple[str, list[str]]]:
    commands = []
    moto = Path(sys.prefix) / "bin" / "moto_server"
    if moto.exists():
        commands.append(("moto", [str(moto), "-H", "127.0.0.1", "-p", "PORT"]))
    local = ROOT / "node_modules" / ".bin" / "s3rver"
    s3rver = str(local) if local.exists() else shutil.which("s3rver")
    if s3rver:
        store = folder / "s3rver"
        store.mkdir()
        options = ["-d", str(store), "-a", "127.0.0.1", "-p", "PORT", "--silent"]
        commands.append(("s3rver", [s3rver, *options]))
    return commands


def _target(name: str, port: int) -> Target:
    access, secret = ("S3RVER", "S3RVER") if name == "s3rver" else ("peer", "peersecret")
    return Target(f"http://127.0.0.1:{port}", access, secret)


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
