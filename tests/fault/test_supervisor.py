"""The supervisor with small stand-in children: what dies comes back, nothing stays behind."""

import asyncio
import contextlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from chain.clock import SystemClock
from gateway.commands.up import up
from gateway.config import ConfigError, resolve
from gateway.health import fetch
from gateway.listeners import Listener
from gateway.logs import Journal, rotate
from gateway.network import Network
from gateway.supervisor import BACKOFF_MAX, Command, Supervisor

OBEDIENT = """
import os, signal, sys, time
def leave(*_):
    print("left", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGHUP, lambda *_: print("reloaded", flush=True))
print("started", flush=True)
while True: time.sleep(0.01)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("started", flush=True)
while True: time.sleep(0.01)
"""
LIFELINE = """
import os, sys
print("started", flush=True)
os.read(int(sys.argv[1]), 1)
"""


def child(name: str, code: str, stage: int = 0, *words: str, fds: tuple[int, ...] = ()) -> Command:
    return Command(name, (sys.executable, "-S", "-c", code, *words), stage, fds)


def supervise(folder: Path, commands: Sequence[Command]) -> Supervisor:
    clock = SystemClock()
    journal = Journal(folder / "supervisor.log", io.StringIO(), clock)
    return Supervisor(commands, folder, clock, journal)


@contextlib.asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[Supervisor]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(supervisor.run())
        try:
            yield supervisor
        finally:
            supervisor.stop()
            await task


async def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(0.01)


def log_of(folder: Path, name: str) -> str:
    path = folder / f"{name}.log"
    return path.read_text() if path.exists() else ""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_killed_child_comes_back(tmp_path: Path) -> None:
    async with running(supervise(tmp_path, [child("a", OBEDIENT, 0, "a")])) as supervisor:
        one = supervisor.children[0]
        await until(lambda: "started" in log_of(tmp_path, "a"))
        first = one.pid
        assert first
        os.kill(first, signal.SIGKILL)
        await until(lambda: one.pid not in (None, first))
        assert one.restarts == 1
    assert "SIGKILL" in (tmp_path / "supervisor.log").read_text()
    assert one.pid is None


async def test_children_stop_stage_by_stage(tmp_path: Path) -> None:
    order: list[str] = []
    commands = [child("last", OBEDIENT, 2, "z"), child("first", OBEDIENT, 0, "a")]
    supervisor = supervise(tmp_path, commands)
    supervisor._on_change = lambda: order.append(
        ",".join(c.command.name for c in supervisor.children if c.pid)
    )
    async with running(supervisor):
        await until(lambda: all("started" in log_of(tmp_path, n) for n in ("first", "last")))
    assert order[-2:] == ["last", ""]


async def test_a_child_that_will_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.supervisor.STAGE_SECONDS", (0.2,))
    supervisor = supervise(tmp_path, [child("a", STUBBORN)])
    async with running(supervisor):
        await until(lambda: "started" in log_of(tmp_path, "a"))
        pid = supervisor.children[0].pid
        assert pid
    assert not alive(pid)


