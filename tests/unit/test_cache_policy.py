"""Claims about cdn/policy.py: budgets hold; hit ratios beat LRU, generated and real traces."""

import bisect
import itertools
import lzma
import os
import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdn.policy import Gdsf, Ghost, Policy, S3Fifo

Trace = list[tuple[int, int]]


class Lru:
    """The yardstick."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.used = capacity, 0
        self.sizes: OrderedDict[int, int] = OrderedDict()

    def __contains__(self, key: int) -> bool:
        return key in self.sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def hit(self, key: int) -> None:
        self.sizes.move_to_end(key)

    def add(self, key: int, size: int) -> list[int]:
        if size > self.capacity:
            return [key]
        self.used += size
        self.sizes[key] = size
        gone = []
        while self.used > self.capacity:
            victim, victim_size = self.sizes.popitem(last=False)
            self.used -= victim_size
            gone.append(victim)
        return gone

    def remove(self, key: int) -> None:
        self.used -= self.sizes.pop(key, 0)


def zipf_trace(seed: int, requests: int, objects: int, one_time: float) -> Trace:
    """Zipf (0.9) over `objects`, mixed with a share of keys that come once."""
    rng = random.Random(seed)
    weights = list(itertools.accumulate(1 / (rank + 1) ** 0.9 for rank in range(objects)))
    sizes = [int(rng.paretovariate(1.2) * 2000) for _ in range(objects)]
    trace, fresh = [], objects
    for _ in range(requests):
        if rng.random() < one_time:
            fresh += 1
            trace.append((fresh, int(rng.paretovariate(1.2) * 2000)))
        else:
            key = bisect.bisect(weights, rng.random() * weights[-1])
            key = min(key, objects - 1)
            trace.append((key, sizes[key]))
    return trace


def ratios(policy: Policy[int], trace: Trace) -> tuple[float, float]:
    """Object and byte hit ratio; checks the budget after every step."""
    hits = hit_bytes = total = 0
    for key, size in trace:
        total += size
        if key in policy:
            hits += 1
            hit_bytes += size
            policy.hit(key)
        else:
            policy.add(key, size)
        assert policy.used <= policy.capacity
    return hits / len(trace), hit_bytes / total


def footprint(trace: Trace) -> int:
    return sum(dict(reversed(trace)).values())


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_s3fifo_and_gdsf_hit_more_objects_than_lru_on_a_zipf_trace(share: float) -> None:
    trace = zipf_trace(seed=1, requests=60_000, objects=8_000, one_time=0.2)
    capacity = int(footprint(trace) * share)
    lru, s3fifo, gdsf = (ratios(p(capacity), trace)[0] for p in (Lru, S3Fifo, Gdsf))
    assert s3fifo > lru * 1.05
    assert gdsf > s3fifo


@pytest.mark.parametrize(
    ("policy", "share", "objects", "byte_ratio"),
    [
        (S3Fifo, 0.01, 0.2811, 0.2853),
        (S3Fifo, 0.10, 0.3789, 0.3726),
        (Gdsf, 0.01, 0.3303, 0.2518),
        (Gdsf, 0.10, 0.4198, 0.3496),
    ],
)
def test_hit_ratios_on_the_recorded_web_trace_are_those_published_for_the_policy(
    policy: Callable[[int], Policy[int]], share: float, objects: float, byte_ratio: float
) -> None:
    path = Path(os.environ.get("CUMULUS_FIXTURES", "")) / "traces" / "request.trace.xz"
    if not path.is_file():
        pytest.skip("set CUMULUS_FIXTURES to the folder that holds traces/request.trace.xz")
    first_size: dict[int, int] = {}
    trace = []
    with lzma.open(path, "rt") as lines:
        for line in lines:
            _, key, size = map(int, line.split())
            trace.append((key, first_size.setdefault(key, max(size, 1))))
    got = ratios(policy(int(sum(first_size.values()) * share)), trace)
    assert got[0] == pytest.approx(objects, abs=0.015)
    assert got[1] == pytest.approx(byte_ratio, abs=0.015)


@pytest.mark.parametrize("policy", [S3Fifo, Gdsf])
@given(
    st.lists(
        st.tuples(st.sampled_from("ahr"), st.integers(0, 12), st.integers(0, 40)), max_size=200
    )
)
@settings(max_examples=100)
def test_a_policy_keeps_its_budget_and_names_every_victim_once(
    policy: Callable[[int], Policy[int]], steps: list[tuple[str, int, int]]
) -> None:
    cache, model = policy(100), dict[int, int]()
    for what, key, size in steps:
        if what == "a":
            model[key] = max(size, 1)
            victims = cache.add(key, size)
            assert len(set(victims)) == len(victims)
            for victim in victims:
                del model[victim]
        elif what == "r":
            cache.remove(key)
            model.pop(key, None)
        elif key in cache:
            cache.hit(key)
        assert cache.used == sum(model.values()) <= 100
        assert len(cache) == len(model)
        assert all(key in cache for key in model)


@pytest.mark.parametrize("policy", [S3Fifo, Gdsf])
def test_what_is_larger_than_the_budget_is_refused_at_once(
    policy: Callable[[int], Policy[str]],
) -> None:
    cache = policy(10)
    assert cache.add("large", 11) == ["large"]
    assert "large" not in cache
    assert cache.used == 0


@pytest.mark.parametrize("policy", [S3Fifo, Gdsf])
def test_bookkeeping_stays_small_under_endless_adding_and_removing(
    policy: Callable[[int], Policy[int]],
) -> None:
    cache = policy(1000)
    for turn in range(20_000):
        cache.add(turn % 7, 1 + turn % 5)
        cache.remove(turn % 7)
    inside = [v for v in vars(cache).values() if hasattr(v, "__len__")]
    assert max(len(v) for v in inside) < 200


def test_a_ghost_knows_a_key_from_its_second_sight_and_forgets_the_oldest() -> None:
    ghost = Ghost[int](3)
    assert [ghost.seen(key) for key in (1, 2, 1, 3, 4, 1, 2)] == [
        False, False, True, False, False, True, False,
    ]  # fmt: skip
    assert len(ghost) == 3
