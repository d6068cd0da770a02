import asyncio
import random
from collections.abc import Sequence
from typing import cast

import pytest

from chain.ids import AccountId
from chain.net.memory import Faults, MemoryTransport
from chain.net.simulation import simulate
from chain.net.transport import Buffer, Caller, Handlers, Payload, RemoteError
from miner.erasure import code_for, cut
from miner.fragment import fragment_id, fragment_key
from miner.owner import PoolOwner, Reports
from miner.placement import Placement, parse_repair
from miner.pool import BelowQuorum
from miner.protocol import (
    AskCommitted,
    FragmentBytes,
    Missing,
    ReadFragment,
    ReportMissing,
    SpaceReport,
)
from miner.records import Row
from miner.releaser import Releaser
from miner.segments import PROFILES, Segment, SegmentUnavailable
from miner.store.interface import Entry
from miner.sweep import Sweeper
from tests.simulation.miner_grid import Grid, Rows
from tests.simulation.whole.processes import JumpingClock

DAY = 24 * 3600.0


def sealed(seed: int, length: int, profile: str) -> tuple[bytes, Segment, list[Buffer]]:
    data = random.Random(seed).randbytes(length)
    code = PROFILES[profile]
    shards = cut(data, code.k)
    shards += code_for(code).encode(shards)
    ids = tuple(fragment_id(shard) for shard in shards)
    return data, Segment(code, length, ids), shards


async def stored(
    grid: Grid, length: int = 100_003, profile: str = "small", seed: int = 1
) -> tuple[bytes, Segment, Placement]:
    data, segment, shards = sealed(seed, length, profile)
    placed = await grid.pool.write(segment, shards)
    assert await grid.records.apply([], placed.rows)
    return data, segment, placed.placement


def holder(placement: Placement, index: int) -> AccountId:
    miner = placement.holders[index].miner
    assert miner is not None
    return miner


def test_every_profile_writes_to_distinct_miners_and_reads_any_range() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(20)
        for seed, profile in enumerate(PROFILES):
            data, segment, placement = await stored(grid, 50_001, profile, seed)
            assert len({each.miner for each in placement.holders}) == segment.profile.n
            assert placement.missing == []
            rng = random.Random(seed)
            ranges = [tuple(sorted(rng.sample(range(50_002), 2))) for _ in range(20)]
            for verify in (False, True):
                got = await grid.pool.read(segment, ranges, verify=verify)  # type: ignore[arg-type]
                assert [bytes(each) for each in got] == [data[a:b] for a, b in ranges]

    simulate(run())


def test_receipts_are_signed_and_prove_every_fragment() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        _, segment, shards = sealed(1, 5_000, "small")
        placed = await grid.pool.write(segment, shards)
        assert sorted(each.fragment for each in placed.receipts) == list(range(6))
        assert all(each.stored.receipt.is_signed() for each in placed.receipts)

    simulate(run())


def test_a_damaged_placement_row_is_a_typed_error() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        _, segment, placement = await stored(grid)
        cast("Rows", grid.records).spaces["placement"][segment.id] = placement.encode()[:-1]
        with pytest.raises(SegmentUnavailable):
            await grid.pool.read(segment, [(0, 1)])
        owner = PoolOwner(grid.records, grid.directory)
        missing = Missing(segment.id, 0, holder(placement, 0))
        noted = await owner.report_missing(ReportMissing((missing,)), Caller(None, local=True))
        assert noted.queued == 0

    simulate(run())


def test_any_m_silent_miners_do_not_stop_reads_and_cost_little_time() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(12)
        data, segment, placement = await stored(grid, 800_001, "standard")
        for index in (0, 3, 7, 8):
            grid.silence(holder(placement, index))
        start = grid.clock.monotonic()
        for _ in range(5):
            assert bytes((await grid.pool.read(segment, [(0, 800_001)]))[0]) == data
            assert bytes((await grid.pool.read(segment, [(1, 5)]))[0]) == data[1:5]
        assert grid.clock.monotonic() - start < 5

    simulate(run())


def test_one_loss_more_than_m_is_a_typed_error_in_bounded_time() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        _, segment, placement = await stored(grid)
        for index in (0, 1, 5):
            await grid.stores[holder(placement, index)].drop([fragment_key(segment.id, index)])
        with pytest.raises(SegmentUnavailable):
            await grid.pool.read(segment, [(0, 10), (60_000, 60_001)])
        grid.silence(holder(placement, 2))
        with pytest.raises(SegmentUnavailable):
            await grid.pool.read(segment, [(0, 100_003)])
        assert grid.clock.monotonic() < 30

    simulate(run())


