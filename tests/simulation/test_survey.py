"""The survey in virtual time: it finds what is missing, and what nobody needs, by itself."""

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from chain.ids import AccountId
from chain.net.simulation import simulate
from chain.net.transport import Caller
from miner import comparison
from miner.fragment import fragment_key
from miner.placement import Placement, parse_released
from miner.protocol import KEYS_MAX, FragmentList, Listed, ListFragments
from miner.records import Row
from miner.releaser import Releaser
from miner.segments import Segment
from miner.service import MinerService
from tests.simulation.miner_grid import Grid, Rows
from tests.simulation.test_repair import assert_whole, count_asks, placed, queue
from tests.simulation.test_storage_pool import holder, sealed, stored

DAY = 86_400.0
Kept = list[tuple[bytes, Segment, Placement]]


async def fill(grid: Grid, count: int) -> Kept:
    return [await stored(grid, 20_000 + seed, seed=seed) for seed in range(count)]


async def confirm_all(grid: Grid) -> None:
    for store in grid.stores.values():
        await store.confirm([key for key, _ in store.scan(b"", 10_000)])


def assert_nothing_more(grid: Grid) -> None:
    """Every store that is not lost holds exactly what placements name there."""
    named = dict[AccountId, set[bytes]]()
    for key, raw in grid.records.scan("placement", b"", 10_000):
        for index, each in enumerate(Placement.parse(raw).holders):
            if each.miner is not None:
                named.setdefault(each.miner, set()).add(key + bytes([index]))
    for miner, store in grid.stores.items():
        if not grid.directory.miners[miner].lost:
            assert {key for key, _ in store.scan(b"", 10_000)} == named.get(miner, set())


class Working:
    """Repair, survey and deletions as the repair process runs them."""

    def __init__(self, grid: Grid, poll: float = 1.0) -> None:
        self.grid = grid
        self.poll = poll

    async def __aenter__(self) -> None:
        grid, poll = self.grid, self.poll
        releaser = Releaser(grid.records, grid.directory, grid.peers, grid.clock)
        self.group = asyncio.TaskGroup()
        await self.group.__aenter__()
        jobs = (
            grid.survey(poll=poll).run(),
            grid.repairer(pause=poll).run(),
            releaser.run(every=poll),
        )
        self.tasks = [self.group.create_task(job) for job in jobs]

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await self.group.__aexit__(None, None, None)


def test_two_of_six_emptied_then_any_other_two() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        kept = await fill(grid, 30)
        async with Working(grid):
            for _ in range(3):
                here = [miner.id for miner in grid.directory.all() if not miner.lost]
                assert len(here) == 6
                for miner in grid.random.sample(here, 2):
                    grid.network.leave(grid.name(miner))
                    grid.directory.lose(miner)
                await grid.clock.sleep(2)
                await grid.add_miners(2)
                await grid.clock.sleep(60)
                assert queue(grid) == []
                for data, segment, _ in kept:
                    await assert_whole(grid, segment, data)
                    assert not placed(grid, segment).crowded
                assert_nothing_more(grid)

    simulate(run())


def test_a_miner_that_was_away_comes_back_to_what_is_still_its_own() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(7)
        kept = await fill(grid, 40)
        await confirm_all(grid)
        away = next(iter(grid.stores))
        async with Working(grid):
            grid.silence(away)
            grid.directory.set_away(away)
            await grid.clock.sleep(60)
            assert queue(grid) == []
            assert all(away not in {h.miner for h in placed(grid, s).holders} for _, s, _ in kept)
            before = grid.stores[away].space().fragments
            assert before > 20
            # Meanwhile one object goes, and its release does not name the stale copy.
            _, gone, _ = kept.pop()
            release = grid.pool.release_rows(gone.id)
            assert await grid.records.apply(release.expected, release.changes)
            grid.network.unsilence(grid.name(away))
            grid.directory.set_away(away, away=False)
            await grid.clock.sleep(60)
            assert grid.stores[away].space().fragments == 0
            assert_nothing_more(grid)
            told = grid.records.get("released", away)
            assert told is not None
            # About 5,000 bytes each: nothing is told twice, of the deleted object's copy either.
            assert before * 5_000 <= parse_released(told) <= before * 5_010
            for data, segment, _ in kept:
                await assert_whole(grid, segment, data)

    simulate(run())


