"""Nodes that are forked are what programs of their own would be."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.spawning import Forks, Process, Programs, Spawner
from tests.clients.running import is_alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nodes are not forked")
STAND_IN = [sys.executable, "-m", "tests.fault.stand_in"]
ROLES = ("gateway worker", "gateway catalog", "gateway repair", "gateway jobs", "chain", "miner")


@contextlib.asynccontextmanager
async def forks(*keep: int) -> AsyncIterator[Forks]:
    spawner = Forks(keep)
    try:
        yield spawner
    finally:
        await spawner.close()


async def start(spawner: Spawner, log: Path, words: list[str], *keep: int) -> Process:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return await spawner.spawn(words, keep, descriptor)
    finally:
        os.close(descriptor)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def told(log: Path) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while not (text := log.read_text()).endswith("\n"):  # noqa: ASYNC110, ASYNC240 - a file
            await asyncio.sleep(0.01)
    found: dict[str, Any] = json.loads(text)
    return found


async def test_a_forked_node_is_given_what_a_program_is_given(tmp_path: Path) -> None:
    kept, others = os.pipe(), os.pipe()
    lifeline = kept[0]
    log = tmp_path / "node.log"
    found = []
    async with forks(lifeline, others[0]) as forking:
        for spawner in (Programs(), forking):
            process = await start(spawner, log, [*STAND_IN, "wait", str(lifeline)], lifeline)
            found.append(await told(log))
            assert parent(process.pid) == os.getpid()
            os.kill(process.pid, signal.SIGKILL)
            assert await process.wait() == -signal.SIGKILL
            assert process.returncode == -signal.SIGKILL
            log.unlink()
    program, forked = found
    assert forked == program
    assert forked["command line"] == [*STAND_IN, "wait", str(lifeline)]
    assert set(forked["descriptors"]) == {"0", "1", "2", str(lifeline)}
    for descriptor in (*kept, *others):
        os.close(descriptor)


async def test_a_node_lives_on_when_the_fork_server_dies_and_the_next_has_another(
    tmp_path: Path,
) -> None:
    lifeline, end = os.pipe()
    async with forks(lifeline) as spawner:
        log = tmp_path / "a.log"
        first = await start(spawner, log, [*STAND_IN, "wait", str(lifeline)], lifeline)
        await told(log)
        assert spawner.server is not None
        os.kill(before := spawner.server, signal.SIGKILL)
        second = await start(spawner, tmp_path / "b.log", [*STAND_IN, "7"])
        assert await second.wait() == 7
        assert spawner.server != before
        assert first.returncode is None
        os.close(end)
        assert await first.wait() == 0
        server = spawner.server
    os.close(lifeline)
    assert server is not None
    assert not is_alive(server)


async def test_the_fork_server_has_one_thread_and_nothing_open_whatever_it_imported(
    tmp_path: Path,
) -> None:
    async with forks() as spawner:
        first = await start(spawner, tmp_path / "x.log", [*STAND_IN, "0"])
        await first.wait()
        server = Path(f"/proc/{spawner.server}")
        before = sorted(path.name for path in (server / "fd").iterdir())
        for role in ROLES:
            log = tmp_path / f"{role}.log"
            process = await start(spawner, log, [sys.executable, "-m", *role.split(), "--wrong"])
            assert await process.wait() == 2, log.read_text()
            assert role.split()[-1] in log.read_text()
        assert len(list((server / "task").iterdir())) == 1
        assert sorted(path.name for path in (server / "fd").iterdir()) == before
        maps = (server / "maps").read_text()
        assert "lmdb" in maps  # the imports were its own
        assert "uvloop" in maps


async def test_a_child_of_another_program_and_one_that_cannot_be_imported_end_by_themselves(
    tmp_path: Path,
) -> None:
    async with forks() as spawner:
        other = await start(
            spawner, tmp_path / "a.log", [sys.executable, "-c", "raise SystemExit(9)"]
        )
        assert await other.wait() == 9
        missing = await start(
            spawner, tmp_path / "b.log", [sys.executable, "-m", "gateway.nowhere"]
        )
        assert await missing.wait() == 1
        assert "No module named gateway.nowhere" in (tmp_path / "b.log").read_text()
