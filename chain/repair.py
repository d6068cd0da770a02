"""A damaged ledger made again from its blocks, which sign for themselves.

State, tree, results and indices follow from genesis and blocks; each block's app hash says whether
they came out as they were. So only damage inside the blocks is beyond repair.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import lmdb

from chain.application import Application
from chain.consensus.embedded import block_rows
from chain.errors import InvalidBlock, LedgerError
from chain.format import lock_directory, read_format, sync_directory, write_format
from chain.genesis import Genesis, parse
from chain.ledger.block import Block, open_header, parse_block, results_bytes, transactions_root
from chain.ledger.lmdb_store import SUM_BYTES, LmdbStore, finish_replacement, problems_of
from chain.ledger.records import u64
from chain.node import FORMAT, KIND
from chain.process import NodeError
from chain.proofs import merkle

# Parts of the file that a reader of the blocks passes do not begin with these.
_ASIDE = tuple(f"main/{name} " for name in ("state", "nodes", "results", "transactions", "meta"))


def repair(directory: Path) -> int:
    """Replay the blocks of DATA/chain into a new store in the old one's place; the height.

    The damaged files stay beside it as `lmdb.damaged`. Bids' terms that were entrusted to this node
    are lost: their owners reveal them. Raises NodeError, StoreError (a node runs there).
    """
    ledger = directory / "ledger"
    old, new, kept = (ledger / name for name in ("lmdb", "lmdb.new", "lmdb.damaged"))
    with lock_directory(directory):
        try:
            genesis = parse((directory / "genesis.json").read_bytes())
            shutil.rmtree(new, ignore_errors=True)
            height = _replay(_blocks(old, read_format(ledger, KIND) or FORMAT), new, genesis)
            shutil.rmtree(kept, ignore_errors=True)
            write_format(ledger, KIND, FORMAT)
            old.rename(kept)
            sync_directory(ledger)
            finish_replacement(ledger)
        except OSError as error:
            raise NodeError(f"{error.filename or ledger}: {error.strerror}") from None
        except (LedgerError, lmdb.Error) as error:
            raise NodeError(f"{old} cannot be repaired ({error}): restore a copy") from None
    return height


def _blocks(directory: Path, version: int) -> Iterator[Block]:
    """The blocks in order. Raises InvalidBlock, lmdb.Error."""
    for problem in problems_of(directory):
        if not problem.startswith(_ASIDE):
            raise InvalidBlock(problem)
    environment = lmdb.open(
        str(directory), readonly=True, lock=False, create=False, max_dbs=8, map_size=1 << 38
    )
    try:
        database = environment.open_db(b"blocks", create=False)
        with environment.begin(db=database) as transaction:
            for height in range(1, transaction.stat(database)["entries"] + 1):
                raw = transaction.get(u64(height))
                if raw is None:
                    raise InvalidBlock(f"block {height} is missing")
                yield parse_block(raw[:-SUM_BYTES] if version > 1 else raw)
    finally:
        environment.close()


def _replay(blocks: Iterator[Block], directory: Path, genesis: Genesis) -> int:
    """Execute the blocks into a new store; how many. Raises LedgerError."""
    store = LmdbStore(directory, sync=False)
    try:
        application = Application(store, genesis)
        application.init_chain()
        previous, height = genesis.digest(), 0
        for height, block in enumerate(blocks, 1):
            previous = _execute(application, block, height, previous)
        store.sync()
    finally:
        store.close()
    return height


def _execute(application: Application, block: Block, height: int, previous: bytes) -> bytes:
    """One block, which must come out as it says; its hash."""
    genesis = application.genesis
    header = open_header(block.signed, genesis.chain_id, genesis.validator_ids())
    if (header.height, header.previous) != (height, previous):
        raise InvalidBlock(f"block {height} does not follow from the one before")
    if transactions_root(block.transactions) != header.transactions:
        raise InvalidBlock(f"block {height} has other transactions than it says")
    outcome = application.finalize_block(height, header.time_ns, previous, block.transactions)
    leaves = results_bytes(outcome.results, outcome.events)
    results = merkle.root([merkle.leaf_hash(leaf) for leaf in leaves])
    if (outcome.app_hash, results) != (header.app_hash, header.results):
        raise InvalidBlock(f"block {height} came out differently: another version executed it")
    application.commit(block_rows(height, block, leaves))
    return header.hash()
