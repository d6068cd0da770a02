"""A miner as a node: its service, registration, sweep and scrub. All it needs is given."""

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

from chain.clock import Clock
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.net.rpc import AddressError
from chain.net.transport import Peer, RemoteError, Transport, Unreachable
from miner.access import Access
from miner.config import MinerConfig
from miner.scrub import Scrubber, ScrubSettings
from miner.scrub_state import ScrubMemory, ScrubRecord
from miner.service import MinerService
from miner.store.interface import FragmentStore
from miner.sweep import Sweeper

log = logging.getLogger(__name__)

_RETRY_FIRST, _RETRY_MAX = 0.5, 30.0
_LOOK_SECONDS = 1.0


class DirectoryGone(Exception):
    """Somebody removed or replaced the directory of a running miner."""


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
        access: Access | None = None,
        in_place: Callable[[], bool] | None = None,
        scrub: ScrubRecord | None = None,
    ) -> None:
        """Without an `access` only callers on this machine are served.

        `in_place` says whether the store's directory is still the one that was opened (None: it
        has none); `scrub` keeps where the scrub is (None: in memory).
        """
        self._config = config
        self._transport = transport
        self._clock = clock
        self._store = store
        self._identity = identity
        self._registrar = registrar
        self._access = access or Access(config.allowed)
        self._in_place = in_place
        self._scrub_record = scrub or ScrubMemory()
        self._scrub_state = self._scrub_record.load()
        self._owners: dict[AccountId | None, Peer] = {}
        self.address = ""

    async def _stay(self, in_place: Callable[[], bool]) -> None:
        """Give up when the directory goes: what is stored in removed files is lost on exit, and a
        miner that begins anew is one that can be repaired to. Raises DirectoryGone.
        """
        while in_place():
            await self._clock.sleep(_LOOK_SECONDS)
        raise DirectoryGone(f"{self._config.data_dir} was removed under this miner")

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve. `ready` is set when the address is served."""
        service = MinerService(self._store, self._identity, self._access, self._scrub_state)
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
                tasks: list[asyncio.Task[None]] = []
                if self._in_place is not None:
                    tasks.append(group.create_task(self._stay(self._in_place)))
                if self._registrar is not None:
                    tasks.append(group.create_task(self._register(self._registrar)))
                if self._access.members is not None:
                    tasks.append(group.create_task(self._access.members.run()))
                if self._config.owner or self._access.members is not None:
                    tasks.append(group.create_task(self._sweep()))
                if self._config.scrub_rate:
                    tasks.append(group.create_task(self._scrubber(service).run()))
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

    def _scrubber(self, service: MinerService) -> Scrubber:
        return Scrubber(
            self._store,
            self._owner,
            self._identity.id,
            self._clock,
            settings=ScrubSettings(self._config.scrub_rate, self._config.scrub_cycle),
            record=self._scrub_record,
            state=self._scrub_state,
            busy=lambda: service.active > 0,
        )

    async def _sweep(self) -> None:
        sweeper = Sweeper(
            self._store, self._owner, self._identity.id, self._clock, self._config.staged_for
        )
        while True:
            await self._clock.sleep(self._config.sweep_every)
            try:
                deleted = await sweeper.sweep()
            finally:
                for peer in self._owners.values():
                    peer.close()
                self._owners.clear()
            if deleted:
                log.info("%d staged fragments belonged to nothing and were deleted", deleted)

    def _owner(self, account: AccountId | None) -> Peer | None:
        """Who answers for fragments that `account` stored: see miner/sweep.py."""
        if account not in self._owners:
            address = self._config.owner
            if account is not None:
                address = self._access.gateway_address(account) or ""
            # An ipc path that a stranger registers would be a socket of our own machine.
            if not address or (account is not None and address.startswith("ipc://")):
                return None
            try:
                self._owners[account] = self._transport.connect(address, account)
            except AddressError as error:
                log.warning("gateway at %s: %s", address, error)
                return None
        return self._owners[account]
