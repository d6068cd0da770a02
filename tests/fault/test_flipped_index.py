"""Rot in a miner's LMDB file: it is found, or does no more harm than rot in a volume."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.fragment_store_suite import fragments
from tests.fault.flipped_index import COUNT, LENGTH, STARTS, open_store

HELPER = Path(__file__).with_name("flipped_index.py")
ROOT = Path(__file__).parents[2]


async def filled(directory: Path, copy: Path, ending: str) -> None:
    """A store with fragments that ended cleanly, or was killed."""
    store = open_store(directory)
    for number in range(COUNT):
        await store.put(*fragments(str(number), LENGTH)[1][0])
        await store.put(*fragments(f"{number}-gone", LENGTH)[1][0])
    gone = [fragments(f"{number}-gone", LENGTH)[1][0][0].key for number in range(COUNT)]
    await store.confirm([fragments(str(n), LENGTH)[1][0][0].key for n in range(0, COUNT, 3)])
    await store.drop(gone)
    if ending == "killed":
        shutil.copytree(directory, copy)
    await store.close()
    if ending == "stopped":
        shutil.copytree(directory, copy)


@pytest.mark.parametrize(("ending", "seeds"), [("stopped", 10), ("killed", 40)])
def test_a_rotten_index_is_made_again_or_costs_what_a_check_finds(
    tmp_path: Path, ending: str, seeds: int
) -> None:
    asyncio.run(filled(tmp_path / "a", tmp_path / "b", ending))
    command = [sys.executable, str(HELPER), str(tmp_path / "b"), str(tmp_path), "0", str(seeds)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == seeds
    unhurt = 0
    for seed, ends in lines:
        assert isinstance(ends[-1], int), (seed, ends)
        assert len(ends) < STARTS, (seed, ends)
        unhurt += ends[-1] == COUNT
        if ending == "stopped":  # every flipped bit is seen before the index is used
            assert ends == [COUNT], (seed, ends)
    assert unhurt > seeds * 0.8
