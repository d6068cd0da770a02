"""Endless work of the catalog process: what it does between pauses, and behind a failure."""

import asyncio

import pytest

from gateway.nodes import catalog, parts


class StopClock:
    """Notes pauses; the last allowed one ends the test."""

    def __init__(self, pauses: int) -> None:
        self.left = pauses
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.left -= 1
        if not self.left:
            raise asyncio.CancelledError


class Objects:
    """So many release jobs; the second step fails once."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.steps = 0
        self.fail_at = 2

    async def release_some(self) -> bool:
        self.steps += 1
        if self.steps == self.fail_at:
            raise OSError("for once")
        self.jobs -= 1
        return self.jobs >= 0


async def test_release_jobs_are_worked_off_without_pauses_and_behind_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    objects, clock = Objects(5), StopClock(3)
    with pytest.raises(asyncio.CancelledError):
        await parts.steadily(
            "deletions",
            lambda: catalog.let_go(objects, clock),  # type: ignore[arg-type]
            clock,  # type: ignore[arg-type]
        )
    # One failure, one pause behind it; then all jobs, and a pause whenever there is none.
    assert objects.jobs < 0
    assert clock.slept[0] == parts.RESTART_SECONDS
    assert clock.slept[1:] == [catalog.LET_GO_SECONDS] * 2
    assert "deletions failed and starts again" in caplog.text
