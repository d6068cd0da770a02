"""Nodes as their operators run them: a process, a directory and an address for each."""

import asyncio
import itertools
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.keys.keystore import Keystore
from chain.net.address import with_identity
from chain.net.nodes import NodeTransport
from chain.net.transport import Message, RemoteError, Unreachable
from gateway.health import fetch
from tests.clients.running import boto_session

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
# Below the ports that the kernel hands out (Linux 32768, macOS 49152): a node that starts again
# finds its own port as it left it.
BLOCKS = range(12_000, 32_000, 20)


class Ports:
    """Ports that are ours alone among all who take them from here."""

    def __init__(self) -> None:
        for base in random.SystemRandom().sample(BLOCKS, len(BLOCKS)):
            guard = socket.socket()
            try:
                # Its first port is held as long as the block is, so nobody else takes the block.
                guard.bind(("127.0.0.1", base))
                ports = range(base + 1, base + BLOCKS.step)
                if all(is_free(port) for port in ports):
                    self._guard, self._ports = guard, iter(ports)
                    return
            except OSError:
                pass
            guard.close()
        raise OSError("no free block of ports")

    def address(self) -> str:
        """Another address of the block."""
        return f"tcp://127.0.0.1:{next(self._ports)}"

    def close(self) -> None:
        """Leave the block to others."""
        self._guard.close()


