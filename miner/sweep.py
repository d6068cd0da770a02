"""What becomes of staged fragments: who stored them is asked, and only `never` deletes."""

import logging
from collections.abc import Callable, Sequence

from chain.clock import Clock
from chain.ids import AccountId
from chain.net.transport import Peer, RemoteError, Unreachable
from miner import protocol
from miner.protocol import AskCommitted
from miner.store.interface import FragmentStore, StoreError

log = logging.getLogger(__name__)

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

    async def sweep(self) -> int:
        """Go through all of them once; returns how many were deleted. Silence keeps."""
        before = self._clock.now_ns() - self._staged_for_ns
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
