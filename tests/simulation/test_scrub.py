"""The scrub on virtual time: what is due, when, and what becomes of what it finds."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from chain.clock import Clock
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.net.simulation import SimClock, simulate
from chain.net.transport import Caller, Handlers, Peer
from miner.config import MinerConfig
from miner.node import MinerNode
from miner.protocol import Missing, Noted, ReportMissing, SpaceReport
from miner.scrub import WAITING_MAX, Scrubber, ScrubSettings
from miner.scrub_state import Damage, ScrubFile, ScrubMemory, ScrubState
from miner.store.memory import MemoryStore
from tests.conformance.fragment_store_suite import fragments

MINER = Identity(bytes(32))
DAY = 86400.0
SIZE = 2_500  # of a fragment


class Owner:
    """Who stored the fragments; silent until it is up."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.reported: list[Missing] = []
        self._up: MemoryTransport | None = None

    async def start(self) -> None:
        self._up = MemoryTransport(self.network, name="owner")
        await self._up.serve("memory://owner", Handlers().on(ReportMissing, self.report))

    async def report(self, message: ReportMissing, _: Caller) -> Noted:
        self.reported += message.missing
        return Noted(len(message.missing))


class Timed(MemoryStore):
    """Notes when each fragment was verified."""

    def __init__(self, clock: Clock, pledge: int = 1 << 30) -> None:
        super().__init__(clock, pledge)
        self._time = clock
        self.verified: list[tuple[float, bytes]] = []

    async def damaged(self, keys: Sequence[bytes]) -> list[bytes]:
        self.verified += [(self._time.monotonic(), key) for key in keys]
        return await super().damaged(keys)

    def times(self) -> list[float]:
        return [time for time, _ in self.verified]

    def keys(self) -> list[bytes]:
        return [key for _, key in self.verified]


class Shifted(SimClock):
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = 0.0

    def now_ns(self) -> int:
        return super().now_ns() + int(self.shift * 1e9)


class Scene:
    """A store with fragments and a scrub over it."""

    def __init__(self, cycle: float = DAY, rate: int = 1 << 20) -> None:
        self.clock = Shifted()
        self.store = Timed(self.clock)
        self.record = ScrubMemory()
        self.network = MemoryNetwork(random.Random(1))
        self.owner = Owner(self.network)
        self.settings = ScrubSettings(rate, cycle)
        self.busy = False
        self.state = ScrubState()
        self._task: asyncio.Task[None] | None = None
        transport = MemoryTransport(self.network, name="miner")
        self.peer: Peer = transport.connect("memory://owner")

    async def fill(self, segments: int, length: int = 4 * SIZE) -> list[bytes]:
        keys = []
        for number in range(segments):
            for each in fragments(str(number), length)[1]:
                await self.store.put(*each)
                keys.append(each[0].key)
        return sorted(keys)

    def start(self) -> None:
        self.state = self.record.load()
        scrubber = Scrubber(
            self.store,
            lambda _: self.peer,
            MINER.id,
            self.clock,
            settings=self.settings,
            record=self.record,
            state=self.state,
            busy=lambda: self.busy,
        )
        self._task = asyncio.create_task(scrubber.run())  # noqa: TID251 - cancelled by `stop`

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])


def test_everything_is_checked_once_in_a_cycle_and_evenly() -> None:
    async def run() -> None:
        scene = Scene()
        keys = await scene.fill(100)
        scene.start()
        await scene.clock.sleep(DAY / 2)
        half = len(scene.store.verified)
        await scene.clock.sleep(DAY / 2 + 5)
        await scene.stop()
        assert scene.store.keys()[: len(keys)] == keys
        assert len(scene.store.verified) <= len(keys) + 1  # the next cycle has begun
        assert 0.4 * len(keys) < half < 0.6 * len(keys)
        assert scene.state.finished_ns == scene.state.started_ns > 0

    simulate(run())


