"""A damaged ledger: never wrong answers, one clear line, and made again from its blocks."""

import asyncio
import io
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import lmdb
import pytest

from chain.application import Application
from chain.clock import SystemClock
from chain.ledger.lmdb_store import LmdbStore
from chain.ledger.store import SPACES, LedgerDamaged
from gateway.logs import Journal
from gateway.supervisor import Command, Supervisor
from tests.fault.flips import flip
from tests.fault.forked import Forks
from tests.fault.ledger_process import GENESIS
from tests.fault.ledger_tools import BLOCKS, add_blocks, everything, lmdb_of, make_ledger

ROOT = Path(__file__).parents[2]
PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole")
    make_ledger(directory)
    return directory


def rows_of(directory: Path) -> dict[str, str]:
    store = LmdbStore(lmdb_of(directory))
    try:
        return everything(store)
    finally:
        store.close()


def test_flipped_bits_are_told_and_never_served_and_repaired_unless_in_a_block(
    whole: Path, tmp_path: Path
) -> None:
    wanted = rows_of(whole)
    ends: Counter[str] = Counter()
    reading, repairing = (
        Forks("tests.fault.flips:read_ledger"),
        Forks("tests.fault.flips:repair_ledger"),
    )
    with reading as read, repairing as repair:
        for seed in range(80):
            directory = tmp_path / f"{seed}"
            shutil.copytree(whole, directory)
            flip(lmdb_of(directory) / "data.mdb", Random(seed))
            code, (end, found) = read(str(directory))
            assert code == 0, seed
            if end == "read":
                assert found == wanted, seed
            else:
                assert "damaged" in found
                assert f"repair --data-dir {directory}, or restore a copy" in found
                code, (end, found) = repair(str(directory))
                assert code == 0, seed
                assert found == wanted if end == "read" else "restore a copy" in found, seed
                end = "repaired" if end == "read" else "beyond repair"
            ends[end] += 1
            shutil.rmtree(directory)
    assert min(ends["read"], ends["repaired"], ends["beyond repair"]) > 5, ends


def spoil(directory: Path, space: str, place: int) -> None:
    """Change a row, its pages whole."""
    environment = lmdb.open(str(lmdb_of(directory)), max_dbs=8, map_size=1 << 30)
    database = environment.open_db(space.encode())
    with environment.begin(write=True) as transaction:
        key, value = list(transaction.cursor(db=database))[place]
        transaction.put(key, bytes([value[0] ^ 1]) + value[1:], db=database)
    environment.close()


@pytest.mark.parametrize("space", SPACES)
def test_a_changed_row_of_any_space_is_found_and_repaired(
    whole: Path, tmp_path: Path, space: str
) -> None:
    wanted = rows_of(whole)
    shutil.copytree(whole, tmp_path / "ledger")
    spoil(tmp_path / "ledger", space, 0)
    with pytest.raises(LedgerDamaged, match=f"of {space} has not its checksum"):
        rows_of(tmp_path / "ledger")
    with Forks("tests.fault.flips:repair_ledger") as repair:
        code, (end, found) = repair(str(tmp_path / "ledger"))
    assert code == 0
    if space == "blocks":
        assert "restore a copy" in found
    else:
        assert (end, found) == ("read", wanted)
        assert (lmdb_of(tmp_path / "ledger").parent / "lmdb.damaged").exists()


async def test_a_ledger_that_refuses_its_data_ends_the_network_with_its_line(
    whole: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "ledger"
    shutil.copytree(whole, directory)
    spoil(directory, "meta", 2)
    words = ("chain", "--data-dir", str(directory), "--listen", f"ipc://{tmp_path}/c.ipc")
    command = Command("chain", (sys.executable, "-m", *words), 0)
    clock = SystemClock()
    journal = Journal(tmp_path / "supervisor.log", io.StringIO(), clock)
    supervisor = Supervisor([command], tmp_path / "logs", clock, journal)
    async with asyncio.timeout(60):
        await supervisor.run()
    assert supervisor.refused.startswith(f"chain: the ledger in {lmdb_of(directory)} is damaged")
    assert f"run cumulus chain repair --data-dir {directory}" in supervisor.refused
    assert "Traceback" not in (tmp_path / "logs" / "chain.log").read_text()


def test_the_repair_command_says_what_it_did(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "ledger")
    spoil(tmp_path / "ledger", "state", 0)
    words = ["chain", "repair", "--data-dir", str(tmp_path / "ledger")]
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", *words],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"made again up to height {BLOCKS}" in done.stdout


# ---------------------------------------------------------------- power losses inside a commit
def test_a_power_loss_inside_lmdbs_commit_leaves_the_block_before_or_the_block(
    whole: Path, tmp_path: Path
) -> None:
    """LMDB writes pages, syncs, then writes a head: before the sync any of the pages are there."""
    before = (lmdb_of(whole) / "data.mdb").read_bytes()
    shutil.copytree(whole, tmp_path / "after")
    store = LmdbStore(lmdb_of(tmp_path / "after"))
    add_blocks(store, 1)
    store.close()
    after = (lmdb_of(tmp_path / "after") / "data.mdb").read_bytes()
    long = before + bytes(len(after) - len(before))
    heads = range(0, 2 * PAGE, PAGE)
    changed = [at for at in range(0, len(after), PAGE) if long[at:][:PAGE] != after[at:][:PAGE]]
    pages = [at for at in changed if at not in heads]
    assert len(pages) > 10
    assert len(changed) == len(pages) + 1
    for seed in range(20):
        chance = Random(seed)
        raw = bytearray(long)
        for at in chance.sample(pages, chance.randrange(len(pages))):
            torn = chance.choice([PAGE, PAGE, 512])
            raw[at : at + torn] = after[at : at + torn]
        directory = tmp_path / f"{seed}"
        lmdb_of(directory).mkdir(parents=True)
        (lmdb_of(directory) / "data.mdb").write_bytes(raw[: chance.choice([len(before), len(raw)])])
        if chance.random() < 0.3:  # all of it reached the disk, the head too
            (lmdb_of(directory) / "data.mdb").write_bytes(after)
        store = LmdbStore(lmdb_of(directory))
        height = Application(store, GENESIS).info().height
        assert height in (BLOCKS, BLOCKS + 1)
        if height == BLOCKS:
            assert everything(store) == rows_of(whole)
        store.close()