def test_damaged_bytes_are_found_by_verify_reported_and_replaced() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        data, segment, placement = await stored(grid)
        bad = holder(placement, 1)
        grid.stores[bad].damage(fragment_key(segment.id, 1), at=77)
        (plain,) = await grid.pool.read(segment, [(0, 100_003)])
        assert bytes(plain) != data
        (checked,) = await grid.pool.read(segment, [(0, 100_003)], verify=True)
        assert bytes(checked) == data
        assert grid.reported == [Missing(segment.id, 1, bad)]

    simulate(run())


def test_a_reported_loss_is_queued_for_repair_and_the_damaged_copy_dropped() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        data, segment, placement = await stored(grid)
        bad = holder(placement, 1)
        grid.stores[bad].damage(fragment_key(segment.id, 1))
        reports = Reports(grid.peers, grid.directory)
        reports.note(Missing(segment.id, 1, bad))
        reports.note(Missing(segment.id, 2, holder(placement, 2)))  # a false alarm
        owner = PoolOwner(grid.records, grid.directory)
        await grid.transport.serve("memory://owner", owner.handlers(Handlers()))
        peer = grid.transport.connect("memory://owner")
        assert await reports.flush(peer) == 1
        ((key, value),) = grid.records.scan("repairs", b"", 10)
        assert parse_repair(key, value) == (1, segment.id, [1])
        assert grid.stores[bad].find(fragment_key(segment.id, 1)) is None
        assert bytes((await grid.pool.read(segment, [(0, 100_003)], verify=True))[0]) == data
        assert await reports.flush(peer) == 0

    simulate(run())


def test_a_miner_that_said_that_it_has_nothing_is_not_asked_again_for_a_while() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        data, segment, placement = await stored(grid)
        miner = holder(placement, 1)
        key = fragment_key(segment.id, 1)
        await grid.stores[miner].drop([key])
        asked: list[bytes] = []
        find = grid.stores[miner].find

        def noting(key: bytes) -> Entry | None:
            asked.append(key)
            return find(key)

        grid.stores[miner].find = noting  # type: ignore[method-assign]
        reports = Reports(grid.peers, grid.directory)
        owner = PoolOwner(grid.records, grid.directory)
        await grid.transport.serve("memory://owner", owner.handlers(Handlers()))
        for _ in range(3):
            assert bytes((await grid.pool.read(segment, [(0, 100_003)]))[0]) == data
        assert asked == [key]
        assert grid.reported == [Missing(segment.id, 1, miner)]
        reports.note(grid.reported[0])
        await grid.clock.sleep(6.0)
        assert bytes((await grid.pool.read(segment, [(0, 100_003)]))[0]) == data
        assert asked == [key] * 2  # it may have got it meanwhile
        assert await reports.flush(grid.transport.connect("memory://owner")) == 1
        assert asked == [key] * 2

    simulate(run())


def test_a_fragment_that_came_back_is_found_where_too_few_others_are_left() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        data, segment, placement = await stored(grid)
        grid.peers.absences.note((holder(placement, 1), segment.id, 1))
        for index in (0, 2):
            grid.network.leave(grid.name(holder(placement, index)))
        assert bytes((await grid.pool.read(segment, [(0, 100_003)]))[0]) == data

    simulate(run())


def test_losses_of_one_segment_are_one_commit_and_another_miners_fragment_stays() -> None:
    class Counting(Rows):
        commits = 0

        async def apply(self, expected: Sequence[Row], changes: Sequence[Row]) -> bool:
            self.commits += 1
            return await super().apply(expected, changes)

    async def run() -> None:
        rows = Counting()
        grid = Grid(records=rows)
        await grid.add_miners(6)
        _, segment, placement = await stored(grid)
        rows.commits = 0
        owner = PoolOwner(grid.records, grid.directory)
        await grid.transport.serve("memory://owner", owner.handlers(Handlers()))
        peer = grid.transport.connect("memory://owner")
        lost = [Missing(segment.id, index, holder(placement, index)) for index in (1, 2, 1)]
        wrong = Missing(segment.id, 0, holder(placement, 1))
        assert (await peer.ask(ReportMissing((*lost, wrong)))).queued == 2
        assert rows.commits == 1
        ((key, value),) = grid.records.scan("repairs", b"", 10)
        assert parse_repair(key, value) == (0, segment.id, [1, 2])

    simulate(run())


@pytest.mark.parametrize("wrong", ["short", "long", "empty"])
def test_replies_of_the_wrong_length_are_failures_of_that_miner_alone(wrong: str) -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        data, segment, placement = await stored(grid)
        liar = holder(placement, 0)

        async def answer(message: ReadFragment, _: Caller) -> FragmentBytes:
            size = message.end - message.start
            made = {"short": size - 1, "long": size + 1, "empty": 0}[wrong]
            return FragmentBytes(Payload(bytes(made)))

        grid.network.leave(grid.name(liar))
        await grid.transport.serve(
            f"memory://{grid.name(liar)}", Handlers().on(ReadFragment, answer)
        )
        assert bytes((await grid.pool.read(segment, [(0, 100_003)]))[0]) == data
        assert grid.reported == [Missing(segment.id, 0, liar)]

    simulate(run())


