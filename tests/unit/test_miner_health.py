import pytest

from miner.client import BACKOFF_MAX, Health
from miner.config import InvalidConfig, parse_size
from miner.hedging import HedgeBudget


def test_a_miner_that_fails_thrice_is_left_alone_longer_each_time() -> None:
    health = Health()
    for now in (0.0, 0.1):
        health.failed(now, certain=False)
        assert not health.is_open(now)
    health.failed(0.2, certain=False)
    assert health.is_open(1.1)
    assert not health.is_open(1.3)
    health.failed(2.0, certain=False)  # the trial failed
    assert health.is_open(3.9)
    assert not health.is_open(4.1)
    for _ in range(50):
        health.failed(100.0, certain=False)  # all of one burst
    assert not health.is_open(104.1)
    for turn in range(10):
        health.failed(1000.0 + 100 * turn, certain=False)
    assert health.open_until == 1900.0 + BACKOFF_MAX


def test_a_good_answer_closes_the_breaker() -> None:
    health = Health()
    for _ in range(5):
        health.failed(0.0, certain=True)
    health.answered(0.0, 0.01)
    assert not health.is_open(0.0)
    health.failed(0.0, certain=False)
    assert not health.is_open(0.0)


def test_lagging_alone_never_opens_the_breaker_of_a_miner_that_answers() -> None:
    health = Health()
    now = 0.0
    for _ in range(200):
        now += 0.4
        for _ in range(5):
            health.lagged(now, 0.3, timed=True)
        assert not health.is_open(now)
        health.answered(now, 0.4)


def test_a_miner_that_is_silent_while_asks_lag_is_left_alone() -> None:
    health = Health()
    health.answered(1.0, 0.01)
    for now in (1.1, 1.2, 1.3, 1.4):
        health.lagged(now, 0.1, timed=True)
        assert not health.is_open(now)
    health.lagged(1.6, 0.1, timed=True)
    assert health.is_open(1.6)
    health.answered(1.7)
    assert not health.is_open(1.7)


def test_a_miner_is_silent_from_a_late_ask_until_it_says_anything() -> None:
    health = Health()
    health.answered(1.0, 0.01)
    health.unanswered(0.9)
    assert not health.silent, "it answered another ask since"
    late = Health()
    late.answered(1.0, 0.01)
    late.unanswered(1.1)
    assert late.silent
    assert not late.is_open(1.2)
    late.heard(1.3)
    assert (late.silent, late.heard_at) == (False, 1.3)


def test_the_breaker_of_a_silent_miner_stays_open_until_it_says_something() -> None:
    health = Health()
    for now in (1.1, 1.5, 1.9):
        health.lagged(now, 0.2, timed=True)
    assert health.is_open(100.0)
    health.answered(100.0)
    assert not health.is_open(100.0)


def test_answers_that_others_overtook_lengthen_patience_up_to_a_bound() -> None:
    health = Health()
    health.answered(0.0, 0.01)
    before = health.patience
    for _ in range(20):
        health.lagged(0.0, 0.5, timed=True)
    assert health.patience > 0.5 > before
    for _ in range(50):
        health.lagged(0.0, 100.0, timed=True)
    assert health.patience == 5.0


def test_patience_follows_the_answers() -> None:
    health = Health()
    for _ in range(100):
        health.answered(0.0, 0.1)
    assert 0.1 <= health.patience < 0.11
    for _ in range(100):
        health.answered(0.0, 0.5)
    assert health.patience >= 0.5


def test_hedges_are_a_share_of_asks() -> None:
    budget = HedgeBudget(0.05)
    while budget.take(1):
        pass
    for _ in range(19):
        budget.asked()
    assert not budget.take(1)
    for _ in range(2):
        budget.asked()
    assert budget.take(1)
    assert not HedgeBudget(0.0).take(1)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500M", 500 << 20), ("8GiB", 8 << 30), ("8gb", 8 << 30), ("1T", 1 << 40)],
)
def test_sizes_are_binary(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1.5G", "1X", "٣G", "9" * 20, "1 G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig):
        parse_size(text)
