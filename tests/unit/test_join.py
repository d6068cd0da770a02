"""Whom a node trusts as its ledger, and who is registered there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain import join as joining
from chain.client import LedgerClient
from chain.clock import SystemClock
from chain.config import ChainConfig
from chain.genesis import Genesis, pinned_genesis, single_operator
from chain.ids import AccountId
from chain.join import join
from chain.keys.identity import Identity
from chain.ledger.store import MemoryStore
from chain.ledger.transactions.nodes import RegisterEdge, RegisterGateway
from chain.members import Members
from chain.net.address import advertised, split_identity, tcp_address, with_identity
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.net.nodes import NodeTransport
from chain.net.rpc import AddressError
from chain.node import ChainNode
from chain.process import NodeError

VALIDATOR, OPERATOR, GATEWAY, EDGE, STRANGER = (Identity(bytes([n]) * 32) for n in range(1, 6))
CLOCK = SystemClock()


# ---------------------------------------------------------------- addresses
@settings(max_examples=100)
@given(st.text(max_size=120))
def test_any_text_is_an_address_or_a_typed_error(text: str) -> None:
    for parse in (tcp_address, split_identity):
        try:
            found = parse(text)
        except AddressError:
            continue
        assert found


def test_addresses_as_people_write_them() -> None:
    assert tcp_address("ledger.example:4700") == "tcp://ledger.example:4700"
    assert tcp_address("tcp://[::1]:4700") == "tcp://[::1]:4700"
    shown = with_identity(VALIDATOR.id, "tcp://10.0.0.1:4700")
    assert split_identity(shown) == (VALIDATOR.id, "tcp://10.0.0.1:4700")
    for wrong in ("host", "host:", ":1", "host:99999", "ho st:1", "::1:4700", "ipc:///x", "h:1\n"):
        with pytest.raises(AddressError):
            tcp_address(wrong)


def test_listening_everywhere_needs_an_address_for_others() -> None:
    with pytest.raises(AddressError, match="--advertise HOST:PORT"):
        advertised("tcp://0.0.0.0:1", "")
    with pytest.raises(AddressError, match="cannot reach"):
        advertised("tcp://0.0.0.0:1", "0.0.0.0:1")
    assert advertised("tcp://0.0.0.0:1", "a.example:2") == "tcp://a.example:2"
    assert advertised("tcp://127.0.0.1:1", "") == ""


# ---------------------------------------------------------------- joining
def genesis() -> Genesis:
    return single_operator("joined", CLOCK.now_ns(), VALIDATOR.id, OPERATOR.id, 3600)


@asynccontextmanager
async def ledger() -> AsyncIterator[str]:
    """A ledger node over CURVE; its HOST:PORT."""
    config = ChainConfig(Path("unused"), "tcp://127.0.0.1:0", block_seconds=0.01)
    transport = NodeTransport(VALIDATOR, authorise=lambda _: True)
    node = ChainNode(config, transport, CLOCK, MemoryStore(), genesis(), VALIDATOR)
    stop, ready = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(node.run(stop, ready))
        await ready.wait()
        yield node.address.removeprefix("tcp://")
        stop.set()


@asynccontextmanager
async def guest() -> AsyncIterator[NodeTransport]:
    transport = NodeTransport(GATEWAY)
    yield transport
    await transport.close()


async def test_the_first_join_pins_the_genesis_and_the_next_need_no_identity(
    tmp_path: Path,
) -> None:
    async with ledger() as place, guest() as transport:
        first = await join(f"{VALIDATOR.id.hex()}@{place}", tmp_path, transport, CLOCK)
        assert (await first.client(transport).status()).chain_id == "joined"
    async with guest() as transport:  # the ledger is away
        again = await join(place, tmp_path, transport, CLOCK)
    assert (again.identity, again.genesis) == (VALIDATOR.id, first.genesis)
    with pytest.raises(NodeError, match="not a validator"):
        await join(f"{STRANGER.id.hex()}@{place}", tmp_path, transport, CLOCK)


async def test_a_genesis_file_names_the_validator(tmp_path: Path) -> None:
    file, other = tmp_path / "genesis.json", tmp_path / "other.json"
    file.write_bytes(genesis().to_json())
    other.write_bytes(genesis().to_json().replace(b"joined", b"foreign"))
    async with guest() as transport:
        found = await join("ledger.example:4700", tmp_path, transport, CLOCK, file)
        assert found.identity == VALIDATOR.id
        assert pinned_genesis(tmp_path).read_bytes() == file.read_bytes()
        with pytest.raises(NodeError, match="joined another ledger"):
            await join("ledger.example:4700", tmp_path, transport, CLOCK, other)
        with pytest.raises(NodeError, match="No such file"):
            await join("h:1", tmp_path / "new", transport, CLOCK, tmp_path / "absent")


async def test_nobody_is_trusted_for_answering_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "ASK_SECONDS", 0.2)
    async with ledger() as place, guest() as transport:
        with pytest.raises(NodeError, match="ID@HOST:PORT"):
            await join(place, tmp_path, transport, CLOCK)
        with pytest.raises(NodeError, match="does not prove to be that identity"):
            await join(f"{STRANGER.id.hex()}@{place}", tmp_path, transport, CLOCK)
    async with guest() as transport:
        with pytest.raises(NodeError, match="nobody answers"):
            await join(f"{VALIDATOR.id.hex()}@{place}", tmp_path, transport, CLOCK)
    assert not pinned_genesis(tmp_path).exists()


# ---------------------------------------------------------------- members
async def test_who_registers_becomes_known_and_stays_known_without_the_ledger(
    tmp_path: Path,
) -> None:
    network = MemoryNetwork()
    node = ChainNode(
        ChainConfig(Path("unused"), "memory://chain", block_seconds=0.0),
        MemoryTransport(network, name="chain"),
        CLOCK,
        MemoryStore(),
        genesis(),
        VALIDATOR,
    )
    stop = asyncio.Event()
    user = MemoryTransport(network, name="user")
    file = tmp_path / "members.json"
    async with asyncio.TaskGroup() as group:
        group.create_task(node.run(stop))
        await asyncio.sleep(0)
        client = LedgerClient(user.connect("memory://chain"), genesis())
        members = Members(client, CLOCK, file)
        await members.refresh()
        assert not members.is_gateway(GATEWAY.id)
        await client.submit(GATEWAY, RegisterGateway(address="tcp://g:4702"))
        await client.submit(EDGE, RegisterEdge(address="tcp://e:4703"))
        await members.refresh()
        await user.close()
        stop.set()
    known = Members(client, CLOCK, file)
    assert known.gateways == {GATEWAY.id: "tcp://g:4702"}
    assert known.is_reader(EDGE.id)
    assert not known.is_gateway(EDGE.id)
    assert not known.is_node(STRANGER.id)
    assert known.is_node(AccountId(GATEWAY.id))


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_a_damaged_members_file_is_made_anew(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    file = tmp_path_factory.mktemp("m") / "members.json"
    file.write_bytes(raw)

    async def start() -> Members:
        transport = MemoryTransport(MemoryNetwork(), name="user")
        return Members(LedgerClient(transport.connect("memory://chain")), CLOCK, file)

    assert asyncio.run(start()).gateways == {}
