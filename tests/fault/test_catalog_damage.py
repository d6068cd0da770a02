"""Flipped bits in the catalog's files: the index is made again, a damaged log is told."""

import asyncio
import shutil
import struct
from collections import Counter
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import lmdb
import pytest

from chain.clock import SystemClock
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.process import NodeError
from gateway.catalog.client import CatalogClient
from gateway.catalog.index import Index, Rows
from gateway.catalog.interface import CatalogFull, CatalogUnavailable, Space
from gateway.catalog.local import LocalCatalog
from gateway.catalog.log import LogFailed, file_numbers, file_path
from gateway.catalog.protocol import IndexDamaged
from gateway.catalog.service import WriterStopped, run_catalog
from gateway.catalog.store import CatalogStore
from gateway.cli import main
from gateway.nodes.catalog import _opened
from gateway.transaction import unavailable
from tests.fault.catalog_tools import SMALL, FailingDisk, open_store, put, row
from tests.fault.flips import flip
from tests.fault.forked import Forks

KEYS = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several log files, a checkpoint in the middle, ended in order."""
    directory = tmp_path_factory.mktemp("whole") / "catalog"
    store = open_store(directory)
    for number in range(KEYS):
        key = b"%03d" % number
        store.commit([put(Space.LIVE, key, key * 20), put(Space.BODIES, key, key * 70)])
        if number == KEYS // 2:
            store.checkpoint()
    store.close()
    return directory


def files_of(directory: Path, kind: str) -> list[Path]:
    return sorted((directory / kind).iterdir())


@pytest.mark.parametrize("kinds", [("index",), ("checkpoint",), ("index", "checkpoint"), ("log",)])
def test_flipped_bits_cost_a_rebuild_or_are_told_and_wrong_rows_are_never_read(
    whole: Path, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    ends: Counter[str] = Counter()
    with Forks("tests.fault.flips:read_catalog") as read:
        shutil.copytree(whole, tmp_path / "whole")
        wanted = read(str(tmp_path / "whole"))[1]
        assert wanted[0] == "read"
        for seed in range(30):
            directory, chance = tmp_path / f"{seed}", Random(seed)
            shutil.copytree(whole, directory)
            for kind in kinds:
                files = [path for path in files_of(directory, kind) if path.name != "lock.mdb"]
                flip(chance.choice(files), chance)
            code, found = read(str(directory))
            assert code == 0, seed
            assert found == wanted or (kinds == ("log",) and found[0] == "damaged"), seed
            ends[found[0]] += 1
            shutil.rmtree(directory)
    assert ends["damaged"] > 10 if kinds == ("log",) else ends["read"] == 30


def test_an_index_that_ends_the_process_is_made_again_at_the_third_start(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([put(Space.LIVE, b"a", b"1")])
    names = []
    for _ in range(3):
        names.append(store.index.identifier)
        store.abandon()  # as a process that a damaged page ends
        store = open_store(tmp_path)
    names.append(store.index.identifier)
    assert names[0] == names[1] == names[2] != names[3]
    store.settle()  # and one that works for a while is trusted
    name = store.index.identifier
    store.abandon()
    store = open_store(tmp_path)
    assert store.index.identifier == name
    store.close()


def test_damage_that_lmdb_finds_while_it_works_has_the_index_made_again(tmp_path: Path) -> None:
    class Damaged(FailingDisk):
        damaged = False

        def commit(self, transaction: Any) -> None:
            if self.damaged:
                raise lmdb.CorruptedError("mdb_page_search")
            super().commit(transaction)

    disk = Damaged()
    store = open_store(tmp_path, disk)
    name, disk.damaged = store.index.identifier, True
    with pytest.raises(LogFailed, match="will be made again"):
        store.commit([put(Space.LIVE, b"a", b"1")])
    assert store.failed is not None
    store.abandon()
    store = open_store(tmp_path)
    assert store.index.identifier != name
    store.close()


@pytest.mark.parametrize("own", [True, False], ids=["catalog process", "worker"])
@pytest.mark.parametrize(
    "error", [lmdb.CorruptedError("mdb_page_search"), struct.error("no place")], ids=type
)
async def test_damage_that_a_reader_meets_has_the_index_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, own: bool
) -> None:
    catalog = LocalCatalog.open(tmp_path, boot=lambda: "boot", settings=SMALL)
    transport = MemoryTransport(MemoryNetwork())
    client = CatalogClient(
        tmp_path, transport.connect("memory://catalog"), index=catalog.store.index
    )
    name = catalog.store.index.identifier

    def broken(*_: object, **__: object) -> None:
        raise error

    async def serve_and_read() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(
                run_catalog(catalog, transport, "memory://catalog", SystemClock(), asyncio.Event())
            )
            await asyncio.sleep(0)
            await client.commit(put(Space.LIVE, b"a", b"1"))
            old = transport.connect("memory://catalog")
            await old.ask(IndexDamaged(b"an index that was replaced", ""), timeout=5)
            assert not catalog.writer.failed.is_set()
            old.close()
            with monkeypatch.context() as patch:
                broken_rows = SimpleNamespace(get=broken, cursor=broken, abort=lambda: None)
                patch.setattr(Index, "begin", lambda index: Rows(index, broken_rows))
                with (catalog if own else client).read() as reader:
                    for _ in range(3):
                        with pytest.raises(CatalogUnavailable, match="made again"):
                            reader.get(Space.LIVE, b"a")
                        with pytest.raises(CatalogUnavailable, match="made again"):
                            reader.scan(Space.LIVE, b"a", None, 1)
            await asyncio.wait_for(catalog.writer.failed.wait(), 5)

    with pytest.raises(ExceptionGroup) as caught:
        await serve_and_read()
    assert caught.group_contains(WriterStopped, match="will be made again")
    catalog.store.settle()  # a job that was waiting meanwhile
    await catalog.close()
    await client.close()
    assert (tmp_path / "index-state").read_text() == "damaged\n"
    store = open_store(tmp_path)
    assert store.index.identifier != name
    assert row(store, Space.LIVE, b"a") == b"1"
    store.close()


def test_a_damaged_log_is_one_line_that_names_the_command_which_goes_on(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "catalog"
    shutil.copytree(whole, directory)
    shutil.rmtree(directory / "checkpoint")
    (directory / "index-state").unlink()  # as on another machine: the log alone counts
    path = file_path(directory / "log", file_numbers(directory / "log")[2])
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(raw)
    with pytest.raises(NodeError, match="are lost") as refused:
        _opened(tmp_path)
    assert f"cumulus catalog salvage --data-dir {tmp_path}" in str(refused.value)
    assert main(["catalog", "salvage", "--data-dir", str(tmp_path)]) == 0
    assert f"goes on behind commit {2 * KEYS}" in capsys.readouterr().out
    for boot in ("boot", "another"):
        store = CatalogStore.open(directory, boot=lambda: boot, settings=SMALL)  # noqa: B023
        assert store.position.sequence == 2 * KEYS
        store.abandon()


def test_a_full_disk_is_a_sentence_for_the_user(tmp_path: Path) -> None:
    disk = FailingDisk()
    store = open_store(tmp_path, disk)
    disk.room = 0
    with pytest.raises(CatalogFull) as full:
        store.commit([put(Space.LIVE, b"a", b"1")])
    told = unavailable(full.value)
    assert (int(told.status), told.code) == (503, "ServiceUnavailable")
    assert "No space is left" in told.text
    store.abandon()
