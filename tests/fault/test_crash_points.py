"""kill -9 around every write, fsync and commit of catalog, outbox and ledger.

The points are those that a whole run passes (tests/fault/crash_points.py). At each of them a run is
killed; then what it left is looked at, and another run goes on from it to the end.
"""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chain.application import Application
from chain.genesis import parse
from chain.ids import AccountId
from chain.ledger import records
from chain.ledger.block import app_hash, open_header, parse_block
from chain.ledger.execution import OPERATOR_LEASE
from chain.ledger.lmdb_store import LmdbStore
from chain.ledger.state import State
from gateway.catalog.bodies import LogReader, Snapshot
from gateway.catalog.disk import boot_id
from gateway.catalog.interface import Space
from gateway.catalog.store import CatalogStore
from tests.fault.crash_points import PointDisk, Points
from tests.fault.crash_process import GATEWAY, GOAL, KEPT, SETTINGS, key_of, size_of
from tests.fault.forked import Forks

ROOT = Path(__file__).parents[2]

ALL_BYTES = sum(size_of(number) for number in range(1, GOAL + 1))

Rows = dict[Space, list[tuple[bytes, bytes]]]


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks("tests.fault.crash_process:run") as running:
        yield running


@pytest.fixture(scope="module")
def points(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """Where to kill: everything that one whole run passes."""
    code, passes = forks("", 0, str(tmp_path_factory.mktemp("whole")))
    assert code == 0
    # The first pass and the last one; of a name that is passed often one between too.
    between = {name: passed // 2 if passed > 6 else 1 for name, passed in passes.items()}
    return [(name, at) for name, n in passes.items() for at in sorted({1, between[name], n})]


def opened(directory: Path, boot: str) -> Rows:
    """All rows, the bodies among them; `directory` is left as a crash leaves it."""
    disk = PointDisk(Points())
    store = CatalogStore.open(directory, disk=disk, settings=SETTINGS, boot=lambda: boot)
    log = LogReader(store.log.directory)
    try:
        with Snapshot(store.index, log) as snapshot:
            return {space: snapshot.scan(space, b"\x00", None, 10_000) for space in Space}
    finally:
        log.close()
        store.abandon()


def catalog_left(directory: Path, scratch: Path) -> Rows:
    """The catalog as the index says, and made again from checkpoint and log: the same."""
    boot = (directory / "index-state").read_text().split()[1]
    found = []
    for name, booted in (("killed", boot), ("power", "another boot")):
        shutil.copytree(directory, scratch / name)
        found.append(opened(scratch / name, booted))
    assert found[0] == found[1]
    return found[0]


def ledger_left(directory: Path) -> tuple[int, int]:
    """Its batches and the bytes they count, of a ledger that agrees with itself."""
    genesis = parse((directory / "genesis.json").read_bytes())
    store = LmdbStore(directory / "ledger" / "lmdb")
    try:
        application = Application(store, genesis)
        if application.is_new:
            return 0, 0
        with store.read() as view:
            blocks = [parse_block(raw) for _, raw in view.scan("blocks", b"", None)]
            root = State(view).changes()[0]
        hash_of_all = app_hash(root, genesis.parameters.digest())
        previous = genesis.digest()
        for height, block in enumerate(blocks, 1):
            header = open_header(block.signed, genesis.chain_id, genesis.validator_ids())
            assert (header.height, header.previous) == (height, previous)
            previous = header.hash()
        info = application.info()
        assert info.height == len(blocks)
        assert info.app_hash == hash_of_all
        assert not blocks or header.app_hash == info.app_hash
        gateway = application.get(records.GATEWAYS, AccountId(GATEWAY.id))
        lease = application.get(records.LEASES, OPERATOR_LEASE)
        return (gateway.batches - 1 if gateway else 0), (lease.used if lease else 0)
    finally:
        store.close()


def check_left(directory: Path, scratch: Path) -> None:
    """What was acknowledged is there; nothing is there half, nothing is counted twice."""
    told = directory / "acknowledged"
    lines = told.read_text().splitlines() if told.exists() else []
    promised = max([int(line[7:]) for line in lines if line.startswith("commit")], default=0)
    if not (directory / "chain" / "genesis.json").exists():
        assert not lines
        return
    batches, counted = 0, 0
    if (directory / "chain" / "ledger" / "lmdb").exists():
        batches, counted = ledger_left(directory / "chain")
    if not (directory / "catalog" / "index-state").exists():
        assert not lines
        return
    rows = catalog_left(directory / "catalog", scratch)
    commits = [int.from_bytes(key, "big") for key, _ in rows[Space.LIVE]]
    assert commits == list(range(1, len(commits) + 1))
    assert promised <= len(commits) <= promised + 1
    kept = range(max(1, len(commits) - KEPT + 1), len(commits) + 1)
    assert rows[Space.BODIES] == [(key_of(n), key_of(n) * 60) for n in kept]
    meta = dict(rows[Space.META])
    number = int.from_bytes(meta.get(b"outbox/number", b""), "big")
    pending = b"outbox/pending" in meta
    assert batches in ((number - 1, number) if pending else (number,))
    assert [key for key, _ in rows[Space.BATCHES]] == [key_of(n) for n in range(1, number + 1)]
    waiting = [int.from_bytes(key, "big") for key, _ in rows[Space.OUTBOX]]
    taken = sorted(set(commits) - set(waiting))
    assert taken == commits[: len(taken)]
    sizes = sum(map(size_of, taken))
    assert counted == sizes or (pending and batches == number - 1 and counted < sizes)
    assert lines.count("sent") <= number - pending


def test_a_kill_at_any_point_loses_nothing_and_the_ledger_counts_every_byte_once(
    forks: Forks, points: list[tuple[str, int]], tmp_path: Path
) -> None:
    assert len(points) > 90
    for place, (name, occurrence) in enumerate(points):
        directory, scratch = tmp_path / f"{place}", tmp_path / f"{place}-copies"
        directory.mkdir()
        assert forks(name, occurrence, str(directory))[0] == -signal.SIGKILL
        try:
            check_left(directory, scratch)
            assert forks("", 0, str(directory))[0] == 0
            assert ledger_left(directory / "chain")[1] == ALL_BYTES
            rows = opened(directory / "catalog", boot_id())
            assert [key for key, _ in rows[Space.LIVE]] == [key_of(n + 1) for n in range(GOAL)]
            assert rows[Space.OUTBOX] == []
        except Exception as error:
            error.add_note(f"killed at pass {occurrence} of {name!r}; see {directory}")
            raise
        shutil.rmtree(directory)
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.mark.parametrize("part", ["catalog", "chain"])
def test_every_fsync_of_the_program_is_one_that_the_kills_reach(part: str) -> None:
    """Whoever syncs on another way than Disk and os.fsync would be killed nowhere."""
    folder = ROOT / ("gateway/catalog" if part == "catalog" else "chain")
    allowed: dict[str, Any] = {
        "catalog": {"disk.py"},
        # Sockets' names, and memory that processes share: nothing that is to last.
        "chain": {"format.py", "keystore.py", "greeting.py", "shared.py"},
    }
    calls = ("os.fsync", "os.fdatasync", "os.ftruncate", "os.pwrite", ".unlink(", "os.replace")
    found = {
        path.name
        for path in folder.rglob("*.py")
        if any(call in path.read_text() for call in calls) and path.name not in allowed[part]
    }
    assert found <= {"cli.py"}, found
