"""Which fragments share a message to a miner, and what becomes of each of them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from chain.ids import AccountId
from chain.net.simulation import simulate
from chain.net.transport import Payload, RemoteError, Unreachable
from chain.receipts import StorageReceipt
from miner.placement import MinerInfo
from miner.protocol import STORE_MAX, NewFragment, Outcome, StoredFragments, StoreFragments
from miner.sending import HELD_SECONDS, MESSAGE_BYTES, SMALL, FragmentSender, Stored

MINER = MinerInfo(AccountId(bytes(32)), "memory://m", "m", 1 << 30)
RECEIPT = StorageReceipt(MINER.id, bytes(32), 1, 1, 0, b"")


def fragment(size: int = 1000, index: int = 0) -> NewFragment:
    return NewFragment("small", 4, 2, 4 * size, (), index, Payload(bytes(size)))


class Miner:
    """Answers a message after `seconds`, fragment by fragment as `judge` says."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.seconds = seconds
        self.messages: list[int] = []
        self.given_up = 0
        self.judge: Callable[[NewFragment], Outcome] = lambda fragment: Outcome(0, fragment.index)
        self.sender = FragmentSender(self.ask)

    async def ask(self, _: MinerInfo, message: StoreFragments, seconds: float) -> StoredFragments:
        self.messages.append(len(message.fragments))
        try:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(self.seconds)
        except TimeoutError:
            raise Unreachable("no answer") from None
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return StoredFragments((RECEIPT,), tuple(map(self.judge, message.fragments)))

    def store(self, *fragments: NewFragment, seconds: float = 30) -> list[asyncio.Future[Stored]]:
        return [self.sender.store(MINER, each, seconds) for each in fragments]


async def answers(puts: list[asyncio.Future[Stored]]) -> list[Stored]:
    return [await put for put in puts]


def simulated(claim: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def test() -> None:
        simulate(claim())

    test.__name__ = claim.__name__
    return test


@simulated
async def test_fragments_of_one_turn_share_a_message() -> None:
    miner = Miner()
    stored = await answers(miner.store(*[fragment(index=i) for i in range(5)]))
    assert miner.messages == [5]
    assert [each.leaf for each in stored] == [0, 1, 2, 3, 4]


@simulated
async def test_what_comes_while_a_message_is_on_its_way_shares_the_next() -> None:
    miner = Miner()
    puts = miner.store(fragment())
    for _ in range(3):
        await asyncio.sleep(miner.seconds / 4)
        puts += miner.store(fragment())
    await answers(puts)
    assert miner.messages == [1, 3]


@simulated
async def test_a_large_fragment_travels_alone_and_waits_for_nothing() -> None:
    miner = Miner()
    puts = miner.store(fragment())
    await asyncio.sleep(miner.seconds / 2)
    (large,) = miner.store(fragment(SMALL + 1))
    await asyncio.sleep(0)
    assert miner.messages == [1, 1]
    await answers([large, *puts])


@simulated
async def test_a_stalled_message_holds_others_back_for_a_moment_only() -> None:
    miner = Miner(seconds=20)
    miner.store(fragment())
    await asyncio.sleep(0.001)
    miner.store(fragment())
    await asyncio.sleep(HELD_SECONDS)
    assert miner.messages == [1, 1]


@simulated
async def test_a_message_is_bounded_in_fragments_and_bytes() -> None:
    miner = Miner()
    await answers(miner.store(*[fragment(10) for _ in range(STORE_MAX + 1)]))
    assert miner.messages == [STORE_MAX, 1]
    miner.messages.clear()
    count = MESSAGE_BYTES // SMALL
    await answers(miner.store(*[fragment(SMALL) for _ in range(count + 1)]))
    assert miner.messages == [count, 1]


@simulated
async def test_a_refused_fragment_fails_alone() -> None:
    miner = Miner()
    miner.judge = lambda each: Outcome(code="full" if each.index == 1 else "")
    first, second, third = miner.store(*[fragment(index=i) for i in range(3)])
    with pytest.raises(RemoteError, match="full"):
        await second
    assert (await first, await third) == (Stored(RECEIPT, 0, ()),) * 2


@simulated
async def test_an_answer_for_other_fragments_or_without_a_receipt_stores_nothing() -> None:
    miner = Miner()
    miner.judge = lambda _: Outcome(receipt=1)
    with pytest.raises(RemoteError, match="malformed_reply"):
        await miner.store(fragment())[0]

    async def silent(*_: object) -> StoredFragments:
        return StoredFragments((RECEIPT,), ())

    with pytest.raises(RemoteError, match="malformed_reply"):
        await FragmentSender(silent).store(MINER, fragment(), 30)


@simulated
async def test_a_message_without_an_answer_fails_all_that_it_carried() -> None:
    miner = Miner(seconds=60)
    puts = miner.store(fragment(), fragment(), seconds=5)
    for put in puts:
        with pytest.raises(Unreachable):
            await put


@simulated
async def test_what_nobody_waits_for_any_more_is_given_up() -> None:
    miner = Miner(seconds=20)
    first, second = miner.store(fragment(), fragment())
    await asyncio.sleep(0.001)
    (unsent,) = miner.store(fragment())
    unsent.cancel()
    first.cancel()
    await asyncio.sleep(HELD_SECONDS)
    assert (miner.messages, miner.given_up) == ([2], 0)
    second.cancel()
    await asyncio.sleep(0.001)
    assert (miner.messages, miner.given_up) == ([2], 1)
