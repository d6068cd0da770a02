"""Repair in virtual time: what is lost comes back, in order, within bounds, at distinct miners."""

import asyncio
from dataclasses import replace

import pytest

from chain.ids import SegmentId
from chain.net.simulation import simulate
from chain.net.transport import Caller, Message, Reply
from miner.fragment import fragment_key
from miner.owner import PoolOwner
from miner.placement import (
    CROWDED_LEVEL,
    Holder,
    MinerInfo,
    Placement,
    parse_released,
    parse_repair,
)
from miner.protocol import Missing, ReadFragment, ReportMissing, StoreFragments
from miner.segments import PROFILES, Segment
from tests.simulation.miner_grid import Grid
from tests.simulation.test_storage_pool import holder, stored


async def report(grid: Grid, *missing: Missing) -> None:
    owner = PoolOwner(grid.records, grid.directory)
    await owner.report_missing(ReportMissing(missing), Caller(None, local=True))


async def lose(grid: Grid, placement: Placement, *indices: int) -> None:
    """The fragments are gone at their miners, and a reader said so."""
    segment = placement.segment.id
    for index in indices:
        await grid.stores[holder(placement, index)].drop([fragment_key(segment, index)])
    missing = [Missing(segment, index, holder(placement, index)) for index in indices]
    await report(grid, *missing)


def placed(grid: Grid, segment: Segment) -> Placement:
    found = grid.pool.placement(segment.id)
    assert found is not None
    return found


async def assert_whole(grid: Grid, segment: Segment, data: bytes) -> None:
    """Every fragment lies where the placement says, and reads."""
    placement = placed(grid, segment)
    assert placement.wanted == []
    for index in range(segment.profile.n):
        store = grid.stores[holder(placement, index)]
        assert await store.verify(fragment_key(segment.id, index))
    assert bytes((await grid.pool.read(segment, [(0, segment.length)]))[0]) == data


def queue(grid: Grid) -> list[tuple[int, SegmentId, list[int]]]:
    return [parse_repair(*row) for row in grid.records.scan("repairs", b"", 10_000)]


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_any_m_lost_fragments_are_rebuilt_at_distinct_miners(profile: str) -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(PROFILES[profile].n)
        data, segment, placement = await stored(grid, 100_003, profile)
        lost = grid.random.sample(range(segment.profile.n), segment.profile.m)
        await lose(grid, placement, *lost)
        assert queue(grid)[0][0] == 0
        await grid.repairer().step()
        assert queue(grid) == []
        assert grid.rebuilt == len(lost) == len(grid.receipts)
        assert all(each.stored.receipt.is_signed() for each in grid.receipts)
        await assert_whole(grid, segment, data)
        assert len({each.miner for each in placed(grid, segment).holders}) == segment.profile.n

    simulate(run())


def test_a_lost_miner_is_replaced_by_one_that_joined() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        kept = [await stored(grid, 50_000, seed=seed) for seed in range(20)]
        gone = next(iter(grid.stores))
        await grid.add_miners(1)
        grid.directory.lose(gone)
        for _, _, placement in kept:
            index = [each.miner for each in placement.holders].index(gone)
            await report(grid, Missing(placement.segment.id, index, gone))
        grid.silence(gone)
        await grid.repairer().step()
        for data, segment, _ in kept:
            await assert_whole(grid, segment, data)
            assert gone not in {each.miner for each in placed(grid, segment).holders}

    simulate(run())


def test_what_would_be_lost_next_is_rebuilt_first() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(12)
        order: list[bytes] = []

        async def commit(*args: object) -> bool:
            order.append(args[0][0].key)  # type: ignore[index]
            return await Grid.commit(grid, *args)  # type: ignore[arg-type]

        grid.commit = commit  # type: ignore[method-assign, assignment]
        kept = [await stored(grid, 5_000, "standard", seed) for seed in range(12)]
        expected: dict[int, set[bytes]] = {}
        for number, (_, segment, placement) in enumerate(kept):
            losses = 1 + number % 4
            await lose(grid, placement, *range(losses))
            expected.setdefault(losses, set()).add(segment.id)
        await grid.repairer(width=1).step()
        batches = [set(order[at : at + 3]) for at in range(0, 12, 3)]
        assert batches == [expected[losses] for losses in (4, 3, 2, 1)]

    simulate(run())


