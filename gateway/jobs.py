"""Work in the background that goes through the catalog a step at a time, and survives restarts.

A job's state is one row (JOBS, `job/` and its name): where it goes on, when its present pass began
and the last one ended, what it did, how often in a row it failed. A step's effects come before the
row that tells of it, so the step after a crash may repeat some: steps are idempotent.
"""

import logging
from typing import NamedTuple, Protocol

import msgspec

from chain.clock import Clock
from gateway.catalog.interface import (
    Batch,
    Catalog,
    CatalogUnavailable,
    Conflict,
    Equals,
    Put,
    Reader,
    Space,
)
from gateway.records import CorruptRecord, JobRow, decode, encode

log = logging.getLogger(__name__)

JOBS = b"job/"
FAILURE_FIRST, FAILURE_MAX = 1.0, 300.0  # seconds behind a failed step: doubling
ERROR_MAX = 200  # characters that are kept of a failure
_JOBS_MAX = 100


class Step(NamedTuple):
    """What a step came to."""

    position: bytes = b""  # where the pass goes on; empty between passes
    done: int = 0  # things done: objects expired, records delivered
    pause: float = 0.0  # seconds to the next step
    ended: bool = False  # it was a pass's last


class Job(Protocol):
    """Something that is done in the background for ever, a bounded piece at a time."""

    @property
    def name(self) -> str:
        """In its row, in `cumulus status` and metrics: a word in lower case."""
        ...

    async def step(self, state: JobRow) -> Step:
        """One piece from `state.position` on. What it raises is logged, and it is tried again."""
        ...


def job_key(name: str) -> bytes:
    """Where a job's row is."""
    return JOBS + name.encode()


def job_states(reader: Reader) -> list[tuple[str, JobRow]]:
    """All jobs that ever did something, by name."""
    rows = reader.scan(Space.JOBS, JOBS, JOBS + b"\xff", _JOBS_MAX)
    return [(key[len(JOBS) :].decode(), decode(JobRow, value)) for key, value in rows]


class JobRunner:
    """Runs one job. Two runners of the same job hinder each other by the row's condition."""

    def __init__(self, job: Job, catalog: Catalog, clock: Clock) -> None:
        self._job = job
        self._catalog = catalog
        self._clock = clock

    async def run(self) -> None:
        """Step until cancelled."""
        while True:
            await self._clock.sleep(await self.step())

    async def step(self) -> float:
        """One step and its row; the pause behind it."""
        try:
            raw, state = self._state()
        except (CatalogUnavailable, CorruptRecord) as error:
            log.warning("%s: %s", self._job.name, error)
            return FAILURE_MAX if isinstance(error, CorruptRecord) else FAILURE_FIRST
        began = self._clock.now_ns()
        try:
            step = await self._job.step(state)
        except Exception as error:  # noqa: BLE001 - whatever it is: it comes again, and is told
            return await self._failed(raw, state, error)
        await self._note(raw, self._after(state, step, began))
        return step.pause

    def _state(self) -> tuple[bytes | None, JobRow]:
        with self._catalog.read() as reader:
            raw = reader.get(Space.JOBS, job_key(self._job.name))
        return raw, JobRow() if raw is None else decode(JobRow, raw)

    def _after(self, state: JobRow, step: Step, began_ns: int) -> JobRow:
        begins = not state.position and (step.position or step.ended)
        return msgspec.structs.replace(
            state,
            position=step.position,
            began_ns=began_ns if begins else state.began_ns,
            ended_ns=self._clock.now_ns() if step.ended else state.ended_ns,
            done=state.done + step.done,
            failures=0,
            error="",
        )

    async def _failed(self, raw: bytes | None, state: JobRow, error: Exception) -> float:
        failures = state.failures + 1
        log.warning("%s failed %d times: %r", self._job.name, failures, error)
        text = f"{type(error).__name__}: {error}"[:ERROR_MAX]
        await self._note(raw, msgspec.structs.replace(state, failures=failures, error=text))
        return min(FAILURE_FIRST * 2.0 ** min(failures - 1, 30), FAILURE_MAX)

    async def _note(self, raw: bytes | None, state: JobRow) -> None:
        """Keep the row; where that fails the step is done again."""
        value = encode(state)
        if value == raw or (raw is None and state == JobRow()):
            return
        key = job_key(self._job.name)
        try:
            await self._catalog.commit(
                Batch([Equals(Space.JOBS, key, raw)], [Put(Space.JOBS, key, value)])
            )
        except Conflict:
            log.error("%s: another process does the same work", self._job.name)
        except CatalogUnavailable as unavailable:
            log.warning("%s: %s", self._job.name, unavailable)
