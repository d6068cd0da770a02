"""Deadlines hold by the wall clock and by the monotonic one."""

import pytest

from chain.clock import NEVER, Deadline
from tests.unit.object_parts import FakeClock

HOUR = 3600 * 10**9


@pytest.mark.parametrize(
    ("passed_hours", "set_by_hours", "over"),
    [
        (19, 0, False),
        (21, 0, True),
        (21, -10, True),  # set back meanwhile
        (1, -10, False),
        (1, 20, True),  # set forward, or the machine slept: nobody can tell
    ],
)
def test_a_deadline_has_passed_when_either_clock_says_so(
    passed_hours: int, set_by_hours: int, over: bool
) -> None:
    clock = FakeClock()
    deadline = Deadline.after(clock, 20 * 3600)
    clock.ns += passed_hours * HOUR
    clock.set_by = set_by_hours * HOUR
    assert deadline.has_passed(clock) is over
    assert deadline.or_before(NEVER).has_passed(clock) is over
    assert NEVER.or_before(deadline).has_passed(clock) is over
    assert not NEVER.has_passed(clock)
