"""Flipped bits in LMDB files and logs, opened in forks (tests/fault/forked.py)."""

import logging
from pathlib import Path
from random import Random
from typing import Any

from chain.application import Application
from chain.ledger.lmdb_store import LmdbStore
from chain.ledger.store import LedgerDamaged
from chain.process import NodeError
from chain.repair import repair
from gateway.catalog.bodies import LogReader, Snapshot
from gateway.catalog.interface import CatalogDamaged, CatalogUnavailable, Space
from gateway.catalog.store import CatalogStore
from tests.fault.catalog_tools import SMALL
from tests.fault.ledger_process import GENESIS
from tests.fault.ledger_tools import everything, lmdb_of


def flip(file: Path, chance: Random) -> None:
    """Some bits of a file, one to eight of them, or a whole sector."""
    raw = bytearray(file.read_bytes())
    if chance.random() < 0.2:
        at = chance.randrange(-(-len(raw) // 512)) * 512
        size = min(512, len(raw) - at)
        raw[at : at + size] = chance.choice([bytes(size), chance.randbytes(size)])
    else:
        for _ in range(chance.choice([1, 1, 2, 8])):
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    file.write_bytes(raw)


def read_ledger(directory: str) -> list[Any]:
    """["read", rows], or ["damaged", the sentence] of a ledger as a node opens it."""
    try:
        store = LmdbStore(lmdb_of(Path(directory)))
        Application(store, GENESIS)
        return ["read", everything(store)]
    except LedgerDamaged as error:
        return ["damaged", str(error)]


def repair_ledger(directory: str) -> list[Any]:
    """As `read_ledger` after a repair, or ["refused", the sentence]."""
    logging.disable()
    try:
        repair(Path(directory) / "chain")
    except NodeError as error:
        return ["refused", str(error)]
    return read_ledger(directory)


def read_catalog(directory: str) -> list[Any]:
    """["read", rows], or ["damaged", the sentence] of a catalog as its process reads it."""
    logging.disable()
    try:
        store = CatalogStore.open(Path(directory), settings=SMALL, boot=lambda: "boot")
        rows = all_rows(store)
        store.close()
    except (CatalogDamaged, CatalogUnavailable) as error:
        return ["damaged", str(error)]
    return ["read", rows]


def all_rows(store: CatalogStore) -> dict[str, str]:
    """Every row, bodies among them, as text."""
    log = LogReader(store.log.directory)
    try:
        with Snapshot(store.index, log) as reader:
            return {
                f"{space}/{key.hex()}": value.hex()
                for space in Space
                for key, value in reader.scan(space, b"\x00", None, 100_000)
            }
    finally:
        log.close()
