"""Whole networks under drawn faults: tests/simulation/whole/ says what runs and what is checked."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from chain.ids import AccountId
from chain.ledger.records import ACCOUNTS, Account, encode
from chain.net.simulation import SimClock, simulate
from gateway.catalog.interface import Add, Batch, Change, Delete, Put, Space
from gateway.records import used_counter
from miner.fragment import FragmentRecord, fragment_id
from miner.placement import Holder, Placement, placement_rows
from miner.segments import PROFILES, Profile, Segment
from tests.simulation.whole.checks import check
from tests.simulation.whole.gateways import below_quorum
from tests.simulation.whole.load import Client
from tests.simulation.whole.model import ABSENT, Model
from tests.simulation.whole.network import SimulatedNetwork
from tests.simulation.whole.run import SEEDS, rest, run
from tests.simulation.whole.trace import Trace

ROOT = Path(__file__).parents[2]
# So many runs share a test: each takes about 0.4 CPU s.
CHUNK = 10
# A seed whose network has two gateways.
SEVERAL = 3


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_whatever_fails_acknowledged_objects_read_and_nothing_else_stays(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = run(seed)
        assert not outcome.problems, f"{outcome}\nagain: make sim SEED={seed}"


def test_the_same_seed_gives_the_same_trace_in_every_process() -> None:
    def digests(hash_seed: str) -> str:
        command = [sys.executable, "-m", "tests.simulation.whole.run", "--digests"]
        return subprocess.run(
            [*command, "--seeds", "3", "6"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    one, other = digests("1"), digests("2")
    assert one == other
    assert len(set(one.split())) == 3, "each seed has a trace of its own"


# ---------------------------------------------------------------- the checks can fail
class Quiet:
    """A network after a load without faults, on which one thing is broken at a time."""

    def __init__(self) -> None:
        self.trace = Trace(SimClock())
        self.network = SimulatedNetwork(SEVERAL, self.trace)
        first, self.gateway = self.network.gateways
        assert first.catalog is not self.gateway.catalog
        self.model = self.gateway.model

    async def begin(self, group: asyncio.TaskGroup) -> None:
        await self.network.begin(group)
        for number, gateway in enumerate(self.network.gateways):
            await Client(number, 1, gateway, self.trace).run(15)
        await rest(self.network)
        assert await self.check() == []

    async def check(self) -> list[str]:
        return await check(self.network)

    async def change(self, *changes: Change) -> None:
        await self.gateway.catalog.commit(Batch((), changes))

    async def leak_a_fragment(self) -> None:
        profile = PROFILES["mirror"]
        ids = (fragment_id(b"x"),) * 3
        record = FragmentRecord(Segment(profile, 1, ids), 0)
        store = self.network.miners[0].store
        await store.put(record, b"x")
        await store.confirm([record.key])

    async def lose_a_fragment(self) -> None:
        for miner in self.network.miners:
            await miner.store.drop(miner.store.keys()[:1])

    async def damage_a_fragment(self) -> None:
        for miner in self.network.miners:
            miner.rot(Random(1), 1)

    async def charge_too_much(self) -> None:
        await self.change(Add(used_counter(self.gateway.lease().id), 1))

    async def lose_every_placement(self) -> None:
        with self.gateway.catalog.read() as reader:
            rows = reader.scan(Space.PLACEMENT, b"\x00", None, 1000)
        await self.change(*(Delete(Space.PLACEMENT, key) for key, _ in rows))

    async def leave_work_undone(self) -> None:
        await self.change(Put(Space.JOBS, b"other/1", b""))

    async def mint_a_token(self) -> None:
        key = ACCOUNTS.prefix + bytes(32)
        self.network.ledger.store.commit({("state", key): encode(Account(1, 0))})

    async def forget_a_write(self) -> None:
        place, state = next(iter(self.model.keys.items()))
        state.settle(self.model.body(b"") if place else ABSENT)

    async def misread_a_body(self) -> None:
        self.model.bodies[:] = [bytes(reversed(body)) for body in self.model.bodies]


@pytest.mark.parametrize(
    ("harm", "finding"),
    [
        (Quiet.leak_a_fragment, "nothing refers to"),
        (Quiet.lose_a_fragment, "does not hold"),
        (Quiet.damage_a_fragment, "damaged fragments"),
        (Quiet.charge_too_much, "the lease counts"),
        (Quiet.lose_every_placement, "cannot be read"),
        (Quiet.leave_work_undone, "rows stay in JOBS"),
        (Quiet.mint_a_token, "tokens were made"),
        (Quiet.forget_a_write, "not one of"),
        (Quiet.misread_a_body, "wrong bytes"),
    ],
)
def test_the_checks_find(harm: Callable[[Quiet], Awaitable[None]], finding: str) -> None:
    async def main() -> list[str]:
        async with asyncio.TaskGroup() as group:
            quiet = Quiet()
            await quiet.begin(group)
            await harm(quiet)
            found = await quiet.check()
            await quiet.network.end()
        return found

    assert any(finding in problem for problem in simulate(main()))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_write_below_quorum_is_found(profile: Profile) -> None:
    segment = Segment(profile, 1, (fragment_id(b"x"),) * profile.n)
    miner = Holder(AccountId(bytes(32)))

    def placement(held: int) -> bytes:
        holders = (miner,) * held + (Holder(None),) * (profile.n - held)
        (row, *_) = placement_rows(Placement(segment, holders))
        assert row.value is not None
        return row.value

    assert not list(below_quorum(placement(profile.quorum)))
    assert "was committed with" in next(below_quorum(placement(profile.quorum - 1)))


def test_an_acknowledged_write_replaces_what_ended_before_it_began() -> None:
    async def main() -> None:
        clock = SimClock()
        model = Model(clock)
        key = model.key("b", "k")
        first = model.begin("b", "k", 1)
        assert key.may_hold() == {ABSENT, 1}
        await clock.sleep(1)
        second = model.begin("b", "k", 2)
        await clock.sleep(1)
        first.unanswered(clock.monotonic())
        assert key.may_hold() == {ABSENT, 1, 2}
        await clock.sleep(1)
        second.acknowledged(clock.monotonic())
        assert key.may_hold() == {1, 2}, "they overlapped: either came last"
        await clock.sleep(1)
        third = model.begin("b", "k", ABSENT)
        model.begin("b", "k", 4).refused()
        await clock.sleep(1)
        third.acknowledged(clock.monotonic())
        assert key.may_hold() == {ABSENT}

    simulate(main())
