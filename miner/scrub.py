"""Scrub: every fragment is read from the disk and hashed once in a cycle, before a reader needs it.

Fragment keys are hashes, so their order is as good as random: the fragment whose key lies at the
share x of all keys is due when the share x of the cycle is over. One rule spreads the work
evenly, gives the place to go on after a restart, and catches up with what was left out, never
faster than the rate. Rules:
1. A damaged fragment is looked at again a minute later, then dropped: a disk that fails for a
   moment costs nothing.
2. It is reported to who stored it until that one answers or a week is over.
3. When the wall clock goes back, the cycle goes on from where it is.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chain.clock import Clock
from chain.ids import AccountId
from chain.net.transport import RemoteError, Unreachable
from miner.fragment import split_key
from miner.protocol import Missing, ReportMissing
from miner.scrub_state import Damage, ScrubRecord, ScrubState
from miner.store.interface import FragmentStore, StoreError
from miner.sweep import Owners

log = logging.getLogger(__name__)

_LOOK_MIN, _LOOK_MAX = 1.0, 30.0  # s between looks at what is due
_SAVE_SECONDS = 30.0  # at most so much is read again after kill -9
_SECOND_LOOK_NS = 60 * 10**9
_RETRY_FIRST, _RETRY_MAX = 60.0, 3600.0
_GIVE_UP_NS = 7 * 86400 * 10**9
WAITING_MAX = 1024
_PAGE = 64
_BURST_SECONDS = 0.05  # of reading at the rate without a pause
_PORTION = 1024**2  # bytes of small fragments that are checked in one go
# A busy miner's scrub waits so long before each fragment, unless it is late by this share.
_POLITE_SECONDS, _POLITE_STEP = 2.0, 0.05
_LATE = 0.05
_SPACE = 1 << 64  # of the keys' first 8 bytes
_HEAD_BYTES = 4096  # read besides a payload


@dataclass(frozen=True, slots=True)
class ScrubSettings:
    """Bytes/s that are never exceeded (above 0), and seconds for one cycle."""

    rate: int
    cycle: float


class Scrubber:
    """The task of one miner. `busy` says whether somebody waits for the miner right now."""

    def __init__(
        self,
        store: FragmentStore,
        owners: Owners,
        miner: AccountId,
        clock: Clock,
        *,
        settings: ScrubSettings,
        record: ScrubRecord,
        state: ScrubState,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`state` is what `record` loaded; others may read it."""
        self._store = store
        self._owners = owners
        self._miner = miner
        self._clock = clock
        self._settings = settings
        self._record = record
        self._state = state
        self._busy = busy
        self._portion = min(_PORTION, int(settings.rate * _BURST_SECONDS))
        self._owed = 0.0  # seconds that the rate makes us wait
        self._saved_at = clock.monotonic()
        self._unsaved = False
        self._settle_at = 0.0
        self._retry = _RETRY_FIRST

    async def run(self) -> None:
        """Work for ever; cancel to end."""
        log.info(
            "scrub: a cycle of %.1f days, at most %.1f MiB/s, goes on at %.0f %%",
            self._settings.cycle / 86400,
            self._settings.rate / 1024**2,
            100 * self._share(),
        )
        try:
            while True:
                await self.step()
                await self._clock.sleep(self._until_next())
        finally:
            await self._save()

    async def step(self) -> None:
        """Check what is due now, settle what was found damaged."""
        due = self._due()
        while page := self._next(due):
            await self._polite(due)
            keys = [key for key, _ in page]
            await self._check(keys)
            self._state.after = keys[-1]
            self._unsaved = True
            await self._pause(sum(size + _HEAD_BYTES for _, size in page))
            await self._settle()
            await self._save_now_and_then()
        if due >= 1:
            await self._end_cycle()
        await self._settle()
        await self._save_now_and_then()

    # ---- when

    def _share(self) -> float:
        """How much of the keys this cycle has behind it, 0..1."""
        return int.from_bytes(self._state.after[:8].ljust(8, b"\0"), "big") / _SPACE

    def _due(self) -> float:
        """How much of the keys should be checked by now; 1 and more: all."""
        now, state, cycle = self._clock.now_ns(), self._state, self._settings.cycle
        due = (now - state.started_ns) / 1e9 / cycle
        if not state.started_ns or due < self._share():
            state.started_ns = now - int(self._share() * cycle * 1e9)
            self._unsaved = True
            due = self._share()
        return due

    def _next(self, due: float) -> list[tuple[bytes, int]]:
        """The next keys that are due, with their sizes: one fragment, or small ones together."""
        bound, room = int(min(due, 1.0) * _SPACE), self._portion
        found: list[tuple[bytes, int]] = []
        for key, entry in self._store.scan(self._state.after, _PAGE):
            room -= entry.size + _HEAD_BYTES
            if int.from_bytes(key[:8], "big") >= bound or (found and room < 0):
                break
            found.append((key, entry.size))
        return found

    def _until_next(self) -> float:
        """Seconds until there is something to do."""
        page = self._store.scan(self._state.after, 1)
        share = int.from_bytes(page[0][0][:8], "big") / _SPACE if page else 1.0
        left = (share - self._due()) * self._settings.cycle
        return min(_LOOK_MAX, max(_LOOK_MIN, left))

    async def _polite(self, due: float) -> None:
        waited = 0.0
        while waited < _POLITE_SECONDS and due - self._share() < _LATE and self._busy():
            await self._clock.sleep(_POLITE_STEP)
            waited += _POLITE_STEP

    async def _pause(self, size: int) -> None:
        self._owed += size / self._settings.rate
        if self._owed >= _BURST_SECONDS:
            owed, self._owed = self._owed, 0.0
            await self._clock.sleep(owed)

    async def _end_cycle(self) -> None:
        state, now = self._state, self._clock.now_ns()
        days = (now - state.started_ns) / 1e9 / 86400
        log.info("scrub: a full cycle ended after %.1f days, %d damaged ever", days, state.damaged)
        if days * 86400 > 1.1 * self._settings.cycle + _LOOK_MAX:
            log.warning("scrub: its rate is too low for its cycle, or it was away for long")
        state.finished_ns, state.started_ns, state.after = now, now, b""
        self._unsaved = True
        await self._save()

    # ---- what is found

    async def _check(self, keys: Sequence[bytes]) -> None:
        waiting = {damage.key for damage in self._state.waiting}
        for key in await self._store.damaged(keys):
            if key in waiting:
                continue
            log.warning("scrub: fragment %s does not read back, it gets a second look", key.hex())
            try:
                owner = await self._store.owner(key) or b""
            except StoreError:
                owner = b""  # its head is damaged
            self._state.waiting.append(Damage(key, bytes(owner), self._clock.now_ns()))
            if len(self._state.waiting) > WAITING_MAX:
                lost = self._state.waiting.pop(0)
                log.error("scrub: too much is damaged, %s is not reported", lost.key.hex())
            await self._save()

    async def _settle(self) -> None:
        """Drop and report what is still damaged when its time comes."""
        now = self._clock.now_ns()
        if not self._state.waiting or self._clock.monotonic() < self._settle_at:
            return
        # A clock that went back makes nothing wait longer.
        ripe = [
            damage
            for damage in self._state.waiting
            if not 0 <= now - damage.found_ns < _SECOND_LOOK_NS
        ]
        if not ripe:
            return
        keys = [damage.key for damage in ripe]
        try:
            dropped = await self._store.drop_damaged(keys)
        except StoreError as error:
            log.warning("scrub: damaged fragments cannot be dropped now: %s", error)
            self._later()
            return
        if dropped:
            self._state.damaged += dropped
            log.error("scrub: %d fragments are damaged on disk and were dropped", dropped)
        done = {key for key in keys if self._store.find(key) is not None}  # whole, or stored anew
        by_owner: dict[bytes, list[bytes]] = {}
        for damage in ripe:
            if damage.key not in done:
                by_owner.setdefault(damage.owner, []).append(damage.key)
        for owner, gone in by_owner.items():
            if await self._report(AccountId(owner) if owner else None, gone):
                done.update(gone)
        done.update(self._given_up(now, ripe))
        self._state.waiting = [each for each in self._state.waiting if each.key not in done]
        if all(key in done for key in keys):
            self._retry, self._settle_at = _RETRY_FIRST, 0.0
        else:
            self._later()
        await self._save()

    def _later(self) -> None:
        self._settle_at = self._clock.monotonic() + self._retry
        self._retry = min(_RETRY_MAX, 2 * self._retry)

    def _given_up(self, now: int, ripe: Sequence[Damage]) -> list[bytes]:
        old = [each.key for each in ripe if abs(now - each.found_ns) > _GIVE_UP_NS]
        for key in old:
            log.error("scrub: nobody could be told in time of fragment %s", key.hex())
        return old

    async def _report(self, owner: AccountId | None, keys: Sequence[bytes]) -> bool:
        """Whether the owner heard that these are gone."""
        peer = self._owners(owner)
        if peer is None:
            return False
        places = [split_key(key) for key in keys]
        missing = tuple(Missing(segment, index, self._miner) for segment, index in places)
        try:
            noted = await peer.ask(ReportMissing(missing), timeout=30.0)
        except (RemoteError, Unreachable) as error:
            log.info("scrub: %d damaged fragments are not reported yet: %s", len(keys), error)
            return False
        log.info("scrub: %d damaged fragments reported, %d repairs", len(keys), noted.queued)
        return True

    # ---- the place, durably

    async def _save_now_and_then(self) -> None:
        if self._unsaved and self._clock.monotonic() - self._saved_at >= _SAVE_SECONDS:
            await self._save()

    async def _save(self) -> None:
        self._saved_at = self._clock.monotonic()
        self._unsaved = False
        try:
            await self._record.save(self._state)
        except OSError as error:
            log.warning("scrub: its place is not saved: %s", error)
