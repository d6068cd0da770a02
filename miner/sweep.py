"""What becomes of staged fragments: the owner is asked, and only `never` deletes."""

import logging

from chain.clock import Clock
from chain.ids import AccountId
from chain.net.transport import Peer, RemoteError, Unreachable
from miner import protocol
from miner.protocol import AskCommitted
from miner.store.interface import FragmentStore, StoreError

log = logging.getLogger(__name__)


class Sweeper:
    """Asks about fragments that have been staged for longer than `staged_for` seconds."""

    def __init__(
        self, store: FragmentStore, owner: Peer, miner: AccountId, clock: Clock, staged_for: float
    ) -> None:
        self._store = store
        self._owner = owner
        self._miner = miner
        self._clock = clock
        self._staged_for_ns = int(staged_for * 1e9)

    async def sweep(self) -> int:
        """Go through all of them once; returns how many were deleted. Silence keeps."""
        before = self._clock.now_ns() - self._staged_for_ns
        cursor, deleted = b"", 0
        while rows := self._store.staged(before, cursor, protocol.KEYS_MAX):
            cursor = rows[-1][0]
            keys = tuple(key for _, key in rows)
            try:
                answers = await self._owner.ask(AskCommitted(self._miner, keys), timeout=30.0)
            except (RemoteError, Unreachable) as error:
                log.info("the pool's owner does not answer, staged fragments stay: %s", error)
                return deleted
            if len(answers.states) != len(keys):
                log.error("the pool's owner answered for other fragments")
                return deleted
            said = list(zip(keys, answers.states, strict=True))
            never = [key for key, state in said if state == protocol.NEVER]
            committed = [key for key, state in said if state == protocol.COMMITTED]
            try:
                if committed:
                    await self._store.confirm(committed)
                deleted += await self._store.drop(never)
            except StoreError as error:
                log.warning("the sweep stops: %s", error)
                return deleted
        return deleted
