"""A ledger on disk with a few blocks, and all that it says."""

from pathlib import Path

from chain.application import Application
from chain.consensus.embedded import EmbeddedDriver
from chain.format import open_store
from chain.keys.keystore import Keystore
from chain.ledger.lmdb_store import LmdbStore
from chain.ledger.store import SPACES
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.envelope import sign
from chain.node import FORMAT, KIND
from tests.fault.ledger_process import GENESIS, OPERATOR, VALIDATOR, Stepping

BLOCKS, TRANSFERS = 8, 12


def lmdb_of(directory: Path) -> Path:
    return directory / "chain" / "ledger" / "lmdb"


def make_ledger(directory: Path) -> None:
    """DIRECTORY/chain as a node leaves it."""
    (directory / "chain").mkdir(parents=True)
    (directory / "chain" / "genesis.json").write_bytes(GENESIS.to_json())
    Keystore(directory / "chain" / "keys").create("validator", b"v" * 32)
    open_store(directory / "chain" / "ledger", KIND, FORMAT, {})
    store = LmdbStore(lmdb_of(directory), sync=False)
    add_blocks(store, BLOCKS)
    store.sync()
    store.close()


def add_blocks(store: LmdbStore, count: int) -> EmbeddedDriver:
    clock = Stepping()
    driver = EmbeddedDriver(Application(store, GENESIS), store, VALIDATOR, clock)
    if driver.last is not None:
        clock.now = driver.last.time_ns
    for _ in range(count):
        nonce = driver.application.next_nonce(OPERATOR.id)
        for at in range(nonce, nonce + TRANSFERS):
            body = Transfer(to=at.to_bytes(32, "big"), amount=1)
            driver.accept(sign(OPERATOR, body, chain="killed", nonce=at, fee=0, expiry=10**9))
        driver.make_block()
    return driver


def everything(store: LmdbStore) -> dict[str, str]:
    """Every row of every space, as text."""
    with store.read() as view:
        return {
            f"{space}/{key.hex()}": value.hex()
            for space in SPACES
            for key, value in view.scan(space, b"", None)
        }
