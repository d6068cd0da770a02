"""kill -9 of a miner around every write, sync, punch, removal and commit of its volumes."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from miner.store.interface import NoSuchFragment
from tests.fault.forked import Forks
from tests.fault.volume_process import MADE, open_store


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks("tests.fault.volume_process:run") as running:
        yield running


def promised(directory: Path) -> dict[int, str]:
    """By fragment `+` (stored), `-` (dropped) or `?` (no answer yet)."""
    told = (directory / "told").read_text().split()
    return {int(line[1:]): line[0] for line in told}


async def check_left(directory: Path) -> None:
    """What was acknowledged reads, what was dropped is gone, nothing else is wrong; it goes on."""
    states = promised(directory)
    store = open_store(directory / "miner")
    held = {key for key, _ in store.scan(b"", 1 << 10)}
    for number, (record, payload) in enumerate(MADE):
        state = states.get(number, "")
        assert (record.key in held) or state != "+", f"fragment {number} was acknowledged"
        assert (record.key not in held) or state != "-", f"fragment {number} was dropped"
        if record.key in held:
            assert await store.read(record.key, 0, record.size) == payload
            assert await store.record(record.key) == record
            assert await store.verify(record.key)
    assert len(held) == store.space().fragments
    record, payload = MADE[-1]
    await store.put(record, payload)
    await store.drop([record.key])
    with pytest.raises(NoSuchFragment):
        await store.read(record.key, 0, 1)
    await store.compact()
    await store.close()


async def test_a_miner_killed_at_any_step_keeps_its_word(forks: Forks, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    code, passes = forks("", 0, str(whole))
    assert code == 0
    await check_left(whole)
    assert {"write", "sync", "create", "remove", "punch", "fsync"} <= passes.keys()
    assert {"index transaction: before its commit", "index transaction: committed"} <= passes.keys()
    for name, passed in passes.items():
        for occurrence in sorted({1, 2, passed // 2, passed} - {0}):
            if occurrence > passed:
                continue
            directory = tmp_path / f"{name} {occurrence}"
            directory.mkdir()
            code, _ = forks(name, occurrence, str(directory))
            assert code == -signal.SIGKILL, (name, occurrence)
            await check_left(directory)
