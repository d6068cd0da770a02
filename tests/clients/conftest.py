"""Networks that client tests share: one over http, one over https, both with six miners."""

from collections.abc import Iterator

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
    try:
        running.start()
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            assert running.stop() == 0