def test_while_a_miner_is_away_it_is_still_a_source_and_nothing_moves_without_room() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        kept = await fill(grid, 10)
        away = next(iter(grid.stores))
        for miner in grid.stores:  # nobody has room for more
            info = grid.directory.miners[miner]
            grid.directory.miners[miner] = replace(info, free_bytes=1)
        async with Working(grid):
            grid.directory.set_away(away)
            await grid.clock.sleep(60)
            assert {row[0] for row in queue(grid)} == {1}
            for data, segment, _ in kept:
                assert bytes((await grid.pool.read(segment, [(0, segment.length)]))[0]) == data
                others = [h.miner for h in placed(grid, segment).holders if h.miner != away]
                # Two more are gone for a moment: the miner that is away is asked after all.
                for other in others[:2]:
                    grid.network.partition("pool", grid.name(cast("AccountId", other)))
                assert bytes((await grid.pool.read(segment, [(0, segment.length)]))[0]) == data
                grid.network.heal()
            grid.directory.set_away(away, away=False)
            await grid.clock.sleep(60)
            assert queue(grid) == []
            assert grid.rebuilt == 0
            for data, segment, _ in kept:
                await assert_whole(grid, segment, data)

    simulate(run())


def test_fragments_that_a_miner_quietly_lost_are_found_within_a_cycle() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        kept = await fill(grid, 30)
        cheat = next(iter(grid.stores))
        keys = [key for key, _ in grid.stores[cheat].scan(b"", 10_000)]
        await grid.stores[cheat].drop(keys)
        async with Working(grid, poll=60):
            await grid.clock.sleep(DAY + 180)
            assert queue(grid) == []
            for data, segment, _ in kept:
                await assert_whole(grid, segment, data)
        assert grid.rebuilt == 30

    simulate(run())


def test_the_cycle_goes_on_where_the_clock_is_after_restarts() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        await fill(grid, 600)  # more than two pages
        lists = count_asks(grid, ListFragments)
        for _ in range(24):
            async with asyncio.TaskGroup() as group:
                survey = group.create_task(grid.survey(cycle=DAY, poll=60).run())
                await grid.clock.sleep(3600)
                survey.cancel()
        pages, miners = 3, 6
        # Every start looks at the page that it is in; no start begins the cycle anew.
        assert pages * miners <= lists[0] <= (24 + pages + 1) * miners

    simulate(run())


def test_what_no_placement_names_is_dropped_but_never_what_may_still_be_committed() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        _, gone, _ = await stored(grid, seed=1)
        await confirm_all(grid)
        spaces = cast("Rows", grid.records).spaces
        del spaces["placement"][gone.id]
        coming = await new_segment(grid, seed=2)
        _, staying, _ = await stored(grid, seed=3)
        await grid.survey().compare()
        for store in grid.stores.values():
            assert {key[:32] for key, _ in store.scan(b"", 100)} == {coming.id, staying.id}

    simulate(run())


async def new_segment(grid: Grid, seed: int) -> Segment:
    """Stored at the miners, committed nowhere yet."""
    _, segment, shards = sealed(seed, 5_000, "small")
    await grid.pool.write(segment, shards)
    return segment


def test_a_copy_of_a_segment_in_repair_is_left_alone() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(7)
        _, segment, placement = await stored(grid)
        spare = next(m for m in grid.stores if m not in {h.miner for h in placement.holders})
        source = grid.stores[holder(placement, 0)]
        key = fragment_key(segment.id, 0)
        record = await source.record(key)
        await grid.stores[spare].put(record, await source.read(key, 0, record.size))
        grid.claims.add(segment.id)
        await grid.survey().compare()
        assert grid.stores[spare].find(key) is not None
        grid.claims.clear()
        await grid.survey().compare()
        assert grid.stores[spare].find(key) is None
        assert grid.claims == set()
        assert grid.stores[holder(placement, 0)].find(key) is not None

    simulate(run())


