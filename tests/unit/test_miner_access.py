"""What a miner does for whom: owners, readers, strangers."""

from typing import Any

import pytest

from chain.clock import SystemClock
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.net.transport import Caller, Message, RemoteError
from miner.access import Access
from miner.client import new_fragment
from miner.protocol import DropFragments, Inventory, ReadFragment, SpaceReport, StoreFragments
from miner.service import MinerService
from miner.store.memory import MemoryStore
from tests.conformance.fragment_store_suite import fragments

ANN, BEN, EDGE, STRANGER = (AccountId(bytes([n]) * 32) for n in (1, 2, 3, 4))


class Registered:
    """Members of chain/members.py with a fixed set."""

    gateways = {ANN: "tcp://ann:4702", BEN: "tcp://ben:4702"}  # noqa: RUF012 - never changed

    def is_gateway(self, account: AccountId) -> bool:
        return account in self.gateways

    def is_reader(self, account: AccountId) -> bool:
        return account in (ANN, BEN, EDGE)


class Miner:
    def __init__(self) -> None:
        self.store = MemoryStore(SystemClock(), 1 << 20)
        access = Access(members=Registered())  # type: ignore[arg-type]
        self.table = MinerService(self.store, Identity(bytes(32)), access).handlers().table

    async def ask(self, message: Message[Any], who: AccountId | None) -> Any:
        return await self.table[type(message)](message, Caller(who, local=who is None))


@pytest.fixture
def miner() -> Miner:
    return Miner()


def stores() -> list[StoreFragments]:
    made = fragments("a", 3_000)[1]
    return [StoreFragments((new_fragment(record, payload),)) for record, payload in made]


async def test_only_who_stored_a_fragment_drops_it(miner: Miner) -> None:
    by_ann, by_ben, here = stores()[:3]
    keys = tuple(record.key for record, _ in fragments("a", 3_000)[1][:3])
    for message, who in ((by_ann, ANN), (by_ben, BEN), (here, None)):
        await miner.ask(message, who)
    assert (await miner.ask(DropFragments(keys), ANN)).count == 1
    assert [miner.store.find(key) is None for key in keys] == [True, False, False]
    await miner.ask(by_ben, ANN)  # storing again makes nobody the owner
    assert (await miner.ask(DropFragments(keys), ANN)).count == 0
    assert (await miner.ask(DropFragments(keys), None)).count == 2


async def test_an_edge_reads_and_does_nothing_else(miner: Miner) -> None:
    await miner.ask(stores()[0], ANN)
    segment = fragments("a", 3_000)[0]
    assert len((await miner.ask(ReadFragment(segment.id, 0, 0, 10), EDGE)).payload) == 10
    await miner.ask(SpaceReport(), EDGE)
    for refused in (stores()[1], DropFragments(()), Inventory(b"", 1)):
        with pytest.raises(RemoteError, match="not_allowed"):
            await miner.ask(refused, EDGE)


@pytest.mark.parametrize(
    "message", [stores()[0], ReadFragment(bytes(32), 0, 0, 1), SpaceReport(), Inventory(b"", 1)]
)
async def test_a_stranger_is_refused(miner: Miner, message: Message[Any]) -> None:
    with pytest.raises(RemoteError, match="not_allowed"):
        await miner.ask(message, STRANGER)


def test_without_a_ledger_only_the_named_are_served() -> None:
    access = Access(frozenset([ANN]))
    assert access.may_read(ANN)
    assert access.may_store(ANN)
    assert not access.may_read(BEN)
    assert access.gateway_address(ANN) is None