def test_a_write_succeeds_at_quorum_and_queues_what_is_missing() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        silent = next(iter(grid.stores))
        grid.silence(silent)
        data, segment, placement = await stored(grid)
        assert len(placement.missing) == 1
        assert grid.clock.monotonic() < 1
        ((key, value),) = grid.records.scan("repairs", b"", 10)
        assert parse_repair(key, value) == (1, segment.id, placement.missing)
        assert bytes((await grid.pool.read(segment, [(0, 100_003)]))[0]) == data

    simulate(run())


def test_a_stalled_miner_slows_only_the_first_writes() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        grid.silence(next(iter(grid.stores)))
        for seed in range(3):
            await stored(grid, seed=seed)
        start = grid.clock.monotonic()
        for seed in range(3, 20):
            await stored(grid, seed=seed)
        assert grid.clock.monotonic() - start < 0.01

    simulate(run())


def test_below_quorum_nothing_is_promised() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        for miner in list(grid.stores)[:2]:
            grid.silence(miner)
        _, segment, shards = sealed(1, 1000, "small")
        with pytest.raises(BelowQuorum):
            await grid.pool.write(segment, shards)
        few = Grid()
        await few.add_miners(4)
        with pytest.raises(BelowQuorum):
            await few.pool.write(segment, shards)

    simulate(run())


def test_a_spare_miner_stands_in_for_one_that_refuses() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(8)
        for miner in list(grid.stores)[:2]:
            await grid.stores[miner].close()  # refuses every write
        for seed in range(5):
            _, _, placement = await stored(grid, seed=seed)
            assert placement.missing == []
            assert len({each.miner for each in placement.holders}) == 6

    simulate(run())


def test_a_miner_that_dropped_what_it_signed_for_is_noticed_by_the_reader() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        data, segment, placement = await stored(grid)
        cheat = holder(placement, 2)
        await grid.stores[cheat].drop([fragment_key(segment.id, 2)])
        assert bytes((await grid.pool.read(segment, [(0, 100_003)]))[0]) == data
        assert grid.reported == [Missing(segment.id, 2, cheat)]

    simulate(run())


def test_hedges_stay_within_their_share_of_all_asks() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        data, segment, _ = await stored(grid)
        asked = 0
        real = grid.peers.ask

        async def counting(*args: object, **options: object) -> object:
            nonlocal asked
            asked += 1
            return await real(*args, **options)  # type: ignore[arg-type]

        grid.peers.ask = counting  # type: ignore[method-assign, assignment]
        grid.network.faults = Faults(delay=(0.001, 0.2))
        for _ in range(300):
            assert bytes((await grid.pool.read(segment, [(5, 100_000)]))[0]) == data[5:100_000]
        assert 1200 <= asked <= 1200 * 1.05 + 24

    simulate(run())


def test_released_fragments_are_dropped_even_at_a_miner_that_was_away() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        _, segment, placement = await stored(grid)
        away = holder(placement, 4)
        grid.network.partition("pool", grid.name(away))
        release = grid.pool.release_rows(segment.id)
        assert await grid.records.apply(release.expected, release.changes)
        assert grid.pool.release_rows(segment.id).changes == []
        releaser = Releaser(grid.records, grid.directory, grid.peers, grid.clock)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(releaser.run())
            await grid.clock.sleep(100)
            held = {miner for miner, store in grid.stores.items() if store.space().fragments}
            assert held == {away}
            assert len(grid.records.scan("releases", b"", 10)) == 1
            grid.network.heal()
            await grid.clock.sleep(100)
            assert grid.stores[away].space().fragments == 0
            assert grid.records.scan("releases", b"", 10) == []
            work.cancel()

    simulate(run())


def test_a_lost_miner_does_not_hold_up_a_release() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        _, segment, placement = await stored(grid)
        grid.directory.lose(holder(placement, 0))
        release = grid.pool.release_rows(segment.id)
        assert await grid.records.apply(release.expected, release.changes)
        await Releaser(grid.records, grid.directory, grid.peers, grid.clock).step()
        assert grid.records.scan("releases", b"", 10) == []

    simulate(run())


async def _sweep(grid: Grid, miner: AccountId) -> int:
    peer = grid.transport.connect("memory://owner")
    return await Sweeper(grid.stores[miner], lambda _: peer, miner, grid.clock, DAY).sweep()