def test_a_wrong_source_is_found_replaced_and_reported() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(7)
        data, segment, placement = await stored(grid)
        bad = holder(placement, 0)
        grid.stores[bad].damage(fragment_key(segment.id, 0), at=99)
        await lose(grid, placement, 5)
        await grid.repairer().step()
        assert queue(grid) == []
        assert grid.reported == [Missing(segment.id, 0, bad)]
        rebuilt = holder(placed(grid, segment), 5)
        assert await grid.stores[rebuilt].verify(fragment_key(segment.id, 5))
        await grid.stores[bad].drop([fragment_key(segment.id, 0)])
        await report(grid, grid.reported[0])
        await grid.repairer().step()
        await assert_whole(grid, segment, data)

    simulate(run())


def test_with_too_few_sources_nothing_is_written_and_others_go_on() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        _, hopeless, bad = await stored(grid, seed=1)
        data, segment, placement = await stored(grid, seed=2)
        for index in (0, 1):
            grid.stores[holder(bad, index)].damage(fragment_key(hopeless.id, index))
        await lose(grid, bad, 4, 5)
        await lose(grid, placement, 0)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(grid.repairer().run())
            await grid.clock.sleep(30)
            await assert_whole(grid, segment, data)
            assert [row[1:] for row in queue(grid)] == [(hopeless.id, [4, 5])]
            asked = count_asks(grid, ReadFragment)
            await grid.clock.sleep(3600)
            # It waits longer each time: 5, 10, … 600 s, and four reads or so each.
            assert 20 < asked[0] < 120
            work.cancel()

    simulate(run())


def count_asks(grid: Grid, kind: type[Message[Reply]]) -> list[int]:
    """Counts the asks of one kind from now on, in the only element."""
    count = [0]
    real = grid.peers.ask

    async def counting(miner: MinerInfo, message: Message[Reply], **options: object) -> object:
        count[0] += isinstance(message, kind)
        return await real(miner, message, **options)  # type: ignore[arg-type]

    grid.peers.ask = counting  # type: ignore[method-assign, assignment]
    return count


def test_nobody_is_asked_while_fewer_than_k_holders_are_there() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        _, segment, placement = await stored(grid)
        await lose(grid, placement, 5)
        for index in (0, 1):
            grid.directory.set_away(holder(placement, index))
        reads, stores = count_asks(grid, ReadFragment), count_asks(grid, StoreFragments)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(grid.repairer().run())
            await grid.clock.sleep(600)
            assert (reads[0], stores[0]) == (0, 0)
            grid.directory.set_away(holder(placement, 0), away=False)
            await grid.clock.sleep(3)
            assert placed(grid, segment).holders[5].miner is not None
            work.cancel()

    simulate(run())


def test_fragments_crowd_only_when_no_domain_is_left_and_move_when_one_joins() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        kept = [await stored(grid, 40_000, seed=seed) for seed in range(10)]
        gone = list(grid.stores)[:2]
        for miner in gone:
            grid.directory.lose(miner)
            grid.silence(miner)
        for _, segment, placement in kept:
            at = {each.miner: i for i, each in enumerate(placement.holders)}
            await report(grid, *(Missing(segment.id, at[miner], miner) for miner in gone))
        async with asyncio.TaskGroup() as group:
            work = group.create_task(grid.repairer().run())
            await grid.clock.sleep(5)
            assert grid.rebuilt == 0, "the successors of emptied miners may be about to join"
            await grid.clock.sleep(60)
            assert grid.rebuilt == 20
            for data, segment, _ in kept:
                await assert_whole(grid, segment, data)
                held = [each.miner for each in placed(grid, segment).holders]
                assert sorted(map(held.count, set(held))) == [1, 1, 2, 2]
            assert {row[0] for row in queue(grid)} == {CROWDED_LEVEL}
            assert sum(len(row[2]) for row in queue(grid)) == 20
            await grid.add_miners(2)
            await grid.clock.sleep(60)
            assert queue(grid) == []
            for data, segment, _ in kept:
                await assert_whole(grid, segment, data)
                assert len({each.miner for each in placed(grid, segment).holders}) == 6
            assert grid.rebuilt == 20, "moving is not rebuilding"
            live = [store.space().fragments for m, store in grid.stores.items() if m not in gone]
            assert sum(live) == 60, "the old copies are gone"
            released = grid.records.scan("released", b"", 100)
            assert sum(parse_released(row) for _, row in released) == 20 * 10_000
            work.cancel()

    simulate(run())


def test_repair_waits_for_a_silent_miner_within_its_grace() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        silent = next(iter(grid.stores))
        grid.silence(silent)
        data, segment, placement = await stored(grid)
        (index,) = placement.missing
        async with asyncio.TaskGroup() as group:
            work = group.create_task(grid.repairer().run())
            await grid.clock.sleep(300)
            assert placed(grid, segment).missing == [index]
            grid.network.unsilence(grid.name(silent))
            await grid.clock.sleep(120)
            await assert_whole(grid, segment, data)
            assert holder(placed(grid, segment), index) == silent
            work.cancel()

    simulate(run())


