"""Two gateways with catalogs and leases of their own store on the same three miners."""

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from miner.protocol import DropFragments, ListFragments
from tests.fault.metrics import repairs
from tests.fault.nodes import READY_SECONDS, Nodes, ask

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

SEED = 31
GATEWAYS = ("gateway", "gateway2")
OBJECTS = 8


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Each gateway compares its placements with the miners' lists every two seconds."""
    started = Nodes(tmp_path)
    try:
        started.chain()
        for name in Nodes.MINERS:
            started.miner(name)
        for name in GATEWAYS:
            (tmp_path / name).mkdir()
            (tmp_path / name / "cumulus.toml").write_text('[repair]\nsurvey = "2s"\n')
            started.gateway(name=name)
        for name in GATEWAYS:
            started.lease(name)
        yield started
    finally:
        started.close()


def fragments(nodes: Nodes, miner: str) -> set[bytes]:
    """All that a miner lists, whoever stored it."""
    gateway, server = nodes.key("gateway", "gateway"), nodes.key(miner, "miner").id
    page = ask(gateway, nodes.addresses[miner], server, ListFragments(b"", b"", 1000))
    return {listed.key for listed in page.listed}


class Stored:
    """What clients put through each gateway, and the fragments that it made of it at each miner."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.bodies: dict[tuple[str, str], bytes] = {}
        self.own: dict[str, set[bytes]] = {}
        chance = random.Random(SEED)
        for name in GATEWAYS:
            before, s3 = fragments(nodes, "miner1"), nodes.s3(name)
            s3.create_bucket(Bucket="box")
            for number in range(OBJECTS):
                key, body = f"k{number}", chance.randbytes(100_000)
                s3.put_object(Bucket="box", Key=key, Body=body)
                self.bodies[name, key] = body
            self.own[name] = fragments(nodes, "miner1") - before
            assert len(self.own[name]) == OBJECTS

    def delete(self, key: str) -> None:
        for name in GATEWAYS:
            self.nodes.s3(name).delete_object(Bucket="box", Key=key)
            del self.bodies[name, key]

    def check_reads(self) -> None:
        for (name, key), body in self.bodies.items():
            found = self.nodes.s3(name).get_object(Bucket="box", Key=key)
            assert found["Body"].read() == body, (name, key)


def counts(nodes: Nodes) -> dict[str, int]:
    return {name: len(fragments(nodes, name)) for name in Nodes.MINERS}


def rebuilt(nodes: Nodes, name: str) -> int:
    return repairs(nodes.endpoint("console", name), "rebuilt_fragments_total")


def wait(done: Callable[[], bool], nodes: Nodes) -> None:
    end = time.monotonic() + READY_SECONDS
    while not done():
        assert time.monotonic() < end, counts(nodes)
        time.sleep(0.2)


def test_each_gateway_keeps_rebuilds_and_deletes_what_is_its_own(nodes: Nodes) -> None:
    stored = Stored(nodes)
    everything = dict.fromkeys(Nodes.MINERS, 2 * OBJECTS)
    assert counts(nodes) == everything

    miner1 = (nodes.addresses["miner1"], nodes.key("miner1", "miner").id)
    for name, other in zip(GATEWAYS, reversed(GATEWAYS), strict=True):
        drop = DropFragments(tuple(sorted(stored.own[other])))
        assert ask(nodes.key(name, "gateway"), *miner1, drop).count == 0

    nodes.stop("miner2", signal.SIGKILL)
    shutil.rmtree(nodes.folder / "miner2")
    nodes.miner("miner2")
    nodes.wait_for("miner2", " serves at tcp")
    wait(lambda: all(rebuilt(nodes, name) == OBJECTS for name in GATEWAYS), nodes)
    assert counts(nodes) == everything
    stored.check_reads()

    for key in ("k0", "k1"):
        stored.delete(key)
    rest = dict.fromkeys(Nodes.MINERS, 2 * (OBJECTS - 2))
    wait(lambda: counts(nodes) == rest, nodes)
    time.sleep(3)  # another comparison of each
    assert counts(nodes) == rest
    stored.check_reads()
