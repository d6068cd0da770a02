"""The same code as separate nodes: a ledger, three miners and a gateway that speak over tcp."""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio

from cdn.protocol import EdgeStatus, read_message
from chain.clock import system_entropy
from chain.ids import AccountId
from chain.join import pinned_genesis
from chain.keys.identity import Identity
from chain.keys.keystore import Keystore
from chain.net.address import split_identity, with_identity
from chain.net.nodes import NodeTransport
from chain.net.transport import Message, RemoteError, Unreachable
from gateway.catalog.protocol import Commit
from gateway.health import fetch
from gateway.protocol import ListAccounts
from miner.fragment import FragmentRecord
from miner.protocol import DropFragments, Inventory, Missing, ReportMissing, SpaceReport
from tests.clients.running import is_alive

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0


class Nodes:
    """A chain, three miners and a gateway, each in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.join = ""

    # ------------------------------------------------------------------ processes
    def start(self, name: str, *words: str) -> None:
        directory = self.folder / name
        directory.mkdir(exist_ok=True)
        with (directory / "out.txt").open("ab") as output:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", *words, "--data-dir", str(directory)],
                cwd=ROOT,
                stdout=output,
                stderr=output,
            )

    def chain(self, listen: str = "tcp://127.0.0.1:0") -> None:
        self.start("chain", "chain", "--listen", listen)
        said = self.wait_for("chain", "--join ")
        self.join = said.rpartition("--join ")[2].split()[0]

    def miner(self, name: str, listen: str = "tcp://127.0.0.1:0") -> None:
        self.start(name, "miner", "--join", self.join, "--listen", listen, "--pledge", "1G")

    def gateway(self, listen: str = "tcp://127.0.0.1:0", *more: str) -> None:
        ports = [word for face in ("s3", "ipfs", "console") for word in (f"--{face}-port", "0")]
        face = ["--join", self.join, "--listen", listen, *more]
        self.start("gateway", "gateway", *face, *ports, "--workers", "1", "--profile", "mirror")

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        process = self.running.pop(name)
        process.send_signal(number)
        return process.wait(15)

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

    def said(self, name: str) -> str:
        return (self.folder / name / "out.txt").read_text()

    def wait_for(self, name: str, text: str, count: int = 1) -> str:
        end = time.monotonic() + READY_SECONDS
        while self.said(name).count(text) < count:
            assert time.monotonic() < end, self.said(name)
            assert self.running[name].poll() is None, self.said(name)
            time.sleep(0.05)
        return self.said(name)

    def listens(self, name: str) -> str:
        """The address that a miner's log names."""
        return self.wait_for(name, " serves at tcp").rpartition("serves at ")[2].split(": ")[0]

    def wait_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        path = self.folder / "gateway" / "run" / "endpoints.json"
        while time.monotonic() < end:
            if path.exists():
                console = json.loads(path.read_text())["console"]
                status, body = asyncio.run(fetch(console, "/health/ready"))
                if status == 200:
                    return
            time.sleep(0.1)
        pytest.fail(f"not ready: {body!r}\n{self.said('gateway')}")

    def pids(self) -> list[int]:
        path = self.folder / "gateway" / "run" / "processes.json"
        return [entry["pid"] for entry in json.loads(path.read_text())["processes"].values()]

    def key(self, name: str, key: str) -> Identity:
        return Identity(Keystore(self.folder / name / "keys").secret(key))

    def key_soon(self, name: str, key: str) -> Identity:
        self.wait_for(name, " serves at tcp")
        return self.key(name, key)

    def s3(self) -> Any:
        import boto3
        from botocore.config import Config

        from gateway.credentials import read_credentials

        directory = self.folder / "gateway"
        access, secret = read_credentials(directory / "credentials")
        ends = json.loads((directory / "run" / "endpoints.json").read_text())
        session = boto3.session.Session(access, secret, region_name="us-east-1")
        once = Config(retries={"max_attempts": 1})
        return session.client("s3", endpoint_url=ends["s3"], config=once)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    started = Nodes(tmp_path_factory.mktemp("nodes"))
    try:
        started.chain()
        for name in ("miner1", "miner2", "miner3"):
            started.miner(name)
        started.gateway()
        directory = started.folder / "gateway"
        account = started.command("chain", "id", "--data-dir", directory)
        paid = ("chain", "transfer", account, "10", "--data-dir", started.folder / "chain")
        assert "999999990 are left" in started.command(*paid)
        started.wait_for("gateway", "starting 3 processes")
        lease = ("market", "lease", "--size", "100MiB", "--data-dir", directory)
        assert "for 1 months" in started.command(*lease)
        started.wait_ready()
        yield started
    finally:
        for process in started.running.values():
            process.kill()
            process.wait(10)


