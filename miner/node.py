"""A miner as a node: its service, its registration, its sweep. All it needs is given."""

import asyncio
import logging
from typing import NamedTuple, Protocol

from chain.clock import Clock
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.net.transport import RemoteError, Transport, Unreachable
from miner.config import MinerConfig
from miner.service import MinerService
from miner.store.interface import FragmentStore
from miner.sweep import Sweeper

log = logging.getLogger(__name__)

_RETRY_FIRST, _RETRY_MAX = 0.5, 30.0


class Registration(NamedTuple):
    """What a miner tells the ledger about itself."""

    miner: AccountId
    name: str
    address: str
    pledged: int


class Registrar(Protocol):
    """Who is told that a miner exists. Idempotent."""

    async def register(self, registration: Registration) -> None:
        """Raises RemoteError (refused), Unreachable (try again)."""
        ...


class MinerNode:
    """One miner. `run` serves until `stop` is set; the store is the caller's to close."""

    def __init__(
        self,
        config: MinerConfig,
        transport: Transport,
        clock: Clock,
        store: FragmentStore,
        identity: Identity,
        *,
        registrar: Registrar | None = None,
    ) -> None:
        self._config = config
        self._transport = transport
        self._clock = clock
        self._store = store
        self._identity = identity
        self._registrar = registrar
        self.address = ""

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve. `ready` is set when the address is served."""
        service = MinerService(self._store, self._identity, self._config.allowed)
        server = await self._transport.serve(self._config.listen, service.handlers())
        self.address = self._config.advertise or server.address
        space = self._store.space()
        log.info(
            "miner %s serves at %s: %d fragments, %d of %d bytes used",
            self._identity.id.hex(),
            server.address,
            space.fragments,
            space.used,
            space.pledged,
        )
        if ready is not None:
            ready.set()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = []
                if self._registrar is not None:
                    tasks.append(group.create_task(self._register(self._registrar)))
                if self._config.owner:
                    tasks.append(group.create_task(self._sweep()))
                await stop.wait()
                for task in tasks:
                    task.cancel()
        finally:
            await server.close()

    async def _register(self, registrar: Registrar) -> None:
        """Until the ledger knows us: it may start later than we do."""
        registration = Registration(
            self._identity.id, self._config.name, self.address, self._config.pledge
        )
        pause = _RETRY_FIRST
        while True:
            try:
                await registrar.register(registration)
            except (RemoteError, Unreachable) as error:
                log.warning("not registered yet: %s", error)
            else:
                log.info("registered %d pledged bytes", self._config.pledge)
                return
            await self._clock.sleep(pause)
            pause = min(_RETRY_MAX, pause * 2)

    async def _sweep(self) -> None:
        owner = self._transport.connect(self._config.owner)
        sweeper = Sweeper(
            self._store, owner, self._identity.id, self._clock, self._config.staged_for
        )
        try:
            while True:
                await self._clock.sleep(self._config.sweep_every)
                deleted = await sweeper.sweep()
                if deleted:
                    log.info("%d staged fragments belonged to nothing and were deleted", deleted)
        finally:
            owner.close()
