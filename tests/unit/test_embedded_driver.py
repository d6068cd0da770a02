"""The embedded driver under a clock of our own: when it makes blocks, and what they hold."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from chain.application import Application
from chain.client import LedgerClient, TransactionFailed
from chain.config import ChainConfig
from chain.consensus.embedded import EmbeddedDriver
from chain.consensus.mempool import Mempool
from chain.errors import InvalidBlock, LedgerError, Rejected
from chain.genesis import GIB, Genesis, single_operator
from chain.keys.identity import Identity
from chain.ledger import records
from chain.ledger.records import Market
from chain.ledger.store import MemoryStore
from chain.ledger.transactions import envelope
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.market import RevealBid
from chain.ledger.transactions.miners import RegisterMiner
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.net.simulation import EPOCH_NS, SimClock, simulate
from chain.net.transport import RemoteError
from chain.node import ChainNode
from chain.protocol import AwaitTransaction, EntrustReveal, SubmitTransaction
from chain.service import AWAITING_MAX

VALIDATOR, OPERATOR, MINER, ANN, EVE = (Identity(bytes([n]) * 32) for n in (1, 2, 3, 4, 5))
HOUR = 3600


def genesis_of(epoch_seconds: int = HOUR) -> Genesis:
    return single_operator("sim", EPOCH_NS, VALIDATOR.id, OPERATOR.id, epoch_seconds)


class JumpClock(SimClock):
    """Wall time that jumps while no timer runs: a laptop that was closed."""

    jumped_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.jumped_ns


class Net:
    """A driver, its service over the memory transport, and a client."""

    def __init__(self, genesis: Genesis, block_seconds: float) -> None:
        self.clock, self.store = JumpClock(), MemoryStore()
        self.network = MemoryNetwork()
        config = ChainConfig(Path("unused"), "memory://chain", block_seconds=block_seconds)
        transport = MemoryTransport(self.network, name="chain")
        self.node = ChainNode(config, transport, self.clock, self.store, genesis, VALIDATOR)
        self.driver = self.node.driver
        self.user = MemoryTransport(self.network, name="user")
        self.peer = self.user.connect("memory://chain")
        self.client = LedgerClient(self.peer, genesis)

    @property
    def height(self) -> int:
        return self.driver.application.info().height

    @property
    def market(self) -> Market:
        market = self.driver.application.get(records.MARKET, b"")
        assert market is not None
        return market

    def transfer(self, nonce: int, amount: int = 1) -> bytes:
        return envelope.sign(
            OPERATOR, Transfer(to=ANN.id, amount=amount), chain="sim", nonce=nonce, fee=0,
            expiry=10**6,
        )  # fmt: skip


@asynccontextmanager
async def running(genesis: Genesis | None = None, block_seconds: float = 0.2) -> AsyncIterator[Net]:
    net = Net(genesis or genesis_of(), block_seconds)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(net.node.run(stop))
        await asyncio.sleep(0)
        yield net
        await net.user.close()
        stop.set()


def test_an_idle_ledger_makes_a_block_per_epoch_and_no_other() -> None:
    async def run() -> None:
        async with running() as net:
            await net.clock.sleep(HOUR - 1)
            assert net.height == 0
            await net.clock.sleep(2)
            assert (net.height, net.market.epoch) == (1, 1)
            await net.clock.sleep(5 * HOUR)
            assert (net.height, net.market.epoch) == (6, 6)

    simulate(run())


def test_transactions_that_come_together_share_a_block_soon_after_the_first() -> None:
    async def run() -> None:
        async with running(block_seconds=0.2) as net:
            before = net.clock.monotonic()
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(net.client.submit(OPERATOR, Transfer(to=ANN.id, amount=1)))
            assert net.clock.monotonic() - before < 0.5
            assert net.height == 1
            await net.clock.sleep(10)
            assert net.height == 1, "an empty mempool makes no block"

    simulate(run())


def test_after_a_closed_laptop_one_epoch_catches_up() -> None:
    async def run() -> None:
        async with running() as net:
            await net.client.submit(OPERATOR, Transfer(to=ANN.id, amount=5))
            net.clock.jumped_ns = 30 * HOUR * 10**9
            await net.clock.sleep(2)
            assert net.market.epoch == 1
            assert abs(net.market.start_ns - net.clock.now_ns()) < 3 * 10**9
            assert net.market.end_ns == net.market.start_ns + HOUR * 10**9
            await net.clock.sleep(HOUR)
            assert net.market.epoch == 2

    simulate(run())


def test_blocks_keep_their_order_in_time_when_the_clock_goes_back() -> None:
    async def run() -> None:
        async with running() as net:
            await net.client.submit(OPERATOR, Transfer(to=ANN.id, amount=5))
            first = await net.client.header()
            net.clock.jumped_ns = -10 * HOUR * 10**9
            await net.client.submit(OPERATOR, Transfer(to=ANN.id, amount=5))
            second = await net.client.header()
            assert (second.time_ns, second.previous) == (first.time_ns + 1, first.hash())

    simulate(run())


def test_epochs_shorter_than_a_block_do_not_shut_out_everybody_else() -> None:
    async def run() -> None:
        async with running(genesis_of(1)) as net:
            plain = net.driver.make_block

            def slow() -> object:
                net.clock.jumped_ns += 1500 * 10**6  # a disk that takes its time
                return plain()

            net.driver.make_block = slow  # type: ignore[assignment, method-assign]
            receipt = await net.client.submit(OPERATOR, Transfer(to=ANN.id, amount=5))
            assert receipt.result.ok

    simulate(run())


def test_what_does_not_fit_waits_for_the_next_block() -> None:
    async def run() -> None:
        genesis = genesis_of()
        small = replace(genesis.parameters, block_transactions_max=3)
        async with running(replace(genesis, parameters=small)) as net:
            for nonce in range(8):
                net.driver.accept(net.transfer(nonce))
            await net.clock.sleep(2)
            assert (net.height, net.driver.waiting) == (3, 0)
            assert (await net.client.account(ANN.id)).balance == 8

    simulate(run())


def test_a_full_mempool_refuses_and_recovers() -> None:
    async def run() -> None:
        store = MemoryStore()
        clock = SimClock()
        driver = EmbeddedDriver(
            Application(store, genesis_of()), store, VALIDATOR, clock,
            mempool=Mempool(transactions_max=2),
        )  # fmt: skip
        net = Net(genesis_of(), 1)
        raws = [net.transfer(nonce) for nonce in range(3)]
        driver.accept(raws[0])
        driver.accept(raws[0])
        driver.accept(raws[1])
        with pytest.raises(Rejected, match="mempool_full"):
            driver.accept(raws[2])
        driver.make_block()
        driver.accept(raws[2])
        assert driver.waiting == 1

    simulate(run())


def test_a_transaction_overtaken_by_a_block_tells_who_waits_for_it() -> None:
    def nothing(waiting: Iterable[bytes]) -> list[bytes]:  # noqa: ARG001 - named as the method's
        return []

    async def run() -> None:
        async with running(block_seconds=1) as net:
            raw = envelope.sign(
                OPERATOR, Transfer(to=ANN.id, amount=1), chain="sim", nonce=0, fee=0, expiry=1
            )
            net.driver.accept(raw)
            digest = net.driver.accept(raw)
            # the block takes another transaction only; then this one is past its expiry
            net.driver.application.prepare_proposal = nothing  # type: ignore[method-assign]
            with pytest.raises(Rejected, match="expired"):
                await net.driver.included(digest)
            assert net.driver.waiting == 0

    simulate(run())


def test_waiting_for_receipts_leaves_handlers_to_others() -> None:
    async def run() -> None:
        async with running(block_seconds=1) as net:
            checked = await net.peer.ask(SubmitTransaction(net.transfer(0), wait=False))
            async with asyncio.TaskGroup() as group:
                asks = [
                    group.create_task(net.peer.ask(AwaitTransaction(checked.id)))
                    for _ in range(AWAITING_MAX + 30)
                ]
                await net.clock.sleep(0.1)
                turned_away = [ask.result().height for ask in asks if ask.done()]
                assert turned_away == [0] * 30
                assert (await net.client.status()).mempool == 1
            assert [ask.result().height for ask in asks].count(1) == AWAITING_MAX
            again = await net.peer.ask(AwaitTransaction(checked.id))
            assert again.height == 1

    simulate(run())


def test_a_block_that_is_long_in_coming_is_waited_for_in_pieces() -> None:
    async def run() -> None:
        async with running(block_seconds=25) as net:
            receipt = await net.client.submit(OPERATOR, Transfer(to=ANN.id, amount=1))
            assert receipt.height == 1
            assert 25 <= net.clock.monotonic() < 27

    simulate(run())


def test_entrusted_bids_are_revealed_in_their_epoch_and_survive_a_restart() -> None:
    async def run() -> None:
        async with running() as net:
            body = RegisterMiner(
                owner=MINER.id, address="m", domain="d", pledged_bytes=100 * GIB, min_price=1
            )
            await net.client.submit(MINER, body)
            await net.client.submit(OPERATOR, Transfer(to=ANN.id, amount=10**11))
            reveal = await net.client.bid(ANN, price=10**7, size=GIB)
            (bid,) = (await net.client.bids(ANN.id)).values()
            assert bid.state == "committed"
            # a new service over the same store, as after a restart
            net.driver.after_block.clear()
            type(net.node.service)(net.driver, net.store)
            await net.clock.sleep(HOUR + 2)
            (bid,) = (await net.client.bids(ANN.id)).values()
            assert (bid.state, bid.price) == ("revealed", 10**7)
            await net.clock.sleep(HOUR)
            assert await net.client.claim_all(ANN) == [reveal.bid]
            assert set(await net.client.leases(ANN.id)) == {reveal.bid}
            with net.store.read() as view:
                assert list(view.scan("meta", b"reveal/", b"reveal0")) == []

    simulate(run())


def test_nobody_puts_other_terms_in_place_of_an_entrusted_bid() -> None:
    async def run() -> None:
        async with running() as net:
            await net.client.submit(OPERATOR, Transfer(to=ANN.id, amount=10**11))
            reveal = await net.client.bid(ANN, price=10**7, size=GIB)
            right = {name: getattr(reveal, name) for name in RevealBid.__struct_fields__}
            for wrong, code in (
                ({"price": 1}, "wrong_opening"),
                ({"salt": bytes(32)}, "wrong_opening"),
                ({"size": GIB + 1}, "malformed"),
                ({"bid": bytes(32)}, "not_found"),
            ):
                with pytest.raises(RemoteError, match=code):
                    await net.peer.ask(EntrustReveal(**(right | wrong)))
            await net.clock.sleep(HOUR + 2)
            (bid,) = (await net.client.bids(ANN.id)).values()
            assert bid.state == "revealed"
            with pytest.raises(RemoteError, match="not_found"):
                await net.peer.ask(EntrustReveal(**right))

    simulate(run())


def test_a_refused_transaction_costs_its_nonce_and_the_client_goes_on() -> None:
    async def run() -> None:
        async with running() as net:
            with pytest.raises(TransactionFailed, match="insufficient_funds"):
                await net.client.submit(EVE, Transfer(to=ANN.id, amount=1))
            await net.client.submit(OPERATOR, Transfer(to=EVE.id, amount=3))
            # another process uses the same identity
            other = LedgerClient(net.user.connect("memory://chain"), genesis_of())
            await other.submit(EVE, Transfer(to=ANN.id, amount=1))
            await net.client.submit(EVE, Transfer(to=ANN.id, amount=1))
            assert (await net.client.account(EVE.id)).nonce == 3

    simulate(run())


def test_a_node_with_a_strangers_key_or_a_strangers_block_does_not_start() -> None:
    async def run() -> None:
        net = Net(genesis_of(), 1)
        net.driver.accept(net.transfer(0))
        net.driver.make_block()
        with pytest.raises(LedgerError, match="validator key"):
            ChainNode(
                ChainConfig(Path("unused"), "memory://x"), net.user, net.clock, net.store,
                genesis_of(), EVE,
            )  # fmt: skip
        application = Application(net.store, genesis_of())
        application.genesis = replace(genesis_of(), validators=[EVE.id.hex()])
        with pytest.raises(InvalidBlock, match="nobody"):
            EmbeddedDriver(application, net.store, EVE, net.clock)

    simulate(run())