def test_staged_fragments_go_only_when_the_owner_says_never() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        _, segment, _ = await stored(grid, seed=1)
        _, orphan, shards = sealed(2, 5_000, "small")
        await grid.pool.write(orphan, shards)  # and no commit follows
        miner = next(iter(grid.stores))
        assert await _sweep(grid, miner) == 0  # too young
        await grid.clock.sleep(DAY + 60)
        assert await _sweep(grid, miner) == 0  # silence keeps
        assert grid.stores[miner].space().fragments == 2
        owner = PoolOwner(grid.records, grid.directory)
        await grid.transport.serve("memory://owner", owner.handlers(Handlers()))
        assert await _sweep(grid, miner) == 1
        ((key, entry),) = grid.stores[miner].scan(b"", 10)
        assert key[:32] == segment.id
        assert entry.confirmed

    simulate(run())


@pytest.mark.parametrize("jump", [26 * 3600.0, 10 * 365 * DAY])
def test_a_clock_set_forward_makes_no_fragment_old(jump: float) -> None:
    """The owner says never of what is still being written: asked too early, it would be lost."""

    async def run() -> None:
        grid, clock = Grid(), JumpingClock()
        grid.clock = clock
        await grid.add_miners(6)
        owner = PoolOwner(grid.records, grid.directory)
        await grid.transport.serve("memory://owner", owner.handlers(Handlers()))
        peer = grid.transport.connect("memory://owner")
        sweepers = [
            Sweeper(store, lambda _: peer, miner, clock, DAY)
            for miner, store in grid.stores.items()
        ]

        async def sweep() -> int:
            return sum([await sweeper.sweep() for sweeper in sweepers])

        _, segment, shards = sealed(1, 5_000, "small")
        placed = await grid.pool.write(segment, shards)  # the rest of its object is on its way
        clock.jump(jump)
        assert await sweep() == 0
        await clock.sleep(600)
        assert await sweep() == 0
        clock.jump(-jump)
        assert await sweep() == 0
        assert await grid.records.apply([], placed.rows)
        await clock.sleep(DAY + 60)
        assert await sweep() == 0
        assert all(entry.confirmed for store in grid.stores.values()
                   for _, entry in store.scan(b"", 10))  # fmt: skip

        _, orphan, shards = sealed(2, 5_000, "small")
        await grid.pool.write(orphan, shards)  # and no commit follows
        clock.jump(jump)  # to stay: the clock was wrong before
        assert await sweep() == 0
        await clock.sleep(DAY + 60)
        assert await sweep() == 6, "what is left behind goes all the same"

    simulate(run())


@pytest.mark.parametrize("jump", [-5 * 3600.0, -10 * DAY])
def test_a_clock_set_back_and_right_again_makes_no_fragment_old(jump: float) -> None:
    async def run() -> None:
        grid, clock = Grid(), JumpingClock()
        grid.clock = clock
        await grid.add_miners(6)
        owner = PoolOwner(grid.records, grid.directory)
        await grid.transport.serve("memory://owner", owner.handlers(Handlers()))
        peer = grid.transport.connect("memory://owner")
        miner, store = next(iter(grid.stores.items()))
        sweeper = Sweeper(store, lambda _: peer, miner, clock, DAY)
        clock.jump(jump)
        assert await sweeper.sweep() == 0
        _, segment, shards = sealed(1, 5_000, "small")
        await grid.pool.write(segment, shards)
        await clock.sleep(20 * 3600)
        clock.jump(-jump)
        assert await sweeper.sweep() == 0, "a writer may still commit"
        await clock.sleep(DAY + 60)
        assert await sweeper.sweep() == 1

    simulate(run())


def test_a_late_fragment_of_a_committed_segment_is_adopted() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(6)
        slow = next(iter(grid.stores))
        grid.silence(slow)
        _, segment, placement = await stored(grid)
        grid.network.unsilence(grid.name(slow))
        (index,) = placement.missing
        assert grid.stores[slow].find(fragment_key(segment.id, index)) is not None
        await grid.clock.sleep(DAY + 60)
        owner = PoolOwner(grid.records, grid.directory)
        await grid.transport.serve("memory://owner", owner.handlers(Handlers()))
        assert await _sweep(grid, slow) == 0
        now = grid.pool.placement(segment.id)
        assert now is not None
        assert now.missing == []
        assert grid.records.scan("repairs", b"", 10) == []

    simulate(run())


def test_strangers_are_refused_by_miner_and_owner() -> None:
    async def run() -> None:
        grid = Grid()
        await grid.add_miners(1)
        miner = next(iter(grid.stores))
        stranger = MemoryTransport(grid.network, name="x", identity=AccountId(bytes(32)))
        with pytest.raises(RemoteError, match="not_allowed"):
            await stranger.connect(f"memory://{grid.name(miner)}").ask(SpaceReport())
        owner = PoolOwner(grid.records, grid.directory)
        await grid.transport.serve("memory://owner", owner.handlers(Handlers()))
        with pytest.raises(RemoteError, match="not_allowed"):
            await stranger.connect("memory://owner").ask(AskCommitted(miner, ()))

    simulate(run())