def test_a_scrub_that_is_late_reads_at_its_rate_and_never_above() -> None:
    async def run() -> None:
        scene = Scene(cycle=1.0, rate=100_000)
        keys = await scene.fill(50)
        scene.start()
        await scene.clock.sleep(12)
        await scene.stop()
        times = scene.store.times()
        assert len(times) < len(keys)
        per_second = 100_000 / SIZE
        for start in range(11):
            within = [time for time in times if start <= time < start + 1]
            assert len(within) <= per_second
        assert len(times) > 10 * 100_000 / (SIZE + 4096) * 0.9

    simulate(run())


@pytest.mark.parametrize("seed", range(5))
def test_a_restarted_scrub_goes_on_where_it_was(seed: int) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        scene = Scene()
        keys = await scene.fill(60)
        spent = 0.0
        while spent < DAY:
            scene.start()
            step = chance.uniform(100, DAY / 8)
            await scene.clock.sleep(step)
            await scene.stop()
            away = chance.uniform(0, DAY / 20)
            await scene.clock.sleep(away)
            spent += step + away
        scene.start()
        await scene.clock.sleep(60)
        await scene.stop()
        assert scene.store.keys()[: len(keys)] == keys  # none twice, none left out
        assert scene.state.finished_ns

    simulate(run())


def test_a_killed_scrub_reads_at_most_half_a_minute_again() -> None:
    async def run() -> None:
        scene = Scene(cycle=1000.0)
        keys = await scene.fill(100)
        scene.start()
        await scene.clock.sleep(500)
        kept = scene.record.saved
        await scene.stop()
        scene.record.saved = kept  # what a killed process leaves
        scene.start()
        await scene.clock.sleep(550)
        await scene.stop()
        assert set(scene.store.keys()) == set(keys)
        again = len(scene.store.verified) - len(keys)
        assert 0 <= again <= len(keys) * 80 / 1000  # 30 s, and what the next cycle did in 50 s

    simulate(run())


@pytest.mark.parametrize("jump", [400 * DAY, 30.0, -30.0, -0.3 * DAY, -400 * DAY])
def test_a_clock_that_jumps_leaves_nothing_out_and_stops_nothing(jump: float) -> None:
    async def run() -> None:
        scene = Scene()
        keys = await scene.fill(60)
        scene.start()
        await scene.clock.sleep(DAY / 3)
        scene.clock.shift = jump
        await scene.clock.sleep(DAY / 3)
        scene.clock.shift = 0.0  # and back
        await scene.clock.sleep(DAY)
        await scene.stop()
        assert set(scene.store.keys()) == set(keys)
        assert len(scene.store.verified) < 3 * len(keys)

    simulate(run())


def test_a_busy_miner_is_left_alone_unless_the_scrub_is_late() -> None:
    async def run() -> None:
        scene = Scene(cycle=1000.0)
        keys = await scene.fill(100)
        scene.busy = True
        scene.start()
        await scene.clock.sleep(20)
        waited = len(scene.store.verified)
        assert waited <= 10  # one in two seconds
        await scene.clock.sleep(1200)
        await scene.stop()
        assert set(scene.store.keys()) == set(keys)

    simulate(run())


def test_what_is_damaged_is_dropped_and_reported_to_who_stored_it() -> None:
    async def run() -> None:
        scene = Scene(cycle=1000.0)
        await scene.owner.start()
        keys = await scene.fill(20)
        for key in keys[10:13]:
            scene.store.damage(key)
        scene.start()
        await scene.clock.sleep(1100)
        await scene.stop()
        assert [scene.store.find(key) is None for key in keys[9:14]] == [0, 1, 1, 1, 0]
        assert [each.segment + bytes([each.index]) for each in scene.owner.reported] == keys[10:13]
        assert {each.miner for each in scene.owner.reported} == {MINER.id}
        assert (scene.state.damaged, scene.state.waiting) == (3, [])

    simulate(run())


