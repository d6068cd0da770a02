"""The repair process is killed again and again while it has work to do."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork
from tests.fault.metrics import repairs
from tests.fault.miners_held import holdings
from tests.fault.test_repair_network import empty

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

SEED = 3
OBJECTS, KILLS = 16, 2


@pytest.fixture
def network(tmp_path: Path) -> Iterator[RunningNetwork]:
    """Repair is slow enough to be met at work."""
    running = RunningNetwork(tmp_path, "--pledge", "1GiB", "--workers", "1")
    running.configure('[repair]\nrate = "2MiB"\n')
    with running:
        yield running


def test_repair_that_is_killed_goes_on_and_rebuilds_everything_once(
    network: RunningNetwork,
) -> None:
    client, chance = network.boto(), random.Random(SEED)
    client.create_bucket(Bucket="box")
    bodies = {f"k{n}": chance.randbytes(chance.choice([70_000, 400_000])) for n in range(OBJECTS)}
    for key, body in bodies.items():
        client.put_object(Bucket="box", Key=key, Body=body)
    before = holdings(network)
    assert not before.problems()
    assert before.segments == OBJECTS
    empty(network, "m2")
    for _ in range(KILLS):
        rebuilt = repairs(network.url("console"), "rebuilt_fragments_total")
        while repairs(network.url("console"), "rebuilt_fragments_total") == rebuilt:
            time.sleep(0.02)
        assert repairs(network.url("console"), "pending_fragments")
        time.sleep(chance.random() * 0.3)  # between a fragment's store and its commit, now and then
        pid = network.pids()["repair"]
        os.kill(pid, signal.SIGKILL)
        while network.pids().get("repair", pid) == pid:
            time.sleep(0.02)
    while repairs(network.url("console"), "pending_fragments"):
        time.sleep(0.1)
    assert repairs(network.url("console"), "crowded_fragments") == 0
    assert repairs(network.url("console"), "rebuilt_fragments_total") == len(before.miners["m2"])
    after = holdings(network)
    assert not after.problems()
    assert after.wanted == before.wanted
    for key, body in bodies.items():
        assert client.get_object(Bucket="box", Key=key)["Body"].read() == body, key
