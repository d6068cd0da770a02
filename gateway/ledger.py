"""The catalog process's side of the ledger: registration, the network's lease, the miners.

`NetworkWatch` keeps three things true while it runs: this gateway is registered and authorised;
as much of a lease as there is stands reserved, so that no acknowledged PUT can be refused by the
ledger later (the network's own lease where our owner owns the network, else one that the owner
bought); and the catalog knows the miners and their free space (gateway/view.py).
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from chain.client import LedgerClient, MinerRecord, TransactionFailed
from chain.clock import Clock
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.ledger import records
from chain.ledger.transactions.leases import AuthoriseGateway, ReserveLease
from chain.ledger.transactions.miners import DeclareLost
from chain.ledger.transactions.nodes import RegisterGateway
from chain.net.transport import RemoteError, Unreachable
from gateway.catalog.interface import Batch, Catalog, CatalogUnavailable
from gateway.outbox import Outbox
from gateway.store import Lease
from gateway.view import CatalogLeases, CatalogMiners, miners_row, network_lease_row
from miner.client import MinerPeers
from miner.placement import MinerInfo
from miner.protocol import SpaceReport

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
GRACE_SECONDS = 600.0
# Free space moves with every PUT; the row is written again when it moved by this share.
_FREE_STEP = 64
_SPACE_SECONDS = 2.0
# A lease with less than this share of it free is full: the next one is used.
_FULL_STEP = 64
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
        grace: float = GRACE_SECONDS,
    ) -> None:
        """`grace`: s of silence after which a miner counts as away."""
        self._catalog = catalog
        self._ledger = ledger
        self._peers = peers
        self._clock = clock
        self._operator = operator
        self._gateway = gateway
        self._address = address
        self._scheme = address[: address.index("://") + 3]
        self._known = CatalogMiners(catalog)
        self._told: set[AccountId] = set()  # losses that the ledger does not take from us
        self._grace = grace
        self._heard: dict[AccountId, float] = {}  # when each miner last answered, monotonic
        self._registered = False
        self._lease = CatalogLeases(catalog).lease("")

    async def run(self, *, every: float = WATCH_SECONDS) -> None:
        """Watch for ever; cancel to end. What fails is tried again."""
        while True:
            try:
                await self._register()
                await self._reserve()
                await self._see_miners()
            except _TRANSIENT as error:
                log.info("the ledger is watched again in a moment: %s", error)
            await self._clock.sleep(every)

    async def _register(self) -> None:
        if self._registered:
            return
        known = await self._ledger.gateway(self._gateway.id)
        if known is None or known.address != self._address:
            await self._ledger.submit(self._gateway, RegisterGateway(address=self._address))
        self._registered = True

    async def _reserve(self) -> None:
        """Hold as much of the owner's lease as is there, and say so to the catalog."""
        name, lease = await self._choose_lease()
        if lease is None or lease.state != "active":
            # Its term is over: what is stored stays, nothing new comes in.
            if self._lease is not None and self._lease.ceiling:
                await self._use(Lease(self._lease.id, 0))
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
        if reserved:
            await self._use(Lease(name, reserved))

    async def _choose_lease(self) -> tuple[bytes, records.Lease | None]:
        """The network's own lease if our owner owns the network; else one that the owner bought.

        Of several it is the present one until that is full or over, then the one with most room.
        """
        name = self._ledger.operator_lease()
        lease = await self._ledger.lease(name)
        if lease is not None and lease.owner == self._operator.id:
            return name, lease
        bought = await self._ledger.leases(self._operator.id)
        present = b"" if self._lease is None else self._lease.id
        kept = bought.get(present)
        if kept is not None and kept.state == "active" and _room(kept) > kept.size // _FULL_STEP:
            return present, kept
        return max(bought.items(), key=lambda item: _room(item[1]), default=(b"", None))

    async def _use(self, lease: Lease) -> None:
        if lease != self._lease:
            await self._catalog.commit(Batch((), [network_lease_row(lease)]))
            self._lease = lease
            log.info("%d bytes of lease %s are reserved here", lease.ceiling, lease.id.hex()[:16])

    async def _see_miners(self) -> None:
        found = [record for record in await self._ledger.miners() if self._is_ours(record)]
        known = {miner.id: miner for miner in self._known.all()}
        async with asyncio.TaskGroup() as group:  # none of them raises: silence is an answer
            asked = [
                group.create_task(self._look_at(record, known.get(record.id))) for record in found
            ]
        seen = [task.result() for task in asked]
        miners = self._judge_silence(seen, known)
        for record, miner in zip(found, miners, strict=True):
            if miner.lost and record.state != "lost":
                await self._declare_lost(record)
        if {m.id for m in miners} != set(known) or any(
            _moved(known.get(miner.id), miner) for miner in miners
        ):
            await self._catalog.commit(Batch((), [miners_row(miners)]))

    def _judge_silence(
        self, seen: Sequence[tuple[MinerInfo, bool]], known: Mapping[AccountId, MinerInfo]
    ) -> list[MinerInfo]:
        """The miners with `away` and `lost` set on those that are silent.

        Away is who is silent for longer than the grace, and at once who is silent while another
        miner proves itself at its address: what it holds is rebuilt, and counts again if it comes
        back. Over CURVE no successor can answer for an emptied miner, and whoever answers there may
        just have been given the port of one that is intact and starts elsewhere: so lost, which the
        ledger never takes back, is only who is replaced and silent for longer than the grace.

        While nobody at all answers it is we who are cut off: nobody's silence counts.
        """
        now = self._clock.monotonic()
        before, self._heard = self._heard, {}
        anybody = any(answered for _, answered in seen)
        replaced = _replaced(seen)
        result: list[MinerInfo] = []
        for miner, heard in seen:
            was_away = miner.id in known and known[miner.id].away
            since = now if heard or not anybody else before.get(miner.id, now)
            self._heard[miner.id] = since
            overdue = not heard and now - since > self._grace
            lost = miner.lost or (overdue and miner.id in replaced)
            away = not heard and not lost and (was_away or overdue or miner.id in replaced)
            if away != was_away and not lost:
                why = ": another answers in its place" if away and miner.id in replaced else ""
                log.warning("miner %s is %s%s", miner.id.hex(), "away" if away else "back", why)
            result.append(replace(miner, away=away, lost=lost))
        return result

    def _is_ours(self, record: MinerRecord) -> bool:
        """Miners of this machine listen on ipc; what a stranger registers must speak CURVE."""
        return record.address.startswith(self._scheme)

    async def _look_at(
        self, record: MinerRecord, before: MinerInfo | None
    ) -> tuple[MinerInfo, bool]:
        """The ledger says who and how much was pledged; the miner itself how much is left.

        Also whether it answered.
        """
        answered = False
        lost = record.state == "lost"
        free = before.free_bytes if before else record.pledged_bytes
        info = MinerInfo(record.id, record.address, record.domain, free, lost)
        if not lost:
            try:
                space = await self._peers.ask(
                    info, SpaceReport(), timeout=_SPACE_SECONDS, timed=False, insist=True
                )
                free = min(space.free, record.pledged_bytes)
                # Its directory was emptied, and another miner began there: the old one is lost.
                lost = space.miner != record.id
                answered = True
            except (RemoteError, Unreachable):
                log.debug("miner %s does not tell its space now", record.id.hex()[:16])
                lost = before is not None and before.lost  # until it shows itself again
        if record.state == "draining":
            free = 0
        return MinerInfo(record.id, record.address, record.domain, free, lost), answered

    async def _declare_lost(self, record: MinerRecord) -> None:
        """Tell the ledger, where that is ours to say; the catalog knows it anyway."""
        if record.id in self._told:
            return
        log.warning("miner %s is lost: another answers in its place", record.id.hex())
        try:
            await self._ledger.submit(self._operator, DeclareLost(miner=record.id))
        except TransactionFailed as error:
            log.info("the ledger does not take the loss from us: %s", error)
            self._told.add(record.id)


def _replaced(seen: Sequence[tuple[MinerInfo, bool]]) -> set[AccountId]:
    """Who is silent while another miner proves itself at the same address."""
    proven = {miner.address for miner, answered in seen if answered and not miner.lost}
    return {miner.id for miner, answered in seen if not answered and miner.address in proven}


def _room(lease: records.Lease) -> int:
    return lease.size - lease.used if lease.state == "active" else -1


def _moved(before: MinerInfo | None, now: MinerInfo) -> bool:
    if before is None:
        return True
    same = replace(before, free_bytes=0) == replace(now, free_bytes=0)
    step = max(before.free_bytes, now.free_bytes) // _FREE_STEP
    return not same or abs(before.free_bytes - now.free_bytes) > step


async def pump(outbox: Outbox, clock: Clock, *, every: float = WATCH_SECONDS) -> None:
    """Send the outbox for ever; cancel to end."""
    while True:
        try:
            busy = await outbox.step()
        except _TRANSIENT as error:
            log.info("the outbox waits: %s", error)
            busy = False
        if not busy:
            await clock.sleep(every)


def miner_ids(miners: CatalogMiners) -> set[AccountId]:
    """Who the catalog knows."""
    return {miner.id for miner in miners.all()}
