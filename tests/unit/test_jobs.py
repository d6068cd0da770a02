"""Jobs of the background: they go on where they were, back off, and do not run twice."""

import msgspec
import pytest

from gateway.catalog.interface import Batch, Put, Space
from gateway.catalog.memory import MemoryCatalog
from gateway.jobs import FAILURE_MAX, JobRunner, Step, job_key, job_states
from gateway.records import JobRow, decode, encode
from tests.unit.object_parts import FakeClock


class Counting:
    """Passes of three steps; what a step sees is kept, and it may be told to fail."""

    name = "counting"

    def __init__(self, fail: int = 0) -> None:
        self.seen: list[bytes] = []
        self.fail = fail
        self.idle = False

    async def step(self, state: JobRow) -> Step:
        self.seen.append(state.position)
        if self.fail:
            self.fail -= 1
            raise OSError("the disk is gone")
        if self.idle:
            return Step(pause=60)
        number = int(state.position or b"0") + 1
        return Step(ended=True, done=1) if number == 3 else Step(b"%d" % number, 2, 0.5)


def row(catalog: MemoryCatalog) -> JobRow:
    with catalog.read() as reader:
        [(name, state)] = job_states(reader)
    assert name == "counting"
    return state


async def test_a_new_process_goes_on_where_the_old_one_was() -> None:
    catalog, clock, job = MemoryCatalog(), FakeClock(), Counting()
    began = clock.ns
    for number in range(7):
        clock.ns = began + number
        assert await JobRunner(job, catalog, clock).step() == (0 if number % 3 == 2 else 0.5)
    assert job.seen == [b"", b"1", b"2"] * 2 + [b""]
    assert row(catalog) == JobRow(b"1", began + 6, began + 5, done=2 * 5 + 2)


async def test_failures_are_kept_and_answered_with_longer_pauses() -> None:
    catalog, clock, job = MemoryCatalog(), FakeClock(), Counting()
    runner = JobRunner(job, catalog, clock)
    await runner.step()
    job.fail = 12
    pauses = [await runner.step() for _ in range(12)]
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert pauses[-1] == FAILURE_MAX
    state = row(catalog)
    assert (state.position, state.failures) == (b"1", 12)
    assert "the disk is gone" in state.error
    await runner.step()
    assert (row(catalog).failures, row(catalog).error, job.seen[-1]) == (0, "", b"1")


async def test_what_does_nothing_writes_nothing() -> None:
    catalog, job = MemoryCatalog(), Counting()
    job.idle = True
    assert await JobRunner(job, catalog, FakeClock()).step() == 60
    with catalog.read() as reader:
        assert not reader.scan(Space.JOBS, b"\0", None, 10)


async def test_a_second_runner_does_not_take_the_job_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalog, clock = MemoryCatalog(), FakeClock()
    other = JobRow(position=b"2", done=9)

    class Overtaken(Counting):
        async def step(self, state: JobRow) -> Step:
            put = Put(Space.JOBS, job_key(self.name), encode(other))
            await catalog.commit(Batch(changes=[put]))
            return await super().step(state)

    await JobRunner(Overtaken(), catalog, clock).step()
    assert row(catalog) == other
    assert "another process does the same work" in caplog.text


async def test_a_catalog_that_does_not_answer_ends_no_job() -> None:
    catalog, clock, job = MemoryCatalog(), FakeClock(), Counting()

    away = MemoryCatalog()
    away.available = False
    assert await JobRunner(job, away, clock).step() == 0.5
    # The row was not kept, so the step is done again.
    assert await JobRunner(job, catalog, clock).step() == 0.5
    assert job.seen == [b"", b""]


def test_a_row_of_a_job_has_room_for_later_fields() -> None:
    state = JobRow(b"here", 1, 2, 3, 4, "why")
    raw = encode(state)
    longer = raw[:1] + msgspec.msgpack.encode([*msgspec.msgpack.decode(raw[1:]), "new"])
    assert decode(JobRow, longer) == state