def ask(identity: Identity, address: str, server: AccountId, message: Message[Any]) -> Any:
    async def exchange() -> Any:
        transport = NodeTransport(identity)
        try:
            return await transport.connect(address, server).ask(message, timeout=5)
        finally:
            await transport.close()

    return asyncio.run(exchange())


def soon(call: Callable[[], Any]) -> Any:
    """What `call` returns once nodes that have just met know each other."""
    end = time.monotonic() + 15.0
    while True:
        try:
            return call()
        except (RemoteError, Unreachable):
            assert time.monotonic() < end
            time.sleep(0.1)


def gateway_address(nodes: Nodes) -> str:
    members = json.loads((nodes.folder / "miner1" / "members.json").read_text())
    return str(next(iter(members["gateways"].values())))


def test_objects_go_to_miners_elsewhere_and_come_back(nodes: Nodes) -> None:
    s3 = nodes.s3()
    s3.create_bucket(Bucket="box")
    body = os.urandom(3_000_000)
    s3.put_object(Bucket="box", Key="large", Body=body)
    s3.put_object(Bucket="box", Key="small", Body=b"small")
    assert s3.get_object(Bucket="box", Key="large")["Body"].read() == body
    assert s3.get_object(Bucket="box", Key="small")["Body"].read() == b"small"
    gateway = nodes.key("gateway", "gateway")
    for name in ("miner1", "miner2", "miner3"):
        miner = nodes.key(name, "miner").id
        held = ask(gateway, nodes.listens(name), miner, Inventory(b"", 10)).held
        assert len(held) == 1
    state = json.loads(nodes.command("status", "--json", "--data-dir", nodes.folder / "gateway"))
    assert [node["up"] for node in state["nodes"] if node["kind"] == "miner"] == [True] * 3
    assert state["space"]["used"] >= 9_000_000


def test_a_stranger_is_refused_by_a_miner(nodes: Nodes) -> None:
    address, miner = nodes.listens("miner1"), nodes.key("miner1", "miner").id
    stranger = Identity.generate(system_entropy)
    with pytest.raises(Unreachable):
        ask(stranger, address, miner, SpaceReport())
    with pytest.raises(Unreachable):  # miners are on the ledger, yet no reader of other miners
        ask(nodes.key("miner2", "miner"), address, miner, DropFragments(()))


async def test_strangers_with_garbage_at_every_tcp_face_end_no_process(nodes: Nodes) -> None:
    chain = f"tcp://{nodes.join.partition('@')[2]}"
    chance, context = random.Random(12), zmq.asyncio.Context()
    alive = {name: process.pid for name, process in nodes.running.items()}
    try:
        for address in (chain, nodes.listens("miner1"), gateway_address(nodes)):
            host, _, port = address.removeprefix("tcp://").partition(":")
            for number in range(12):
                stranger = context.socket(zmq.DEALER)  # without CURVE
                stranger.linger = 0
                stranger.connect(address)
                await stranger.send_multipart([chance.randbytes(40), chance.randbytes(9_000)])
                stranger.close()
                _, writer = await asyncio.open_connection(host, int(port))
                greeting = b"\xff" + bytes(8) + b"\x7f\x03" if number % 2 else b""
                # A frame of 2^62 bytes is announced, then the line is cut.
                writer.write(greeting + b"\x02\x40" + bytes(7) + chance.randbytes(500))
                await writer.drain()
                writer.transport.abort()
    finally:
        context.destroy(linger=0)
    assert {name: process.pid for name, process in nodes.running.items()} == alive
    assert all(process.poll() is None for process in nodes.running.values())
    s3 = nodes.s3()
    await asyncio.to_thread(s3.put_object, Bucket="box", Key="after", Body=b"x" * 100_000)


def test_the_gateways_face_takes_no_commit_and_no_command(nodes: Nodes) -> None:
    address, gateway = gateway_address(nodes), nodes.key("gateway", "gateway").id
    miner = nodes.key("miner1", "miner")
    for message in (Commit(b"", b"", 0, []), ListAccounts()):
        with pytest.raises(RemoteError, match="unknown_message"):
            ask(miner, address, gateway, message)
    other = Missing(bytes(32), 0, nodes.key("miner2", "miner").id)
    with pytest.raises(RemoteError, match="not_allowed"):
        ask(miner, address, gateway, ReportMissing((other,)))
    assert ask(miner, address, gateway, ReportMissing(())).queued == 0
    with pytest.raises(Unreachable):
        ask(Identity.generate(system_entropy), address, gateway, ReportMissing(()))


