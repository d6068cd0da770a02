"""Networks that client tests share: one over http, one over https, both with six miners."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork


@pytest.fixture(scope="session")
def plain_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """http."""
    yield from _network(tmp_path_factory.mktemp("http"))


@pytest.fixture(scope="session")
def secure_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """https with the network's own authority."""
    yield from _network(tmp_path_factory.mktemp("https"), "--tls", "self-signed")


@pytest.fixture(params=["http", "https"])
def network(request: pytest.FixtureRequest) -> RunningNetwork:
    """Each test runs over both."""
    name = "plain_network" if request.param == "http" else "secure_network"
    found = request.getfixturevalue(name)
    assert isinstance(found, RunningNetwork)
    return found


def _network(folder, *options: str) -> Iterator[RunningNetwork]:  # type: ignore[no-untyped-def]
    running = RunningNetwork(folder, "--pledge", "2GiB", "--workers", "2", *options)
    running.configure(
        '[notify.hook]\nurl = "http://127.0.0.1:9/"\n'  # no jobs run here: names to configure
        '[replication.there]\nurl = "http://127.0.0.1:9/"\naccess_key = "a"\nsecret_key = "b"\n'
    )
    with running:
        yield running


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Some files, small and large."""
    chance = random.Random(4)
    for name, size in [("a", 10), ("empty", 0), ("d/large.bin", 20 << 20), ("d/é +", 70_000)]:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(size))
    return tmp_path / "tree"


@pytest.fixture
def bucket(network: RunningNetwork, request: pytest.FixtureRequest) -> Iterator[str]:
    """A bucket that goes with the test, whatever is left in it."""
    name = "p-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    client = network.boto()
    client.create_bucket(Bucket=name)
    yield name
    network.cumulus("bucket", "rm", name, "--force")
