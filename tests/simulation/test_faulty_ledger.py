"""The ledger with a full disk, a clock that jumps, and messages lost, doubled and overtaken."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from chain.client import LedgerClient, TransactionFailed
from chain.config import ChainConfig
from chain.genesis import single_operator
from chain.keys.identity import Identity
from chain.ledger.store import Changes, MemoryStore, StoreFull
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.envelope import sign
from chain.net.memory import Faults, MemoryNetwork, MemoryTransport
from chain.net.simulation import SimClock, simulate
from chain.net.transport import RemoteError, Unreachable
from chain.node import ChainNode
from chain.protocol import SubmitTransaction

VALIDATOR, OPERATOR, OTHER = (Identity(bytes([n]) * 32) for n in (1, 2, 3))
HOUR = 3600


class FillingStore(MemoryStore):
    """A store on a disk that may be full."""

    full = False

    def commit(self, changes: Changes) -> None:
        if self.full:
            raise StoreFull("the ledger cannot be written: No space left on device")
        super().commit(changes)


class JumpingClock(SimClock):
    """Wall time that is set; what is measured goes on as ever."""

    jumped = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.jumped * 10**9


class Running:
    """A ledger node and a client of it."""

    def __init__(self, seed: int = 0) -> None:
        self.clock, self.store = JumpingClock(), FillingStore()
        self.genesis = single_operator("sim", self.clock.now_ns(), VALIDATOR.id, OPERATOR.id, HOUR)
        self.network = MemoryNetwork(random=Random(seed))
        config = ChainConfig(Path("unused"), "memory://chain")
        transport = MemoryTransport(self.network, name="chain")
        self.node = ChainNode(config, transport, self.clock, self.store, self.genesis, VALIDATOR)
        self.user = MemoryTransport(self.network, name="user")
        self.client = LedgerClient(self.user.connect("memory://chain"), self.genesis)

    async def pay(self, amount: int = 1) -> None:
        await self.client.submit(OPERATOR, Transfer(to=OTHER.id, amount=amount))

    async def paid(self) -> int:
        return (await self.client.account(OTHER.id)).balance

    async def epoch(self) -> int:
        return (await self.client.status()).epoch


@asynccontextmanager
async def running(seed: int = 0) -> AsyncIterator[Running]:
    ledger, stop = Running(seed), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(ledger.node.run(stop))
        await asyncio.sleep(0)
        yield ledger
        ledger.network.faults = Faults()
        await ledger.user.close()
        stop.set()


def test_a_full_disk_is_a_code_reads_go_on_and_what_waited_gets_its_block() -> None:
    async def run() -> None:
        async with running() as ledger:
            await ledger.pay(1)
            ledger.store.full = True
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(ledger.pay(10))
                await asyncio.sleep(2)
                with pytest.raises(TransactionFailed) as refused:
                    await ledger.pay(100)
                assert refused.value.code == "no_space"
                assert "No space left" in refused.value.reason
                assert await ledger.paid() == 1
                assert (await ledger.client.header()).height == 1
                assert not waiting.done()
                ledger.store.full = False
            assert await ledger.paid() == 11
            await ledger.pay(100)
            assert await ledger.paid() == 111

    simulate(run())


def test_epochs_end_once_there_is_room_again() -> None:
    async def run() -> None:
        async with running() as ledger:
            ledger.store.full = True
            await asyncio.sleep(1.5 * HOUR)
            assert await ledger.epoch() == 0
            with pytest.raises(TransactionFailed, match="no_space"):
                await ledger.pay()
            ledger.store.full = False
            await asyncio.sleep(2)
            assert await ledger.epoch() == 1
            await ledger.pay()

    simulate(run())


@pytest.mark.parametrize("jumps", [(5, -5), (-5, 5), (24 * 365, -24 * 365), (-24 * 365, 1)])
def test_a_clock_that_jumps_by_hours_or_years_stops_nothing_and_no_token_is_lost(
    jumps: tuple[int, ...],
) -> None:
    async def run() -> None:
        async with running() as ledger:
            await ledger.pay()
            last = await ledger.client.header()
            for jump in jumps:
                ledger.clock.jumped += jump * HOUR
                for _ in range(3):
                    await ledger.pay()
                    await asyncio.sleep(0.4 * HOUR)
                    header = await ledger.client.header()
                    assert header.height > last.height
                    assert header.time_ns > last.time_ns
                    last = header
            assert await ledger.paid() == 1 + 3 * len(jumps)
            # At most one catch-up for each jump, however far: no epoch a year back or ahead.
            assert await ledger.epoch() <= 2 * len(jumps) + 4
            mine = (await ledger.client.account(OPERATOR.id)).balance
            others = await ledger.paid()
            totals = await ledger.client.totals()
            held = totals.treasury + totals.leases + totals.bids + totals.collateral
            assert mine + others + held + totals.burned == totals.supply
            # Once the clock has passed where it was, epochs follow it again.
            before = await ledger.epoch()
            ledger.clock.jumped = 24 * 366 * HOUR
            await asyncio.sleep(3.1 * HOUR)
            assert await ledger.epoch() >= before + 3

    simulate(run())


@pytest.mark.parametrize("seed", range(5))
def test_lost_doubled_and_overtaking_messages_never_pay_twice(seed: int) -> None:
    faults = Faults(delay=(0.0, 0.5), loss=0.1, duplication=0.3, reset=0.05)

    async def run() -> None:
        async with running(seed) as ledger:
            await ledger.client.genesis()
            certain = uncertain = 0
            ledger.network.faults = faults
            for _ in range(60):
                try:
                    await ledger.pay()
                    certain += 1
                except (Unreachable, TransactionFailed, RemoteError):
                    uncertain += 1
            ledger.network.faults = Faults()
            await asyncio.sleep(60)
            paid = await ledger.paid()
            assert certain > 10
            assert uncertain > 0
            assert certain <= paid <= certain + uncertain
            assert (await ledger.client.account(OPERATOR.id)).nonce == paid

    simulate(run())


def test_a_recorded_transaction_that_is_sent_again_pays_once() -> None:
    async def run() -> None:
        async with running() as ledger:
            peer = ledger.user.connect("memory://chain")
            body = Transfer(to=OTHER.id, amount=7)
            raw = sign(OPERATOR, body, chain="sim", nonce=0, fee=0, expiry=1000)
            first = await peer.ask(SubmitTransaction(raw, wait=True))
            assert first.result.ok
            for _ in range(5):
                with pytest.raises(RemoteError, match="bad_nonce"):
                    await peer.ask(SubmitTransaction(raw, wait=True))
            assert await ledger.paid() == 7
            assert (await ledger.client.status()).height == 1

    simulate(run())
