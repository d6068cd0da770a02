"""Every transport under the same suite."""

import random
import sys
from collections.abc import AsyncIterator

import pytest

from chain.keys.identity import Identity
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.net.nodes import NodeTransport
from chain.net.rpc import Limits
from chain.net.shared import Arena
from tests.conformance.transport_suite import SMALL_WINDOW, Pair, TransportSuite

SERVER = Identity(bytes(32))
# One identity of each sign: both of a CURVE key's accounts must be told apart.
CLIENTS = {"even": Identity(b"\x01" * 32), "odd": Identity(b"\x02" * 32)}


def test_the_clients_have_keys_of_both_signs() -> None:
    assert {name: identity.id[31] >> 7 for name, identity in CLIENTS.items()} == {
        "even": 0,
        "odd": 1,
    }


class TestMemoryTransport(TransportSuite):
    @pytest.fixture
    async def pair(self) -> AsyncIterator[Pair]:
        network = MemoryNetwork(random.Random(1))
        serving = MemoryTransport(network, name="server")
        asking = MemoryTransport(network, name="client", window=SMALL_WINDOW)
        yield Pair(serving, asking, "memory://server")
        await asking.close()
        await serving.close()


class TestLocalStream(TransportSuite):
    @pytest.fixture
    async def pair(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
        run = tmp_path_factory.mktemp("run")
        serving = NodeTransport()
        asking = NodeTransport(limits=Limits(SMALL_WINDOW))
        yield Pair(serving, asking, f"ipc://{run}/server.ipc")
        await asking.close()
        await serving.close()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux only")
class TestLocalStreamWithSharedMemory(TransportSuite):
    @pytest.fixture
    async def pair(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
        run = tmp_path_factory.mktemp("run")
        arena = Arena.create(64 << 20, rooms=16 << 20, limit=64 << 20)
        serving = NodeTransport()
        asking = NodeTransport(limits=Limits(SMALL_WINDOW), arena=arena)
        yield Pair(serving, asking, f"ipc://{run}/server.ipc", arena=arena)
        await asking.close()
        await serving.close()


class TestZeroMqCurve(TransportSuite):
    @pytest.fixture(params=["even", "odd"])
    async def pair(self, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
        client = CLIENTS[request.param]
        serving = NodeTransport(SERVER, authorise=lambda account: account == client.id)
        asking = NodeTransport(client, limits=Limits(SMALL_WINDOW))
        yield Pair(serving, asking, "tcp://127.0.0.1:0", SERVER.id, client.id, local=False)
        await asking.close()
        await serving.close()
