"""A ledger node behind its service, over the memory transport."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chain.client import LedgerClient, TransactionFailed
from chain.clock import SystemClock
from chain.config import ChainConfig
from chain.genesis import GIB, single_operator
from chain.keys.identity import Identity
from chain.ledger.store import MemoryStore
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.miners import RegisterMiner
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.node import ChainNode

VALIDATOR, OPERATOR, MINER = (Identity(bytes([n]) * 32) for n in (1, 2, 3))


@asynccontextmanager
async def running() -> AsyncIterator[LedgerClient]:
    clock = SystemClock()
    genesis = single_operator("sim", clock.now_ns(), VALIDATOR.id, OPERATOR.id, 3600)
    network = MemoryNetwork()
    config = ChainConfig(Path("unused"), "memory://chain", block_seconds=0.01)
    node = ChainNode(
        config, MemoryTransport(network, name="chain"), clock, MemoryStore(), genesis, VALIDATOR
    )
    stop = asyncio.Event()
    user = MemoryTransport(network, name="user")
    async with asyncio.TaskGroup() as group:
        group.create_task(node.run(stop))
        await asyncio.sleep(0)
        yield LedgerClient(user.connect("memory://chain"), genesis)
        await user.close()
        stop.set()


async def test_transactions_of_one_identity_keep_their_order() -> None:
    async with running() as client:
        async with asyncio.TaskGroup() as group:
            for amount in range(1, 31):
                group.create_task(client.submit(OPERATOR, Transfer(to=MINER.id, amount=amount)))
        assert (await client.account(MINER.id)).balance == 465
        assert (await client.account(OPERATOR.id)).nonce == 30


async def test_refused_transaction_names_its_code() -> None:
    async with running() as client:
        with pytest.raises(TransactionFailed) as refused:
            await client.submit(MINER, Transfer(to=OPERATOR.id, amount=1))
        assert refused.value.code == "insufficient_funds"


async def test_proven_answers_and_instant_lease_follow_from_signed_blocks() -> None:
    async with running() as client:
        body = RegisterMiner(
            owner=MINER.id, address="m", domain="d", pledged_bytes=100 * GIB, min_price=1
        )
        await client.submit(MINER, body)
        lease = await client.buy_lease(OPERATOR, size=GIB)
        assert set(await client.leases(OPERATOR.id)) == {lease, client.operator_lease()}
        header, record = await client.proven("leases", lease)
        assert record == await client.lease(lease)
        assert header.height == (await client.status()).height
        assert (await client.proven("leases", bytes(32)))[1] is None