def test_a_full_or_failing_target_is_stood_in_for() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(9)
        data, segment, placement = await stored(grid)
        holders = {each.miner for each in placement.holders}
        for miner in [miner for miner in grid.stores if miner not in holders][:2]:
            await grid.stores[miner].close()  # refuses every write
        await lose(grid, placement, 2, 3)
        await grid.repairer().step()
        await assert_whole(grid, segment, data)

    simulate(run())


def test_a_segment_deleted_while_it_is_repaired_leaves_nothing() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(7)
        _, segment, placement = await stored(grid)
        await lose(grid, placement, 1)
        release = grid.pool.release_rows(segment.id)

        async def delete_first(*args: object) -> bool:
            await grid.records.apply(release.expected, release.changes)
            return await Grid.commit(grid, *args)  # type: ignore[arg-type]

        grid.commit = delete_first  # type: ignore[method-assign, assignment]
        await grid.repairer().step()
        assert queue(grid) == []
        held = sum(store.space().fragments for store in grid.stores.values())
        assert held == 5, "the five that the release still names"
        assert grid.rebuilt == 0

    simulate(run())


def test_a_fragment_that_was_adopted_meanwhile_is_kept_and_the_new_copy_dropped() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(8)
        data, segment, placement = await stored(grid)
        late = next(m for m in grid.stores if m not in {h.miner for h in placement.holders})
        await lose(grid, placement, 1)

        async def adopt_first(*args: object) -> bool:
            raw = grid.records.get("placement", segment.id)
            assert raw is not None
            now = Placement.parse(raw)
            if now.missing:
                record = await grid.stores[holder(now, 0)].record(fragment_key(segment.id, 0))
                shards = await grid.repairer()._rebuilder._readers.restore(now, [1], verify=True)
                await grid.stores[late].put(replace(record, index=1), shards[1])
                changes = grid.repairer()._changes
                await changes.change(segment.id, lambda _: {1: Holder(late)})
            return await Grid.commit(grid, *args)  # type: ignore[arg-type]

        grid.commit = adopt_first  # type: ignore[method-assign, assignment]
        await grid.repairer().step()
        await assert_whole(grid, segment, data)
        assert holder(placed(grid, segment), 1) == late
        assert sum(store.space().fragments for store in grid.stores.values()) == 6

    simulate(run())


def test_memory_and_rate_are_bounded() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(7)
        kept = [await stored(grid, 100_000, seed=seed) for seed in range(40)]
        for _, _, placement in kept:
            await lose(grid, placement, 0)
        cost = 5 * 25_000
        held, most = 0, 0
        repairer = grid.repairer(memory=3 * cost + 1, width=1000, rate=cost / 2.0)
        real = repairer._rebuilder.run

        async def watched(work: object) -> bool:
            nonlocal held, most
            held += 1
            most = max(most, held)
            await grid.clock.sleep(10)  # longer than the rate allows between two
            done = await real(work)  # type: ignore[arg-type]
            held -= 1
            return done

        repairer._rebuilder.run = watched  # type: ignore[method-assign]
        start = grid.clock.monotonic()
        assert await repairer.step() == 40
        took = grid.clock.monotonic() - start
        assert most == 3
        assert took >= 39 * 2, "2 s for each segment's bytes"
        assert took < 40 * 10 / 3 + 20

    simulate(run())


def test_a_row_of_the_queue_that_lies_is_put_right() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        data, segment, _ = await stored(grid)
        spaces = grid.records.spaces  # type: ignore[attr-defined]
        spaces["repairs"] = {
            b"\x00" + segment.id: b"\x03",
            b"\x01" + bytes(32): b"\x00",
            b"\x01short": b"\x00",
        }
        await grid.repairer().step()
        assert list(spaces["repairs"]) == [b"\x01short"]
        await assert_whole(grid, segment, data)

    simulate(run())


def test_a_crash_between_store_and_commit_costs_a_second_store_of_the_same_bytes_alone() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(10)
        data, segment, placement = await stored(grid)
        await lose(grid, placement, 0, 1)

        async def killed(*_: object) -> bool:
            raise OSError("killed")

        real, grid.commit = grid.commit, killed  # type: ignore[method-assign, assignment]
        with pytest.raises(ExceptionGroup):
            await grid.repairer().step()
        grid.commit = real  # type: ignore[method-assign]
        grid.claims.clear()
        assert placed(grid, segment).missing == [0, 1]
        await grid.repairer().step()
        await assert_whole(grid, segment, data)
        assert sum(store.space().fragments for store in grid.stores.values()) == 6

    simulate(run())