async def test_restarts_back_off_to_a_limit_and_begin_anew_after_health(tmp_path: Path) -> None:
    class FakeTime:
        def __init__(self) -> None:
            self.now, self.pauses = 0.0, list[float]()

        def now_ns(self) -> int:
            return 0

        def monotonic(self) -> float:
            return self.now

        async def sleep(self, seconds: float) -> None:
            if seconds <= BACKOFF_MAX:
                self.pauses.append(seconds)
                self.now += 11 if len(self.pauses) == 9 else 0
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(3600)

    clock = FakeTime()
    journal = Journal(tmp_path / "supervisor.log", io.StringIO(), clock)
    supervisor = Supervisor([child("a", "raise SystemExit(3)")], tmp_path, clock, journal)

    def grow_old() -> None:
        if len(clock.pauses) == 8:  # the ninth life was a long one
            clock.now += 10

    supervisor._on_change = grow_old
    async with running(supervisor):
        await until(lambda: len(clock.pauses) >= 10)
    assert clock.pauses[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert clock.pauses[8] == 0.1


async def test_a_child_that_refuses_three_times_ends_the_network_with_its_words(
    tmp_path: Path,
) -> None:
    code = "import sys; print('chain: the data is of a newer format', file=sys.stderr); sys.exit(2)"
    supervisor = supervise(tmp_path, [child("chain", code), child("b", OBEDIENT, 1, "b")])
    async with asyncio.timeout(10):
        await supervisor.run()
    assert supervisor.refused == "chain: the data is of a newer format"
    assert all(c.pid is None for c in supervisor.children)


REFUSING = "import sys; print('the disk is damaged', file=sys.stderr); sys.exit(2)"


async def test_one_miner_that_refuses_is_done_without_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.supervisor.REFUSED_EVERY", 0.2)
    mended = tmp_path / "mended"
    unless = f"import pathlib\nif not pathlib.Path({str(mended)!r}).exists():\n    {REFUSING}\n"
    commands = [child("m1", OBEDIENT), child("m2", unless + OBEDIENT)]
    supervisor = supervise(tmp_path, [replace(command, spare=True) for command in commands])
    log = tmp_path / "supervisor.log"
    async with running(supervisor):
        await until(lambda: supervisor.children[1].restarts > 6)
        assert supervisor.children[0].pid
        assert (
            log.read_text().count("m2 refuses to run; the others go on: the disk is damaged") == 1
        )
        mended.touch()
        await until(lambda: "started" in log_of(tmp_path, "m2"))
    assert supervisor.refused == ""


async def test_miners_that_all_refuse_end_the_network(tmp_path: Path) -> None:
    spares = [replace(child(name, REFUSING), spare=True) for name in ("m1", "m2")]
    supervisor = supervise(tmp_path, [*spares, child("b", OBEDIENT, 1, "b")])
    async with asyncio.timeout(10):
        await supervisor.run()
    assert supervisor.refused == "the disk is damaged"


async def test_hangup_reaches_every_child(tmp_path: Path) -> None:
    supervisor = supervise(tmp_path, [child("a", OBEDIENT, 0, "a"), child("b", OBEDIENT, 0, "b")])
    async with running(supervisor):
        await until(lambda: all("started" in log_of(tmp_path, n) for n in "ab"))
        supervisor.reload()
        await until(lambda: all("reloaded" in log_of(tmp_path, n) for n in "ab"))


def test_a_large_log_moves_aside_and_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        assert not rotate(path, limit=100)
        writer.write(b"y")
        assert rotate(path, limit=100)
        writer.write(b"after")
    assert path.read_bytes() == b"after"
    assert path.with_name("a.log.1").stat().st_size == 101


# ---------------------------------------------------------------- cumulus up, stand-ins inside
def stand_ins(
    network: Network, listeners: Sequence[Listener], held: Sequence[int]
) -> list[Command]:
    assert network.endpoints.s3
    assert listeners
    return [child(f"c{n}", LIFELINE, n, str(held[0]), fds=tuple(held)) for n in range(3)]


def settings_at(folder: Path) -> dict[str, object]:
    faces = ("s3", "ipfs", "ipfs_api", "console")
    return {"data_dir": str(folder), **{f"{face}_port": "0" for face in faces}}


MAIN = """
import asyncio, sys
from pathlib import Path
from chain.clock import SystemClock
from gateway.commands.up import up
from gateway.config import resolve
from tests.fault.test_supervisor import settings_at, stand_ins
asyncio.run(up(resolve(settings_at(Path(sys.argv[1])), {}), SystemClock(), stand_ins))
"""


async def test_a_killed_supervisor_takes_its_children_along_and_a_new_one_starts(
    tmp_path: Path,
) -> None:
    async def start() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MAIN, str(tmp_path), stdout=asyncio.subprocess.DEVNULL
        )
        await until(lambda: len(pids()) == 3)
        return process

    def pids() -> list[int]:
        path = tmp_path / "run" / "processes.json"
        if not path.exists():
            return []
        state = json.loads(path.read_text())["processes"]
        return [entry["pid"] for entry in state.values() if entry["pid"]]

    first = await start()
    assert int((tmp_path / "run" / "supervisor.pid").read_text()) == first.pid
    endpoints = json.loads((tmp_path / "run" / "endpoints.json").read_text())
    assert endpoints["edge"] is None
    assert endpoints["s3"].startswith("http://127.0.0.1:")
    with pytest.raises(ConfigError, match="already runs"):
        await up(resolve(settings_at(tmp_path), {}), SystemClock(), stand_ins)
    children = pids()
    first.kill()
    await first.wait()
    await until(lambda: not any(alive(pid) for pid in children))
    (tmp_path / "run" / "processes.json").unlink()
    second = await start()
    begun = time.monotonic()
    second.terminate()
    assert await second.wait() == 0
    assert time.monotonic() - begun < 10
    assert not (tmp_path / "run" / "endpoints.json").exists()
    assert not (tmp_path / "run" / "supervisor.pid").exists()


async def test_no_answer_from_a_port_is_status_zero(unused_tcp_port: int) -> None:
    assert await fetch(f"http://127.0.0.1:{unused_tcp_port}", "/health/live") == (0, b"")
