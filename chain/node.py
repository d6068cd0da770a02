"""The ledger node: genesis at the first start, then the driver and its service until told to stop.

DATA/chain/genesis.json   FORMAT  LOCK  keys/validator.key   ledger/ (LMDB)
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chain.application import Application
from chain.clock import Clock, Entropy
from chain.config import ChainConfig
from chain.consensus.embedded import EmbeddedDriver
from chain.errors import LedgerError
from chain.format import lock_directory, open_store, write_durably
from chain.genesis import Genesis, parse, single_operator
from chain.keys.identity import Identity
from chain.keys.keystore import Keystore, KeystoreError
from chain.ledger.lmdb_store import (
    LmdbStore,
    add_checksums,
    finish_replacement,
    forget_version_1,
)
from chain.ledger.store import LedgerDamaged, LedgerStore
from chain.net.transport import Transport
from chain.process import NodeError
from chain.service import LedgerService

log = logging.getLogger(__name__)

KIND, FORMAT = "ledger", 2
UPGRADES = {1: add_checksums}
VALIDATOR = "validator"
MakeTransport = Callable[[Identity], Transport]


class ChainNode:
    """One validator that serves its ledger. Time, chance, network and store are arguments."""

    def __init__(
        self,
        config: ChainConfig,
        transport: Transport,
        clock: Clock,
        store: LedgerStore,
        genesis: Genesis,
        validator: Identity,
    ) -> None:
        """Raises LedgerError when the store and the genesis do not belong together."""
        if validator.id not in genesis.validator_ids():
            raise LedgerError("this node's validator key is not in the genesis")
        self._config = config
        self._transport = transport
        application = Application(store, genesis)
        self.driver = EmbeddedDriver(
            application,
            store,
            validator,
            clock,
            block_seconds=config.block_seconds,
            watch_seconds=config.watch_seconds,
        )
        self.service = LedgerService(self.driver, store)
        self.identity = validator.id
        self.address = ""  # where it listens, once it does
        self._damaged = asyncio.Event()
        self._damage: LedgerDamaged | None = None

    def note_damage(self, error: LedgerDamaged) -> None:
        """Stored bytes did not check: `run` ends, before more is built upon them."""
        self._damage = error
        self._damaged.set()

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve until `stop`; a transaction that waits then may be sent again.

        Raises LedgerDamaged as soon as somebody reads what does not check.
        """
        server = await self._transport.serve(self._config.listen, self.service.handlers())
        self.address = server.address
        if ready is not None:
            ready.set()
        log.info("height %d at %s", self.driver.application.info().height, server.address)
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self.driver.run())
                ends = [group.create_task(end.wait()) for end in (stop, self._damaged)]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in (work, *ends):
                    task.cancel()
            if self._damage is not None:
                raise self._damage
        finally:
            await server.close()
            await self._transport.close()


@contextmanager
def opened(
    config: ChainConfig, transport: MakeTransport, clock: Clock, entropy: Entropy
) -> Iterator[ChainNode]:
    """A node on its data directory, which is locked meanwhile.

    Raises NodeError, StoreError (a lock, a newer format).
    """
    directory = config.directory
    with lock_directory(directory):
        try:
            # the ledger's own store; the genesis and keys beside it are files for people
            ledger = directory / "ledger"
            open_store(ledger, KIND, FORMAT, UPGRADES)
            forget_version_1(ledger)
            finish_replacement(ledger)  # of a repair
            validator = Keystore(directory / "keys").identity(VALIDATOR, entropy)
            genesis = load_genesis(config, clock, entropy, validator)
            store = LmdbStore(ledger / "lmdb")
        except (KeystoreError, LedgerError) as error:
            raise NodeError(str(error)) from None
        except OSError as error:
            raise NodeError(f"{error.filename or directory}: {error.strerror}") from None
        try:
            try:
                node = ChainNode(config, transport(validator), clock, store, genesis, validator)
            except LedgerError as error:
                raise NodeError(str(error)) from None
            store.on_damage = node.note_damage
            yield node
        finally:
            store.close()


def load_genesis(
    config: ChainConfig, clock: Clock, entropy: Entropy, validator: Identity
) -> Genesis:
    """The genesis file; written at the first start. Raises InvalidGenesis, NodeError."""
    path = config.genesis_file
    if path.exists():
        return parse(path.read_bytes())
    if (config.directory / "ledger" / "lmdb").exists():
        raise NodeError(f"{path} is gone, but there is a ledger: put the file back")
    genesis = single_operator(
        chain_id=f"cumulus-{entropy(4).hex()}",
        time_ns=clock.now_ns(),
        validator=validator.id,
        operator=config.operator or validator.id,
        epoch_seconds=config.epoch_seconds,
    )
    write_durably(path, genesis.to_json())
    return genesis