def is_free(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return not _refuses(probe, port)


def _refuses(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return True
    return False


class Nodes:
    """A chain, three miners, a gateway and an edge."""

    MINERS = ("miner1", "miner2", "miner3")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = Ports()
        names = ("chain", *self.MINERS, "gateway", "edge", "gateway2")
        self.addresses = {name: self.ports.address() for name in names}
        self.join = ""
        self._numbers = itertools.count()

    # ------------------------------------------------------------------ processes
    def start(self, name: str, *words: str) -> None:
        """Start a node; `wait_for` waits for what it says from here on."""
        directory = self.folder / name
        directory.mkdir(exist_ok=True)
        self.output(name).unlink(missing_ok=True)
        with self.output(name).open("wb") as output:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", *words, "--data-dir", str(directory)],
                cwd=ROOT,
                stdout=output,
                stderr=output,
            )

    def chain(self) -> None:
        self.start("chain", "chain", "--listen", self.addresses["chain"])
        self.join = self.wait_for("chain", "--join ").rpartition("--join ")[2].split()[0]

    def miner(self, name: str) -> None:
        listen = ("--listen", self.addresses[name])
        self.start(name, "miner", "--join", self.join, *listen, "--pledge", "1G")

    def gateway(self, *more: str, name: str = "gateway") -> None:
        """Without `--edge` it reads from miners alone."""
        ports = [
            word
            for face in ("s3", "ipfs", "ipfs-api", "console")
            for word in (f"--{face}-port", "0")
        ]
        face = ["--join", self.join, "--listen", self.addresses[name], *more]
        # What the last run wrote names ports which are no longer its own.
        (self.folder / name / "run" / "endpoints.json").unlink(missing_ok=True)
        self.start(name, "gateway", *face, *ports, "--workers", "1", "--profile", "mirror")

    def lease(self, name: str) -> None:
        """Tokens and a lease for a gateway that has just been started, and wait until it serves."""
        directory = self.folder / name
        self.wait_for(name, "starting ")
        account = self.command("chain", "id", "--data-dir", directory)
        paid = ("chain", "transfer", account, "10", "--data-dir", self.folder / "chain")
        assert "are left" in self.command(*paid)
        lease = ("market", "lease", "--size", "100MiB", "--data-dir", directory)
        assert "for 1 months" in self.command(*lease)
        self.wait_ready(name)

    def edge(self) -> None:
        origin = with_identity(self.key("gateway", "gateway").id, self.addresses["gateway"])
        face = ("--listen", self.addresses["edge"], "--origin", origin)
        self.start("edge", "edge", "--join", self.join, *face)

    def restore(self) -> None:
        """Start what does not run, and wait until objects are stored and read again."""
        if all(self.runs(name) for name in ("chain", *self.MINERS, "gateway", "edge")):
            return
        if not self.runs("chain"):
            self.chain()
        for name in self.MINERS:
            if not self.runs(name):
                self.miner(name)
        if not self.runs("gateway"):
            self.gateway()
        if not self.runs("edge"):
            self.edge()
        for name in self.MINERS:
            self.wait_for(name, " serves at tcp")
        self.wait_for("edge", "registered at ")
        self.wait_ready()
        self.settle()

    def key_name(self) -> str:
        """Another key: no object is replaced here, so no fragment goes while a test looks at it."""
        return f"key{next(self._numbers)}"

    def settle(self) -> None:
        """Wait until three miners take what they are given."""
        s3, end = self.s3(), time.monotonic() + READY_SECONDS
        while True:
            try:
                s3.put_object(Bucket="box", Key=self.key_name(), Body=bytes(100_000))
                return
            except s3.exceptions.ClientError:
                assert time.monotonic() < end
                time.sleep(0.1)

    def runs(self, name: str) -> bool:
        return name in self.running and self.running[name].poll() is None

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code."""
        self.running[name].send_signal(number)
        code = self.running[name].wait(STOP_SECONDS)
        del self.running[name]
        return code

    def close(self) -> None:
        """Kill what is left."""
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait(STOP_SECONDS)
        self.ports.close()

    # ------------------------------------------------------------------ what they say
    def command(self, *words: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", *map(str, words)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def output(self, name: str) -> Path:
        return self.folder / name / "out.txt"

    def wait_for(self, name: str, text: str) -> str:
        """All that a node has said since its start, once `text` is in it."""
        end = time.monotonic() + READY_SECONDS
        while text not in (said := self.output(name).read_text()):
            assert time.monotonic() < end, said
            assert self.runs(name), self.output(name).read_text()
            time.sleep(0.05)
        return said

    def endpoint(self, face: str, name: str = "gateway") -> str | None:
        """Where a face of a gateway is, once this run of it has said so."""
        path = self.folder / name / "run" / "endpoints.json"
        return str(json.loads(path.read_text())[face]) if path.exists() else None

    def wait_ready(self, name: str = "gateway") -> None:
        end, body = time.monotonic() + READY_SECONDS, b""
        while time.monotonic() < end and self.runs(name):
            console = self.endpoint("console", name)
            if console is not None:
                status, body = asyncio.run(fetch(console, "/health/ready"))
                if status == 200:
                    return
            time.sleep(0.1)
        pytest.fail(f"not ready: {body!r}\n{self.output(name).read_text()}")

    def pids(self) -> list[int]:
        """The processes of the gateway."""
        path = self.folder / "gateway" / "run" / "processes.json"
        return [entry["pid"] for entry in json.loads(path.read_text())["processes"].values()]

    def key(self, name: str, key: str) -> Identity:
        return Identity(Keystore(self.folder / name / "keys").secret(key))

    def s3(self, name: str = "gateway") -> Any:
        from botocore.config import Config

        from gateway.credentials import read_credentials

        access, secret = read_credentials(self.folder / name / "credentials")
        once = Config(retries={"max_attempts": 1})
        return boto_session(access, secret).client(
            "s3", endpoint_url=self.endpoint("s3", name), config=once
        )


def ask(identity: Identity, address: str, server: AccountId, message: Message[Any]) -> Any:
    """What a node answers to another."""

    async def exchange() -> Any:
        transport = NodeTransport(identity)
        try:
            return await transport.connect(address, server).ask(message, timeout=5)
        finally:
            await transport.close()

    return asyncio.run(exchange())


def soon(call: Callable[[], Any]) -> Any:
    """What `call` returns once nodes that have just met know each other."""
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            return call()
        except (RemoteError, Unreachable):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
