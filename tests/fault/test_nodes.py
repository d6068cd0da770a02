"""The same code as separate nodes: a ledger, three miners, a gateway and an edge over tcp."""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdn.protocol import EdgeStatus, read_message
from chain.clock import system_entropy
from chain.genesis import pinned_genesis
from chain.keys.identity import Identity
from chain.net.address import split_identity, with_identity
from chain.net.transport import RemoteError, Unreachable
from gateway.catalog.protocol import Commit
from gateway.protocol import ListAccounts
from miner.fragment import FragmentRecord
from miner.protocol import DropFragments, Inventory, Missing, ReportMissing, SpaceReport
from tests.clients.running import is_alive
from tests.fault import zmtp
from tests.fault.nodes import READY_SECONDS, ROOT, Nodes, ask, soon

SEED = 12


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    started = Nodes(tmp_path_factory.mktemp("nodes"))
    try:
        started.chain()
        for name in Nodes.MINERS:
            started.miner(name)
        started.gateway()
        started.lease("gateway")
        started.edge()
        started.s3().create_bucket(Bucket="box")
        yield started
    finally:
        started.close()


@pytest.fixture
def nodes(started: Nodes) -> Nodes:
    """All of them run, whatever the test before has stopped."""
    started.restore()
    return started


def test_objects_go_to_miners_elsewhere_and_come_back(nodes: Nodes) -> None:
    before = {name: inventory(nodes, name) for name in Nodes.MINERS}
    s3 = nodes.s3()
    body = os.urandom(3_000_000)
    s3.put_object(Bucket="box", Key="large", Body=body)
    s3.put_object(Bucket="box", Key="small", Body=b"small")
    assert s3.get_object(Bucket="box", Key="large")["Body"].read() == body
    assert s3.get_object(Bucket="box", Key="small")["Body"].read() == b"small"
    for name in Nodes.MINERS:
        assert len(inventory(nodes, name) - before[name]) == 1
    state = json.loads(nodes.command("status", "--json", "--data-dir", nodes.folder / "gateway"))
    assert [node["up"] for node in state["nodes"] if node["kind"] == "miner"] == [True] * 3
    assert state["space"]["used"] >= 9_000_000


def inventory(nodes: Nodes, name: str) -> set[bytes]:
    """The segments of which a miner holds a fragment."""
    gateway, miner = nodes.key("gateway", "gateway"), nodes.key(name, "miner").id
    held = ask(gateway, nodes.addresses[name], miner, Inventory(b"", 100)).held
    return {FragmentRecord.parse(each.record).segment.id for each in held}


def test_a_stranger_is_refused_by_a_miner(nodes: Nodes) -> None:
    address, miner = nodes.addresses["miner1"], nodes.key("miner1", "miner").id
    stranger = Identity.generate(system_entropy)
    with pytest.raises(Unreachable):
        ask(stranger, address, miner, SpaceReport())
    with pytest.raises(Unreachable):  # miners are on the ledger, yet no reader of other miners
        ask(nodes.key("miner2", "miner"), address, miner, DropFragments(()))


@pytest.mark.parametrize("name", ["chain", "miner1", "gateway", "edge"])
async def test_strangers_with_garbage_at_a_tcp_face_end_no_process(nodes: Nodes, name: str) -> None:
    alive = {name: process.pid for name, process in nodes.running.items()}
    address, chance = nodes.addresses[name], random.Random(SEED)
    for kind, data in zmtp.refused(chance).items():
        said = await zmtp.refusal(address, data)
        assert len(said) <= zmtp.GREETING_BYTES, (kind, said)
        await zmtp.cut(address, data[: chance.randrange(1, len(data))])
    assert {name: process.pid for name, process in nodes.running.items()} == alive
    assert all(nodes.runs(name) for name in alive)
    await asyncio.to_thread(put_and_get, nodes)


def put_and_get(nodes: Nodes) -> None:
    s3, key, body = nodes.s3(), nodes.key_name(), os.urandom(100_000)
    s3.put_object(Bucket="box", Key=key, Body=body)
    assert s3.get_object(Bucket="box", Key=key)["Body"].read() == body


def test_the_gateways_face_takes_no_commit_and_no_command(nodes: Nodes) -> None:
    address, gateway = nodes.addresses["gateway"], nodes.key("gateway", "gateway").id
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
    put_and_get(nodes)
    key = nodes.key("gateway", "gateway")
    said = nodes.wait_for("edge", "registered at ").rpartition("registered at ")[2]
    server, address = nodes.key("edge", "edge").id, nodes.addresses["edge"]
    assert split_identity(said.partition('"')[0]) == (server, address)
    miner = nodes.key("miner1", "miner").id
    held = ask(key, nodes.addresses["miner1"], miner, Inventory(b"", 1)).held[0]
    segment = FragmentRecord.parse(held.record).segment
    read = read_message(segment, [(0, 1000)], verify=False)
    assert len(soon(lambda: ask(key, address, server, read)).ranges[0]) == 1000
    with pytest.raises(Unreachable):
        ask(Identity.generate(system_entropy), address, server, read)
    assert nodes.stop("gateway") == 0
    nodes.gateway("--edge", with_identity(server, address))
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
    join = nodes.join
    assert nodes.stop("chain") == 0
    assert nodes.stop("miner1", signal.SIGKILL) == -signal.SIGKILL
    assert nodes.stop("miner2", signal.SIGKILL) == -signal.SIGKILL
    assert nodes.stop("miner3") == 0
    nodes.miner("miner1")  # it serves whom it knew before the ledger went away
    nodes.wait_for("miner1", " serves at tcp")
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            assert s3.get_object(Bucket="box", Key="kept")["Body"].read() == body
            break
        except s3.exceptions.ClientError:
            assert time.monotonic() < end
            time.sleep(0.2)
    nodes.chain()
    assert nodes.join == join


def test_what_an_emptied_miner_held_is_given_up_when_its_successor_answers(nodes: Nodes) -> None:
    before = nodes.key("miner2", "miner").id
    nodes.stop("miner2", signal.SIGKILL)
    shutil.rmtree(nodes.folder / "miner2")
    nodes.miner("miner2")
    nodes.wait_for("miner2", " serves at tcp")
    assert nodes.key("miner2", "miner").id != before
    log = nodes.folder / "gateway" / "logs" / "catalog.log"
    end = time.monotonic() + READY_SECONDS
    while f"miner {before.hex()} is away: another answers in its place" not in log.read_text():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_gateway_ends_in_order_and_leaves_no_process(nodes: Nodes) -> None:
    pids = nodes.pids()
    assert nodes.stop("gateway") == 0
    assert not [pid for pid in pids if is_alive(pid)]
