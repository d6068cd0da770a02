"""Bits flip all over a miner's disk: no wrong byte is read, and in the end all is right again."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork
from tests.fault.flips import flip
from tests.fault.metrics import repairs
from tests.fault.miners_held import holdings

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

SEED = 21
SIZES = (20_000, 70_000, 400_000, 1_100_000)
OBJECTS = 16
HEAL_SECONDS = 60.0


@pytest.fixture
def network(tmp_path: Path) -> Iterator[RunningNetwork]:
    """Placements and miners are compared every few seconds, not once a day."""
    running = RunningNetwork(tmp_path, "--pledge", "1GiB", "--workers", "1")
    running.configure('[repair]\nsurvey = "3s"\n')
    with running:
        yield running


def rot(directory: Path, chance: random.Random) -> None:
    """Flip bits of every file but FORMAT: one in some 50 KB, in each at least in three places."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    assert {path.suffix for path in files} >= {".volume", ".mdb"}
    for path in files:
        if path.stat().st_size and path.name != "FORMAT":
            for _ in range(max(3, path.stat().st_size // 50_000)):
                flip(path, chance)


def fragments(network: RunningNetwork, name: str) -> Path:
    return network.data_dir / "miners" / name / "fragments"


class Box:
    """Objects, and the fragments that they had at first."""

    def __init__(self, network: RunningNetwork, chance: random.Random) -> None:
        self.network = network
        client = network.boto()
        client.create_bucket(Bucket="box")
        self.bodies = {f"k{n}": chance.randbytes(chance.choice(SIZES)) for n in range(OBJECTS)}
        for key, body in self.bodies.items():
            client.put_object(Bucket="box", Key=key, Body=body)
        found = holdings(network)
        assert not found.problems()
        self.wanted = found.wanted
        self.rebuilt = 0

    def check_reads(self) -> None:
        client = self.network.boto()
        for key, body in self.bodies.items():
            assert client.get_object(Bucket="box", Key=key)["Body"].read() == body, key

    def wait_whole(self) -> None:
        """Every fragment is on one miner's disk, and right."""
        end = time.monotonic() + HEAL_SECONDS
        while problems := holdings(self.network).problems():
            assert time.monotonic() < end, f"{problems}\n{self.network.logs()}"
            time.sleep(0.5)
        assert holdings(self.network).wanted == self.wanted
        rebuilt = repairs(self.network.url("console"), "rebuilt_fragments_total")
        assert rebuilt > self.rebuilt, "nothing was damaged"
        self.rebuilt = rebuilt


def restarted(network: RunningNetwork, name: str, pid: int) -> None:
    while network.pids().get(name, pid) == pid:
        time.sleep(0.02)


def test_all_is_read_and_rebuilt_after_bits_flipped_all_over_a_miner(
    network: RunningNetwork,
) -> None:
    chance = random.Random(SEED)
    box = Box(network, chance)

    assert network.stop() == 0
    rot(fragments(network, "m3"), chance)
    network.start()
    box.check_reads()
    box.wait_whole()

    pid = network.pids()["miner-m5"]
    os.kill(pid, signal.SIGSTOP)
    rot(fragments(network, "m5"), chance)
    os.kill(pid, signal.SIGKILL)
    restarted(network, "miner-m5", pid)
    box.check_reads()
    box.wait_whole()

    # A miner that cannot even tell what its directory is says so; the others go on.
    pid = network.pids()["miner-m1"]
    (fragments(network, "m1") / "FORMAT").write_bytes(b"{")
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + HEAL_SECONDS
    while "miner-m1 refuses to run; the others go on" not in (said := network.logs()):
        assert time.monotonic() < end, said
        time.sleep(0.1)
    assert f"{fragments(network, 'm1') / 'FORMAT'} is damaged" in said
    box.check_reads()
    network.boto().put_object(Bucket="box", Key="new", Body=bytes(SIZES[1]))
