"""What lifecycle rules make of a version: never early, at midnight, the first rule first."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from gateway.lifecycle.rules import (
    DAY_NS,
    MINIMUM_ALL,
    MINIMUM_VARIES,
    Calendar,
    Due,
    Expiration,
    Facts,
    Filter,
    Lifecycle,
    Noncurrent,
    Plan,
    Rule,
    Transition,
)

WHOLE = Calendar()
SHORT = Calendar(2 * 10**9)
BIG = 1 << 20


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def plan(*rules: Rule, calendar: Calendar = WHOLE, minimum: str = "") -> Plan:
    return Plan(Lifecycle(rules, minimum), calendar)


def expires(days: int, where: Filter | None = None, name: str = "r", enabled: bool = True) -> Rule:
    return Rule(name, enabled, where or Filter(), expiration=Expiration(days=days))


def test_days_end_at_the_next_midnight() -> None:
    # The user guide's examples.
    assert WHOLE.after(ns("2014-01-15T10:30:00"), 3) == ns("2014-01-19")
    assert WHOLE.after(ns("2023-01-02T00:05:00"), 1) == ns("2023-01-04")
    assert WHOLE.after(ns("2014-01-02T11:30:00"), 5) == ns("2014-01-08")
    assert WHOLE.after(ns("2014-01-15"), 1) == ns("2014-01-16")
    assert SHORT.after(7, 3) == 7 + 6 * 10**9


times = st.integers(0, 4_000_000_000 * 10**9)
calendars = st.sampled_from([WHOLE, SHORT, Calendar(10**9 // 2)])
filters = st.builds(
    Filter,
    prefix=st.none() | st.sampled_from(["", "a", "ab", "b"]),
    tags=st.sets(st.tuples(st.sampled_from("kl"), st.sampled_from("vw")), max_size=2).map(tuple),
    above=st.none() | st.sampled_from([0, 100, BIG]),
    below=st.none() | st.sampled_from([1, 101, BIG]),
)
expirations = st.one_of(
    st.builds(Expiration, days=st.integers(1, 1000)),
    st.builds(Expiration, date_ns=st.integers(0, 40_000).map(lambda day: day * DAY_NS)),
    st.builds(Expiration, marker=st.booleans()),
)
rules = st.builds(
    Rule, st.text("xyz", max_size=3), st.booleans(), filters, expiration=st.none() | expirations
)
facts = st.builds(
    Facts,
    st.text("abc", min_size=1, max_size=3),
    st.sampled_from([0, 1, 100, 101, BIG]),
    st.dictionaries(st.sampled_from("kl"), st.sampled_from("vw")),
    times,
)


def means(rule: Rule, of: Facts) -> bool:
    """The filter once more, in other words."""
    where = rule.filter
    return (
        rule.enabled
        and of.key[: len(where.prefix or "")] == (where.prefix or "")
        and not (where.above is not None and of.size <= where.above)
        and not (where.below is not None and of.size >= where.below)
        and set(where.tags) <= set(of.tags.items())
    )


@given(st.lists(rules, max_size=5), facts, calendars)
def test_nothing_expires_early_or_by_a_rule_that_is_not_about_it(
    given_rules: list[Rule], of: Facts, calendar: Calendar
) -> None:
    due = plan(*given_rules, calendar=calendar).expiration(of)
    about = [
        r for r in given_rules if means(r, of) and r.expiration and r.expiration.marker is None
    ]
    if due is None:
        assert not about
        return
    chosen = [r for r in about if r.id == due.rule]
    assert chosen
    days = [r.expiration.days for r in about if r.expiration and r.expiration.days is not None]
    dates = [
        r.expiration.date_ns for r in about if r.expiration and r.expiration.date_ns is not None
    ]
    earliest = min([of.modified_ns + d * calendar.day_ns for d in days], default=1 << 80)
    if due.when_ns not in dates:
        assert earliest <= due.when_ns < earliest + calendar.day_ns
        if calendar == WHOLE:
            assert due.when_ns % DAY_NS == 0
    assert all(due.when_ns <= date for date in dates)
    assert all(due.when_ns <= calendar.after(of.modified_ns, d) for d in days)


def test_predicates_beside_an_and_hold_too() -> None:
    both = Filter("a/", also=Filter("a/b", (("k", "v"),), above=1, joined=True))
    rule = Rule("r", True, both, expiration=Expiration(days=1), abort_days=1)
    assert plan(rule).expiration(Facts("a/b", 2, {"k": "v"})) is not None
    for of in (Facts("a/c", 2, {"k": "v"}), Facts("a/b", 1, {"k": "v"}), Facts("a/b", 2)):
        assert plan(rule).expiration(of) is None
    assert plan(rule).untagged.expiration(Facts("a/b", 2)) is not None
    assert plan(rule).abort("a/c", 0) is None
    assert plan(rule).abort("a/b", 0) is not None


def test_the_shorter_of_two_rules_wins_and_the_first_of_two_alike() -> None:
    of = Facts("k", modified_ns=ns("2030-01-01T12:00:00"))
    one, two, three = expires(7, name="one"), expires(3, name="two"), expires(3, name="three")
    assert plan(one, two, three).expiration(of) == Due(ns("2030-01-05"), "two")
    assert plan(one, three, two).expiration(of) == Due(ns("2030-01-05"), "three")
    assert plan(one, expires(1, name="off", enabled=False)).expiration(of) == Due(
        ns("2030-01-09"), "one"
    )


def test_a_version_is_moved_to_the_last_class_that_is_due() -> None:
    made = ns("2030-01-01T12:00:00")
    rule = Rule(
        "r", True, Filter(), transitions=(Transition("WIDE", 30), Transition("STANDARD_IA", 10))
    )
    moving = plan(rule, Rule("s", True, Filter(), transitions=(Transition("MIRROR", None, 0),)))
    big = Facts("k", BIG, modified_ns=made)
    assert moving.transition(big, made) == "MIRROR"
    assert moving.transition(big, ns("2030-01-11T23:59:59")) == "MIRROR"
    assert moving.transition(big, ns("2030-01-12")) == "STANDARD_IA"
    assert moving.transition(big, ns("2030-02-01")) == "WIDE"
    assert moving.transition(big._replace(storage_class="WIDE"), ns("2030-02-01")) is None


def test_what_is_small_stays_if_that_was_asked_for_and_no_rule_speaks_of_size() -> None:
    sized = Filter(above=0)
    for where, size, minimum, name, moves in (
        (Filter(), (128 << 10) - 1, MINIMUM_ALL, "WIDE", False),
        (Filter(), 128 << 10, MINIMUM_ALL, "WIDE", True),
        (sized, 1, MINIMUM_ALL, "WIDE", True),
        (Filter(), 1, MINIMUM_VARIES, "WIDE", False),
        (Filter(), 1, MINIMUM_VARIES, "GLACIER", True),
        (Filter(), 1, "", "WIDE", True),
    ):
        rule = Rule("r", True, where, transitions=(Transition(name, 0),))
        moved = plan(rule, minimum=minimum).transition(Facts("k", size), ns("2030-01-01"))
        assert moved == (name if moves else None)


def test_a_noncurrent_version_goes_when_it_is_old_and_enough_newer_ones_are_there() -> None:
    since = ns("2030-01-01T12:00:00")
    rule = Rule("r", True, Filter(), noncurrent=Noncurrent(5, 2))
    for newer, moment, gone in (
        (2, "2030-01-07", True),
        (3, "2030-01-07", True),
        (1, "2030-02-01", False),
        (2, "2030-01-06T23:59:59", False),
    ):
        assert plan(rule).noncurrent(Facts("k", 5), since, newer, ns(moment)) is gone
    moving = plan(Rule("r", True, Filter(), noncurrent_transitions=(Noncurrent(5, None, "WIDE"),)))
    assert moving.noncurrent_transition(Facts("k", BIG), since, 0, ns("2030-01-07")) == "WIDE"
    assert moving.noncurrent_transition(Facts("k", BIG), since, 0, ns("2030-01-06")) is None


def test_a_marker_that_hides_nothing_goes_by_its_own_rule_or_by_age() -> None:
    marker = Facts("k", modified_ns=ns("2030-01-01T12:00:00"))
    own = Rule("r", True, Filter(), expiration=Expiration(marker=True))
    kept = Rule("r", True, Filter(), expiration=Expiration(marker=False))
    assert plan(own).marker(marker, ns("2030-01-01T12:00:01"))
    assert not plan(kept).marker(marker, ns("2040-01-01"))
    assert not plan(expires(3)).marker(marker, ns("2030-01-04T23:00:00"))
    assert plan(expires(3)).marker(marker, ns("2030-01-05"))
    assert not plan(expires(3, Filter(tags=(("k", "v"),)))).marker(marker, ns("2040-01-01"))
    assert plan(own).expiration(marker) is None


def test_an_upload_is_given_up_by_prefix_and_age() -> None:
    started = ns("2030-01-01T12:00:00")
    found = plan(
        Rule("late", True, Filter(), abort_days=9), Rule("r", True, Filter("a/"), abort_days=2)
    )
    assert found.abort("a/k", started) == Due(ns("2030-01-04"), "r")
    assert found.abort("b/k", started) == Due(ns("2030-01-11"), "late")
    assert plan(expires(1)).abort("a/k", started) is None


@given(times, st.integers(1, 100), calendars)
def test_a_day_is_over_when_the_next_begins(moment: int, days: int, calendar: Calendar) -> None:
    following = calendar.next_day(moment)
    assert moment < following <= moment + calendar.day_ns
    assert calendar.number(following) == calendar.number(moment) + 1
    assert calendar.after(moment, days) >= moment + days * calendar.day_ns
