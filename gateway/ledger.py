"""The catalog process's side of the ledger: registration, the network's lease, the miners.

`NetworkWatch` keeps three things true while it runs: this gateway is registered and authorised,
as much of the owner's lease as there is stands reserved (so no acknowledged PUT can be refused by
the ledger later), and the catalog knows the miners and their free space (gateway/view.py).
"""

import asyncio
import logging

from chain.client import LedgerClient, MinerRecord, TransactionFailed
from chain.clock import Clock
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.ledger.transactions.leases import AuthoriseGateway, ReserveLease
from chain.ledger.transactions.miners import DeclareLost
from chain.ledger.transactions.nodes import RegisterGateway
from chain.net.transport import RemoteError, Unreachable
from gateway.catalog.interface import Batch, Catalog, CatalogUnavailable
from gateway.outbox import Outbox
from gateway.store import Lease
from gateway.view import CatalogMiners, miners_row, network_lease_row
from miner.client import MinerPeers
from miner.placement import MinerInfo
from miner.protocol import SpaceReport

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
# Free space moves with every PUT; the row is written again when it moved by this share.
_FREE_STEP = 64
_SPACE_SECONDS = 2.0
_TRANSIENT = (RemoteError, Unreachable, TransactionFailed, CatalogUnavailable)


class NetworkWatch:
    """One per catalog process."""

    def __init__(
        self,
        catalog: Catalog,
        ledger: LedgerClient,
        peers: MinerPeers,
        clock: Clock,
        *,
        operator: Identity,
        gateway: Identity,
        address: str,
    ) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._peers = peers
        self._clock = clock
        self._operator = operator
        self._gateway = gateway
        self._address = address
        self._known = CatalogMiners(catalog)
        self._registered = False
        self._lease: Lease | None = None

    async def run(self) -> None:
        """Watch for ever; cancel to end. What fails is tried again."""
        while True:
            try:
                await self._register()
                await self._reserve()
                await self._see_miners()
            except _TRANSIENT as error:
                log.info("the ledger is watched again in a moment: %s", error)
            await self._clock.sleep(WATCH_SECONDS)

    async def _register(self) -> None:
        if self._registered:
            return
        known = await self._ledger.gateway(self._gateway.id)
        if known is None or known.address != self._address:
            await self._ledger.submit(self._gateway, RegisterGateway(address=self._address))
        self._registered = True

    async def _reserve(self) -> None:
        """All of the owner's lease for this gateway: it is the only one of an embedded network."""
        name = self._ledger.operator_lease()
        lease = await self._ledger.lease(name)
        if lease is None:
            return
        held = await self._ledger.authorisation(name, self._gateway.id)
        reserved = held.reserved if held else 0
        wanted = lease.size - (lease.reserved - reserved)
        if wanted > reserved:
            if held is None or held.cap < wanted:
                await self._ledger.submit(
                    self._operator,
                    AuthoriseGateway(lease=name, gateway=self._gateway.id, cap=wanted),
                )
            await self._ledger.submit(self._gateway, ReserveLease(lease=name, size=wanted))
            reserved = wanted
        seen = Lease(name, reserved)
        if reserved and seen != self._lease:
            await self._catalog.commit(Batch((), [network_lease_row(seen)]))
            self._lease = seen
            log.info("%d bytes of the network's lease are reserved here", reserved)

    async def _see_miners(self) -> None:
        records = await self._ledger.miners()
        known = {miner.id: miner for miner in self._known.all()}
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(self._look_at(record, known.get(record.id))) for record in records
            ]
        miners = [task.result() for task in asked]
        for record, miner in zip(records, miners, strict=True):
            if miner.lost and record.state != "lost":
                await self._declare_lost(record)
        if {m.id for m in miners} != set(known) or any(
            _moved(known.get(miner.id), miner) for miner in miners
        ):
            await self._catalog.commit(Batch((), [miners_row(miners)]))

    async def _look_at(self, record: MinerRecord, before: MinerInfo | None) -> MinerInfo:
        """The ledger says who and how much was pledged; the miner itself how much is left."""
        lost = record.state == "lost"
        free = before.free_bytes if before else record.pledged_bytes
        info = MinerInfo(record.id, record.address, record.domain, free, lost)
        if not lost:
            try:
                space = await self._peers.ask(
                    info, SpaceReport(), timeout=_SPACE_SECONDS, timed=False
                )
                free = min(space.free, record.pledged_bytes)
                # Its directory was emptied, and another miner began there: the old one is lost.
                lost = space.miner != record.id
            except (RemoteError, Unreachable):
                log.debug("miner %s does not tell its space now", record.id.hex()[:16])
        if record.state == "draining":
            free = 0
        return MinerInfo(record.id, record.address, record.domain, free, lost)

    async def _declare_lost(self, record: MinerRecord) -> None:
        """Tell the ledger, where that is ours to say; the catalog knows it anyway."""
        log.warning("miner %s is lost: another answers in its place", record.id.hex())
        try:
            await self._ledger.submit(self._operator, DeclareLost(miner=record.id))
        except TransactionFailed as error:
            log.info("the ledger does not take the loss from us: %s", error)


def _moved(before: MinerInfo | None, now: MinerInfo) -> bool:
    if before is None:
        return True
    same = (before.address, before.domain, before.lost) == (now.address, now.domain, now.lost)
    step = max(before.free_bytes, now.free_bytes) // _FREE_STEP
    return not same or abs(before.free_bytes - now.free_bytes) > step


async def pump(outbox: Outbox, clock: Clock) -> None:
    """Send the outbox for ever; cancel to end."""
    while True:
        try:
            busy = await outbox.step()
        except _TRANSIENT as error:
            log.info("the outbox waits: %s", error)
            busy = False
        if not busy:
            await clock.sleep(WATCH_SECONDS)


def miner_ids(miners: CatalogMiners) -> set[AccountId]:
    """Who the catalog knows."""
    return {miner.id for miner in miners.all()}
