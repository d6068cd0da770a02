"""kill -9 at any moment: the ledger stands at a whole block and replays to the same app hash."""

import os
import random
import subprocess
import sys
from pathlib import Path

from chain.application import Application
from chain.ledger.block import open_header, parse_block
from chain.ledger.lmdb_store import LmdbStore
from chain.ledger.store import MemoryStore
from tests.fault.ledger_process import GENESIS


def test_killed_ledger_keeps_every_announced_block_and_its_app_hash(tmp_path: Path) -> None:
    program = Path(__file__).with_name("ledger_process.py")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    random_lines = random.Random(11)
    announced = 0
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, str(program), str(tmp_path / "lmdb")],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            assert process.stdout is not None
            for _ in range(random_lines.randrange(1, 12)):
                announced = int(process.stdout.readline())
            process.kill()
            announced = max([announced, *map(int, process.stdout.read().split("\n")[:-1])])
    store = LmdbStore(tmp_path / "lmdb")
    try:
        survivor = Application(store, GENESIS).info()
        replayed = Application(MemoryStore(), GENESIS)
        replayed.init_chain()
        with store.read() as view:
            blocks = [parse_block(raw) for _, raw in view.scan("blocks", b"", None)]
    finally:
        store.close()
    assert announced > 8
    assert survivor.height >= announced
    assert len(blocks) == survivor.height
    previous = GENESIS.digest()
    for block in blocks:
        header = open_header(block.signed, GENESIS.chain_id, GENESIS.validator_ids())
        assert header.previous == previous
        outcome = replayed.finalize_block(
            header.height, header.time_ns, previous, block.transactions
        )
        assert outcome.app_hash == header.app_hash
        replayed.commit({})
        previous = header.hash()
    assert replayed.info() == survivor