def test_a_late_fragment_is_adopted_without_being_rebuilt() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        slow = next(iter(grid.stores))
        grid.silence(slow)
        data, segment, placement = await stored(grid)
        assert len(placement.missing) == 1
        grid.network.unsilence(grid.name(slow))
        await grid.survey().compare()
        await assert_whole(grid, segment, data)
        assert queue(grid) == []

    simulate(run())


def test_a_rotten_late_fragment_is_not_adopted() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        slow = next(iter(grid.stores))
        grid.silence(slow)
        _, segment, placement = await stored(grid)
        grid.network.unsilence(grid.name(slow))
        grid.stores[slow].damage(fragment_key(segment.id, placement.missing[0]))
        await grid.survey().compare()
        assert placed(grid, segment).missing == placement.missing

    simulate(run())


@pytest.mark.parametrize("kind", ["empty", "short", "order", "endless"])
def test_a_miner_that_lists_nonsense_loses_nothing_that_it_holds(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        kept = await fill(grid, 5)
        liar = next(iter(grid.stores))
        real = MinerService(grid.stores[liar], grid.identities[liar]).handlers()

        def entry(key: bytes) -> Listed:
            return Listed(key, 1, 0, confirmed=True)

        async def answer(message: ListFragments, _: Caller) -> FragmentList:
            if kind == "empty":
                return FragmentList(())
            if kind == "short":
                return FragmentList((entry(b"x"),))
            if kind == "order":
                return FragmentList((entry(b"\x05" * 33), entry(b"\x04" * 33)))
            start = int.from_bytes(message.after.ljust(33, b"\0"), "big")
            return FragmentList(
                tuple(entry((start + 1 + i).to_bytes(33, "big")) for i in range(KEYS_MAX))
            )

        del real.table[ListFragments]
        real.on(ListFragments, answer)
        grid.network.leave(grid.name(liar))
        await grid.transport.serve(f"memory://{grid.name(liar)}", real)
        before = len(grid.stores[liar].scan(b"", 1000))
        await grid.survey().compare()
        assert len(grid.stores[liar].scan(b"", 1000)) == before
        assert queue(grid) == []
        for data, segment, _ in kept:
            await assert_whole(grid, segment, data)

    monkeypatch.setattr(comparison, "_LISTS_MAX", 5)
    simulate(run())


def test_flags_follow_the_directory_and_unknown_miners_count_as_away() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        kept = await fill(grid, 5)
        one, two, three = list(grid.stores)[:3]
        grid.directory.lose(one)
        grid.directory.set_away(two)
        forgotten = grid.directory.miners.pop(three)
        assert await grid.survey().flag() == 5
        for _, segment, placement in kept:
            now = placed(grid, segment)
            at = {h.miner: i for i, h in enumerate(placement.holders)}
            assert now.missing == [at[one]]
            assert sorted(now.wanted) == sorted(at[each] for each in (one, two, three))
            assert now.holders[at[two]].miner == two
        assert {row[0] for row in queue(grid)} == {0}
        grid.directory.set_away(two, away=False)
        grid.directory.miners[three] = forgotten
        assert await grid.survey().flag() == 5
        assert await grid.survey().flag() == 0
        assert {row[0] for row in queue(grid)} == {1}

    simulate(run())


def test_an_object_committed_after_its_miner_was_lost_is_found_by_the_second_look() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(8)
        gone = next(iter(grid.stores))
        segment, rows = await late_object(grid, gone)
        async with Working(grid):
            grid.directory.lose(gone)
            await grid.clock.sleep(5)
            assert await grid.records.apply([], rows)
            await grid.clock.sleep(700)
            assert gone not in {h.miner for h in placed(grid, segment).holders}
            assert placed(grid, segment).wanted == []

    simulate(run())


async def late_object(grid: Grid, holder_wanted: AccountId) -> tuple[Segment, list[Row]]:
    for seed in range(50):
        _, segment, shards = sealed(seed, 5_000, "small")
        written = await grid.pool.write(segment, shards)
        if holder_wanted in {h.miner for h in written.placement.holders}:
            return segment, written.rows
    raise AssertionError("no segment on that miner")