@pytest.mark.parametrize("kind", ["miner", "gateway"])
def test_a_ledger_that_is_somebody_else_is_refused_in_one_line(
    nodes: Nodes, kind: str, tmp_path: Path
) -> None:
    wrong = Identity.generate(system_entropy).id.hex() + "@" + nodes.join.partition("@")[2]
    code = (
        "import sys, chain.join; chain.join.ASK_SECONDS = 0.5\n"
        "from gateway.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [kind, "--join", wrong, "--data-dir", str(tmp_path / "new"), "--listen"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "tcp://127.0.0.1:0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "does not prove to be that identity" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not pinned_genesis(tmp_path / "new").exists()


def test_an_edge_serves_the_gateways_of_its_ledger(nodes: Nodes) -> None:
    key, face = nodes.key("gateway", "gateway"), gateway_address(nodes)
    origin = with_identity(key.id, face)
    edge = ["edge", "--join", nodes.join, "--listen", "tcp://127.0.0.1:0", "--origin", origin]
    nodes.start("edge", *edge)
    said = nodes.wait_for("edge", "registered at ").rpartition("registered at ")[2]
    server, address = split_identity(said.partition('"')[0])
    assert server == nodes.key("edge", "edge").id
    miner = nodes.key("miner1", "miner").id
    held = ask(key, nodes.listens("miner1"), miner, Inventory(b"", 1)).held[0]
    segment = FragmentRecord.parse(held.record).segment
    read = read_message(segment, [(0, 1000)], verify=False)
    assert len(soon(lambda: ask(key, address, server, read)).ranges[0]) == 1000
    with pytest.raises(Unreachable):
        ask(Identity.generate(system_entropy), address, server, read)
    assert nodes.stop("gateway") == 0
    nodes.gateway(face, "--edge", with_identity(server, address))
    nodes.wait_ready()
    assert len(soon(lambda: ask(key, address, server, read)).ranges[0]) == 1000
    body = os.urandom(2_000_000)
    s3 = nodes.s3()
    s3.put_object(Bucket="box", Key="through", Body=body)
    before = ask(key, address, server, EdgeStatus()).miss_bytes
    assert s3.get_object(Bucket="box", Key="through")["Body"].read() == body
    assert ask(key, address, server, EdgeStatus()).miss_bytes - before >= len(body)
    assert nodes.stop("edge") == 0


def test_objects_are_read_while_the_ledger_and_two_miners_are_away(nodes: Nodes) -> None:
    s3 = nodes.s3()
    body = os.urandom(2_000_000)
    s3.put_object(Bucket="box", Key="kept", Body=body)
    place, miner1 = nodes.join.partition("@")[2], nodes.listens("miner1")
    assert nodes.stop("chain") == 0
    assert nodes.stop("miner1", signal.SIGKILL) == -signal.SIGKILL
    assert nodes.stop("miner2", signal.SIGKILL) == -signal.SIGKILL
    assert nodes.stop("miner3") == 0
    nodes.miner("miner1", miner1)  # it serves whom it knew before the ledger went away
    nodes.wait_for("miner1", " serves at tcp", count=2)
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            assert s3.get_object(Bucket="box", Key="kept")["Body"].read() == body
            break
        except s3.exceptions.ClientError:
            assert time.monotonic() < end
            time.sleep(0.2)
    nodes.chain(f"tcp://{place}")
    assert nodes.join.partition("@")[2] == place


def test_an_emptied_miner_is_replaced_by_its_successor(nodes: Nodes) -> None:
    address, before = nodes.listens("miner2"), nodes.key("miner2", "miner").id
    shutil.rmtree(nodes.folder / "miner2")
    nodes.miner("miner2", address)
    after = nodes.key_soon("miner2", "miner").id
    assert after != before
    log = nodes.folder / "gateway" / "logs" / "catalog.log"
    end = time.monotonic() + READY_SECONDS
    while f"miner {before.hex()} is lost" not in log.read_text():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_gateway_ends_in_order_and_leaves_no_process(nodes: Nodes) -> None:
    pids = nodes.pids()
    assert nodes.stop("gateway") == 0
    assert not [pid for pid in pids if is_alive(pid)]
