"""Miners as the pool talks to them: one connection each, latency estimates, a circuit breaker."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from chain.clock import Clock
from chain.ids import AccountId
from chain.net.rpc import AddressError
from chain.net.transport import (
    Buffer,
    Message,
    Payload,
    Peer,
    QueueFull,
    RemoteError,
    Reply,
    Transport,
    Unreachable,
)
from miner import protocol
from miner.absences import Absences
from miner.fragment import FragmentRecord
from miner.placement import MinerInfo
from miner.protocol import NewFragment, SpaceReport, StoredFragments, StoreFragments
from miner.sending import FragmentSender, Stored

log = logging.getLogger(__name__)

# A miner that failed or lagged so often in a row is left alone for a while: others are preferred.
FAILURES_TO_OPEN = 3
# Lagging counts only when nothing at all was heard for so long: on a starved machine every miner
# lags now and then, and asking the others more makes that worse.
SILENT_SECONDS = 0.5
BACKOFF_FIRST, BACKOFF_MAX = 1.0, 30.0
# Weight of the newest answer in the latency estimate, as TCP's (RFC 6298).
_GAIN, _DEVIATION_GAIN = 1 / 8, 1 / 4
_HEDGE_FLOOR = 0.03  # s: below this, waiting is cheaper than asking twice
_PATIENCE_MAX = 5.0
# A silent miner is asked for nothing but whether it is there: so long, so often.
_PROBE_SECONDS, _PROBE_PAUSE, _PROBE_PAUSE_MAX = 2.0, 0.05, 1.0
_UNKNOWN_LATENCY = 0.25  # s, before the first answer
_TROUBLED = (protocol.FAILED, protocol.BUSY)  # codes that say something about the miner


@dataclass(slots=True)
class Health:
    """What the answers of one miner say about it (pure)."""

    latency: float = 0.0  # s, smoothed
    deviation: float = 0.0
    samples: int = 0
    failures: int = 0  # in a row
    heard_at: float = float("-inf")
    silent: bool = False  # an ask was late, and nothing was heard since it was made
    silent_since: float = 0.0  # when the first of `failures` was asked
    open_until: float = 0.0
    backoff: float = field(default=BACKOFF_FIRST)

    def answered(self, now: float, seconds: float | None = None) -> None:
        """It lives: the breaker closes. `seconds`, where given, counts for the estimate."""
        if seconds is not None:
            self._sample(seconds)
        self.heard(now)
        self.failures = 0
        self.open_until = 0.0
        self.backoff = BACKOFF_FIRST

    def heard(self, now: float) -> None:
        """It said something, if only that it cannot."""
        self.heard_at = now
        self.silent = False

    def unanswered(self, since: float) -> None:
        """An ask made at `since` is late."""
        self.silent = self.silent or self.heard_at <= since

    def lagged(self, now: float, waited: float, *, timed: bool) -> None:
        """An ask was given up after `waited` seconds because others were faster.

        The answer would have taken longer still, so the estimate grows (`timed`): else only quick
        answers would ever count, and every slower one would be asked for twice.
        """
        self.unanswered(now - waited)
        if timed and self.samples and waited > self.latency:
            self._sample(waited)
        if not self.failures:
            self.silent_since = max(self.heard_at, now - waited)
        self._failed(now, enough=now - self.silent_since >= SILENT_SECONDS)

    def failed(self, now: float, *, certain: bool) -> None:
        """No answer. `certain`: the connection is gone; else it timed out or could not do it."""
        if not self.failures:
            self.silent_since = now
        self._failed(now, enough=True, needed=2 if certain else FAILURES_TO_OPEN)

    def _failed(self, now: float, *, enough: bool, needed: int = FAILURES_TO_OPEN) -> None:
        self.failures += 1
        if self.is_open(now):
            return  # asks that were under way when it opened say nothing new
        if enough and self.failures >= needed:
            self.open_until = now + self.backoff
            self.backoff = min(BACKOFF_MAX, self.backoff * 2)

    def _sample(self, seconds: float) -> None:
        if self.samples:
            self.deviation += _DEVIATION_GAIN * (abs(seconds - self.latency) - self.deviation)
            self.latency += _GAIN * (seconds - self.latency)
        else:
            self.latency, self.deviation = seconds, seconds / 2
        self.samples += 1

    def is_open(self, now: float) -> bool:
        """Whether to leave the miner alone now.

        After the back-off an ask decides again; of one that is silent the probe's answer does.
        """
        return now < self.open_until or (self.silent and self.open_until > 0)

    @property
    def patience(self) -> float:
        """Seconds after which an answer is late: the estimate and four deviations."""
        if not self.samples:
            return _UNKNOWN_LATENCY
        return min(_PATIENCE_MAX, max(_HEDGE_FLOOR, self.latency + 4 * self.deviation))


class MinerPeers:
    """Connections to miners, made on first use and again when an address changes."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._peers: dict[AccountId, tuple[str, Peer]] = {}
        self._health: dict[AccountId, Health] = {}
        self._probes: dict[AccountId, asyncio.Task[None]] = {}
        self._senders: dict[AccountId, FragmentSender] = {}
        self.absences = Absences(clock)

    def health(self, miner: AccountId) -> Health:
        """The estimates of one miner; kept as long as it is known."""
        return self._health.setdefault(miner, Health())

    def is_up(self, miner: MinerInfo) -> bool:
        """Whether it is worth asking before others. One that is not may still answer."""
        self.is_silent(miner)  # if so it is probed from now on
        return not miner.gone and not self.health(miner.id).is_open(self._clock.monotonic())

    def is_silent(self, miner: MinerInfo) -> bool:
        """Whether nothing was heard of it since it was asked for what is late by now.

        Then reads ask others first, at once: no breaker, which keeps writes away as well, opens so
        soon. Its answer to a probe brings it back.
        """
        if not self.health(miner.id).silent:
            return False
        if miner.id not in self._probes and not miner.lost:
            task = asyncio.get_running_loop().create_task(self._probe(miner))
            self._probes[miner.id] = task
            task.add_done_callback(lambda _: self._probes.pop(miner.id, None))
        return True

    async def _probe(self, miner: MinerInfo) -> None:
        """Ask until it answers, as long as anybody knows it."""
        pause = _PROBE_PAUSE
        while self.health(miner.id).silent:
            try:
                await self.ask(
                    miner, SpaceReport(), timeout=_PROBE_SECONDS, timed=False, insist=True
                )
            except (RemoteError, Unreachable):
                await self._clock.sleep(pause)
                pause = min(_PROBE_PAUSE_MAX, pause * 2)

    def unanswered(self, miner: AccountId, since: float) -> None:
        """An ask that began at `since` (monotonic) is late; it may still be answered."""
        self.health(miner).unanswered(since)

    def late(self, miner: AccountId, since: float, *, timed: bool = True) -> None:
        """An ask that began at `since` (monotonic) was given up because others were faster."""
        now = self._clock.monotonic()
        self.health(miner).lagged(now, now - since, timed=timed)

    async def ask(
        self,
        miner: MinerInfo,
        message: Message[Reply],
        *,
        timeout: float,  # noqa: ASYNC109 - handed to the peer
        timed: bool = True,
        insist: bool = False,
    ) -> Reply:
        """Ask one miner. Raises RemoteError, Unreachable.

        `timed` answers count for the latency estimate. While its breaker is open a miner is
        Unreachable at once, unless the caller insists.
        """
        health = self.health(miner.id)
        start = self._clock.monotonic()
        if miner.lost or (not insist and health.is_open(start)):
            raise Unreachable(f"miner {miner.id.hex()[:16]} is left alone after failures")
        try:
            reply = await self._peer(miner).ask(message, timeout=timeout)
        except QueueFull:
            raise
        except Unreachable:
            now = self._clock.monotonic()
            health.failed(now, certain=now - start < timeout / 2)
            raise
        except RemoteError as error:
            health.heard(self._clock.monotonic())
            if error.code in _TROUBLED:
                health.failed(self._clock.monotonic(), certain=False)
            raise
        now = self._clock.monotonic()
        health.answered(now, now - start if timed else None)
        return reply

    def store(
        self, miner: MinerInfo, record: FragmentRecord, shard: Buffer, seconds: float
    ) -> asyncio.Future[Stored]:
        """Ask a miner to store a fragment, together with what else is on its way there.

        Asks a miner that is left alone too. The future raises RemoteError, Unreachable; cancel it
        when its answer is of no use any more. The shard must not change until it is done.
        """
        sender = self._senders.get(miner.id)
        if sender is None:
            sender = self._senders[miner.id] = FragmentSender(self._ask_to_store)
        return sender.store(miner, new_fragment(record, shard), seconds)

    async def _ask_to_store(
        self, miner: MinerInfo, message: StoreFragments, seconds: float
    ) -> StoredFragments:
        reply = await self.ask(miner, message, timeout=seconds, timed=False, insist=True)
        if any(outcome.code in _TROUBLED for outcome in reply.outcomes):
            self.health(miner.id).failed(self._clock.monotonic(), certain=False)
        return reply

    def keep(self, miners: Iterable[AccountId]) -> None:
        """Forget connections and estimates of all others."""
        wanted = set(miners)
        for miner in [miner for miner in self._probes if miner not in wanted]:
            self._probes[miner].cancel()
        for miner in [miner for miner in self._peers if miner not in wanted]:
            self._peers.pop(miner)[1].close()
        for known in (self._health, self._senders):
            for miner in [miner for miner in known if miner not in wanted]:
                del known[miner]

    def close(self) -> None:
        """Close every connection."""
        self.keep(())

    def _peer(self, miner: MinerInfo) -> Peer:
        known = self._peers.get(miner.id)
        if known is not None:
            if known[0] == miner.address:
                return known[1]
            known[1].close()
        try:
            peer = self._transport.connect(miner.address, miner.id)
        except AddressError as error:
            raise Unreachable(f"miner {miner.id.hex()[:16]}: {error}") from None
        self._peers[miner.id] = (miner.address, peer)
        return peer


def new_fragment(record: FragmentRecord, shard: Buffer) -> NewFragment:
    """What a miner is told of a fragment that it is to store."""
    segment, profile = record.segment, record.segment.profile
    return NewFragment(
        profile.name,
        profile.k,
        profile.m,
        segment.length,
        segment.fragments,
        record.index,
        Payload(shard),
    )
