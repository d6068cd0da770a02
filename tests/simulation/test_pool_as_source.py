import random

import pytest

from chain.net.simulation import simulate
from miner.erasure import code_for, cut
from miner.fragment import fragment_id
from miner.segments import PROFILES, Segment
from tests.simulation.miner_grid import Grid


@pytest.mark.parametrize("seed", range(6))
def test_any_losses_up_to_m_and_any_ranges_give_the_same_bytes(seed: int) -> None:
    """Seeded: profile, length, which miners are gone, silent or damaged, which ranges."""

    async def run() -> None:
        rng = random.Random(seed)
        grid = Grid(seed)
        await grid.add_miners(20)
        profile = PROFILES[rng.choice(sorted(PROFILES))]
        length = rng.choice([1, profile.k, 4_097, 300_001])
        data = rng.randbytes(length)
        shards = cut(data, profile.k)
        shards += code_for(profile).encode(shards)
        ids = tuple(fragment_id(shard) for shard in shards)
        segment = Segment(profile, length, ids)
        placed = await grid.pool.write(segment, shards)
        await grid.records.apply([], placed.rows)
        for index in rng.sample(range(profile.n), profile.m):
            miner = placed.placement.holders[index].miner
            assert miner is not None
            key = grid.stores[miner].scan(b"", 1)[0][0]
            harm = rng.choice(["silent", "dropped", "damaged", "lost"])
            if harm == "silent":
                grid.silence(miner)
            elif harm == "dropped":
                await grid.stores[miner].drop([key])
            elif harm == "damaged":
                grid.stores[miner].damage(key)
            else:
                grid.directory.lose(miner)
        for _ in range(10):
            start = rng.randint(0, length)
            end = rng.randint(start, length)
            ((got),) = await grid.pool.read(segment, [(start, end)], verify=True)
            assert bytes(got) == data[start:end], f"seed {seed}"

    simulate(run())
