"""What becomes of staged fragments: who stored them is asked, and only `never` deletes.

`never` is also the answer for a segment that is still being written, so that nothing may be asked
about before its writer has given up. A wall clock that is set forward must not make it look old:
what it gained is believed when `staged_for` seconds have passed since it was noticed. By then all
that was staged before is as old as it looks. A miner that starts anew believes the clock it finds.
"""

import logging
from collections.abc import Callable, Sequence

from chain.clock import Clock
from chain.ids import AccountId
from chain.net.transport import Peer, RemoteError, Unreachable
from miner import protocol
from miner.protocol import AskCommitted
from miner.store.interface import FragmentStore, StoreError

log = logging.getLogger(__name__)

# A clock that gains more between two looks was set: clocks that are steered gain 0.05 % at most.
_STEP_NS = 10_000_000_000

# Who answers for the fragments of an owner (None: of this machine); None when nobody does now.
Owners = Callable[[AccountId | None], Peer | None]


class Sweeper:
    """Asks about fragments that have been staged for longer than `staged_for` seconds."""

    def __init__(
        self,
        store: FragmentStore,
        owners: Owners,
        miner: AccountId,
        clock: Clock,
        staged_for: float,
    ) -> None:
        self._store = store
        self._owners = owners
        self._miner = miner
        self._clock = clock
        self._staged_for_ns = int(staged_for * 1e9)
        self._silent: set[AccountId | None] = set()
        # The wall clock less the monotonic one, in ns: what is believed, what was seen last, and
        # since when (monotonic s) it is more than what is believed.
        self._believed = self._seen = self._offset_ns()
        self._since = clock.monotonic()

    async def sweep(self) -> int:
        """Go through all of them once; returns how many were deleted. Silence keeps."""
        before = self._now_ns() - self._staged_for_ns
        cursor, deleted = b"", 0
        self._silent.clear()
        while rows := self._store.staged(before, cursor, protocol.KEYS_MAX):
            cursor = rows[-1][0]
            by_owner: dict[AccountId | None, list[bytes]] = {}
            for _, key in rows:
                try:
                    by_owner.setdefault(await self._store.owner(key), []).append(key)
                except StoreError:
                    continue  # dropped meanwhile, or damaged: a check finds it
            for owner, keys in by_owner.items():
                if owner in self._silent:
                    continue
                try:
                    deleted += await self._settle(owner, keys)
                except StoreError as error:
                    log.warning("the sweep stops: %s", error)
                    return deleted
        return deleted

    def _offset_ns(self) -> int:
        return self._clock.now_ns() - int(self._clock.monotonic() * 1e9)

    def _now_ns(self) -> int:
        """The wall time without what it gained by a jump that is too recent."""
        now, offset = self._clock.monotonic(), self._offset_ns()
        if offset - self._seen > _STEP_NS:
            self._since = now
            log.warning("the clock was set forward by %d s", (offset - self._seen) // 10**9)
        self._seen = offset
        gained = offset - self._believed
        if gained <= _STEP_NS or (now - self._since) * 1e9 >= self._staged_for_ns:
            self._believed = offset
        return int(now * 1e9) + self._believed

    async def _settle(self, owner: AccountId | None, keys: Sequence[bytes]) -> int:
        """Ask one owner about some of its fragments and do what it says. Raises StoreError."""
        peer = self._owners(owner)
        name = "this machine's gateway" if owner is None else f"gateway {owner.hex()[:16]}"
        if peer is None:
            self._silent.add(owner)
            return 0
        try:
            answers = await peer.ask(AskCommitted(self._miner, tuple(keys)), timeout=30.0)
        except (RemoteError, Unreachable) as error:
            log.info("%s does not answer, its staged fragments stay: %s", name, error)
            self._silent.add(owner)
            return 0
        if len(answers.states) != len(keys):
            log.error("%s answered for other fragments", name)
            self._silent.add(owner)
            return 0
        said = list(zip(keys, answers.states, strict=True))
        never = [key for key, state in said if state == protocol.NEVER]
        committed = [key for key, state in said if state == protocol.COMMITTED]
        if committed:
            await self._store.confirm(committed)
        return await self._store.drop(never)