def test_damage_that_goes_away_within_a_minute_costs_nothing() -> None:
    async def run() -> None:
        scene = Scene(cycle=10.0)
        await scene.owner.start()
        keys = await scene.fill(5)
        scene.store.damage(keys[3])
        scene.start()
        await scene.clock.sleep(30)
        assert [each.key for each in scene.state.waiting] == [keys[3]]
        scene.store.damage(keys[3])  # flipped back
        await scene.clock.sleep(60)
        await scene.stop()
        assert scene.store.find(keys[3]) is not None
        assert (scene.state.damaged, scene.state.waiting, scene.owner.reported) == (0, [], [])

    simulate(run())


def test_an_owner_that_is_away_is_told_later_even_over_a_restart() -> None:
    async def run() -> None:
        scene = Scene(cycle=10.0)
        keys = await scene.fill(5)
        scene.store.damage(keys[3])
        scene.start()
        await scene.clock.sleep(2 * 3600)
        await scene.stop()
        assert scene.store.find(keys[3]) is None
        scene.start()
        await scene.owner.start()
        await scene.clock.sleep(2 * 3600)
        await scene.stop()
        assert len(scene.owner.reported) == 1
        assert scene.state.waiting == []

    simulate(run())


def test_reports_that_nobody_takes_are_bounded_in_number_and_time() -> None:
    async def run() -> None:
        scene = Scene(cycle=100.0, rate=1 << 30)
        keys = await scene.fill(WAITING_MAX // 6 + 10, length=40)
        for key in keys:
            scene.store.damage(key)
        scene.start()
        await scene.clock.sleep(400)
        assert len(scene.state.waiting) <= WAITING_MAX
        assert scene.store.space().fragments < len(keys) - WAITING_MAX + 64
        await scene.clock.sleep(9 * DAY)
        await scene.stop()
        assert scene.state.waiting == []

    simulate(run())


def test_a_fragment_that_is_stored_anew_is_not_reported() -> None:
    async def run() -> None:
        scene = Scene(cycle=10.0)
        keys = await scene.fill(5)
        scene.store.damage(keys[3])
        scene.start()
        await scene.clock.sleep(100)  # found and dropped; nobody was there to be told
        assert scene.store.find(keys[3]) is None
        await scene.fill(5)
        await scene.owner.start()
        await scene.clock.sleep(3600)
        await scene.stop()
        assert scene.owner.reported == []
        assert scene.state.waiting == []

    simulate(run())


def test_a_miner_scrubs_and_tells_of_it() -> None:
    async def run(rate: int) -> tuple[int, int, int]:
        clock = SimClock()
        network = MemoryNetwork()
        store = Timed(clock)
        for each in fragments("a", 40_000)[1]:
            await store.put(*each)
        store.damage(fragments("a", 40_000)[1][2][0].key)
        owner = Owner(network)
        await owner.start()
        config = MinerConfig(
            "one", Path("unused"), "memory://one", 1 << 30, "memory://owner",
            scrub_rate=rate, scrub_cycle=300.0,
        )  # fmt: skip
        transport = MemoryTransport(network, name="one")
        node = MinerNode(config, transport, clock, store, MINER)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(node.run(stop))
            await clock.sleep(700)
            peer = MemoryTransport(network, name="asking").connect("memory://one")
            figures = await peer.ask(SpaceReport())
            stop.set()
        await transport.close()
        return int(figures.scrubbed_ns > 0), figures.damaged, len(owner.reported)

    assert simulate(run(1 << 20)) == (1, 1, 1)
    assert simulate(run(0)) == (0, 0, 0)


async def test_the_place_survives_on_disk_and_a_damaged_file_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "scrub.json"
    file = ScrubFile(path)
    assert file.load() == ScrubState()
    state = ScrubState(5, b"\xff" * 33, 4, 3, [Damage(b"k" * 33, AccountId(b"o" * 32), 2)])
    await file.save(state)
    assert ScrubFile(path).load() == state
    whole = path.read_bytes()
    for broken in (whole[:20], b"", b"\xff" * 50, whole.replace(b'":5', b'":-5'), b"[" * 2_000_000):
        path.write_bytes(broken)
        assert file.load() == ScrubState()
