"""Starts the processes of a network, restarts what dies, and leaves nothing behind.

Rules
1. Children run in sessions of their own: a Ctrl-C reaches the supervisor alone, which decides the
   order of stopping.
2. Every child holds the read end of one pipe (`--lifeline FD`) and leaves when it closes; so a
   killed supervisor takes everything with it.
3. Every child holds `run/children.lock` too: while one of a killed supervisor's children still
   works, no new network starts on the same data.
4. A child that dies is started again after 0.1 s, doubling to 5 s; after 10 s of health the count
   begins anew.
5. A child that ends with code 2 refuses its data or its options. Three times in a row is an
   answer: the network stops and says the child's last line. Of `spare` children (miners) the
   others go on without it, and it is tried again every 30 s: one disk ends no network. Only when
   all of them refuse, so does the network.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chain.clock import Clock
from gateway.logs import Journal, rotate
from gateway.spawning import Process, Programs, Spawner

BACKOFF_FIRST, BACKOFF_MAX, HEALTHY_AFTER = 0.1, 5.0, 10.0
ROTATE_EVERY = 15.0
REFUSED, REFUSALS_MAX, REFUSED_EVERY = 2, 3, 30.0
LAST_LINE_BYTES = 4096
# Seconds per stage; together below the ten of the contract with the kill at the end.
STAGE_SECONDS = (4.0, 2.0, 1.5, 1.5)


@dataclass(frozen=True, slots=True)
class Command:
    """A child to keep running. Stages stop in rising order: workers, catalog, miners, chain."""

    name: str
    argv: Sequence[str]
    stage: int
    pass_fds: tuple[int, ...] = ()
    spare: bool = False  # the network can do without it as long as there are others


@dataclass(slots=True)
class Child:
    """A command's present state."""

    command: Command
    process: Process | None = None
    restarts: int = 0
    refusals: int = 0
    backoff: float = BACKOFF_FIRST
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def refuses(self) -> bool:
        """Whether it has given its answer."""
        return self.refusals >= REFUSALS_MAX

    @property
    def pid(self) -> int | None:
        """The running process, None while there is none."""
        running = self.process is not None and self.process.returncode is None
        return self.process.pid if running and self.process else None


class Supervisor:
    """Keeps `commands` running until told to stop.

    `lifeline` and the other inherited descriptors are in each command's `pass_fds`. `on_change` is
    called whenever a child starts or ends.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        log_dir: Path,
        clock: Clock,
        journal: Journal,
        on_change: Callable[[], None] = lambda: None,
        spawner: Spawner | None = None,
    ) -> None:
        self.children = [Child(command) for command in commands]
        self._log_dir = log_dir
        self._clock = clock
        self._journal = journal
        self._on_change = on_change
        self._spawner = spawner or Programs()
        self._stopping = asyncio.Event()
        self.refused = ""  # why the network cannot run

    def stop(self) -> None:
        """Begin an orderly end; `run` returns when everything is gone."""
        self._stopping.set()

    def reload(self) -> None:
        """Pass SIGHUP on."""
        for child in self.children:
            _signal(child, signal.SIGHUP)

    async def run(self) -> None:
        """Start everything, keep it running, and stop it when asked to."""
        self._log_dir.mkdir(parents=True, exist_ok=True)
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(self._keep(child)) for child in self.children]
            rotating = group.create_task(self._rotate())
            await self._stopping.wait()
            await self._stop_all()
            for task in (*keepers, rotating):
                task.cancel()
        await self._spawner.close()

    # ------------------------------------------------------------------ one child
    async def _keep(self, child: Child) -> None:
        while not self._stopping.is_set():
            started = self._clock.monotonic()
            try:
                child.process = await self._spawn(child.command)
            except OSError as error:
                self._journal.error(f"{child.command.name}: cannot start: {error}")
            else:
                self._on_change()
                if self._stopping.is_set():  # the end began while it was being started
                    _signal(child, signal.SIGTERM)
                code = await child.process.wait()
                self._on_change()
                if self._stopping.is_set():
                    break
                self._note_end(child, code)
            if self._clock.monotonic() - started >= HEALTHY_AFTER:
                child.backoff = BACKOFF_FIRST
            child.restarts += 1
            pause, child.backoff = child.backoff, min(child.backoff * 2, BACKOFF_MAX)
            await self._pause(REFUSED_EVERY if child.refuses else pause)
        child.gone.set()

    def _note_end(self, child: Child, code: int) -> None:
        name = child.command.name
        child.refusals = child.refusals + 1 if code == REFUSED else 0
        if child.refuses:
            self._refused(child)
        elif code == REFUSED:
            self._journal.info(f"{name} refused; trying again")
        else:
            self._journal.warning(f"{name} ended ({_ending(code)}); restarting")

    def _refused(self, child: Child) -> None:
        name = child.command.name
        reason = _last_line(self._log_dir / f"{name}.log") or f"{name} refuses to run"
        spares = [other for other in self.children if other.command.spare]
        if child in spares and not all(spare.refuses for spare in spares):
            if child.refusals == REFUSALS_MAX:
                self._journal.error(f"{name} refuses to run; the others go on: {reason}")
            return
        self.refused = reason
        self._journal.info(f"{name} refuses to run", reason=reason)
        self.stop()

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not past the beginning of the end."""
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._clock.sleep(seconds))
            waker = group.create_task(self._stopping.wait())
            await asyncio.wait((timer, waker), return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
            waker.cancel()

    async def _spawn(self, command: Command) -> Process:
        log = os.open(
            self._log_dir / f"{command.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        try:
            return await self._spawner.spawn(command.argv, command.pass_fds, log)
        finally:
            os.close(log)

    # ------------------------------------------------------------------ the end
    async def _stop_all(self) -> None:
        for stage in sorted({child.command.stage for child in self.children}):
            group = [child for child in self.children if child.command.stage == stage]
            for child in group:
                _signal(child, signal.SIGTERM)
            seconds = STAGE_SECONDS[min(stage, len(STAGE_SECONDS) - 1)]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await _all_gone(group)
            for child in group:
                if child.pid is not None:
                    self._journal.warning(
                        f"{child.command.name} did not stop in {seconds} s: killed"
                    )
                    _signal(child, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):  # not even SIGKILL moves a stuck disk
                async with asyncio.timeout(1.0):
                    await _all_gone(group)

    async def _rotate(self) -> None:
        while True:
            await self._clock.sleep(ROTATE_EVERY)
            for path in sorted(self._log_dir.glob("*.log")):
                rotate(path)


async def _all_gone(children: Sequence[Child]) -> None:
    for child in children:
        await child.gone.wait()


def _signal(child: Child, number: signal.Signals) -> None:
    if child.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LAST_LINE_BYTES))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
