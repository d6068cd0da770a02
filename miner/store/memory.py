"""The fragment store in memory: simulations and tests. Every put is a batch of its own turn."""

import asyncio
from collections.abc import Sequence

from chain.clock import Clock
from chain.ids import AccountId
from chain.net.transport import Buffer
from miner.fragment import FragmentRecord, fragment_id
from miner.store.interface import (
    Batch,
    Entry,
    NoSuchFragment,
    Space,
    Stored,
    StoreFailed,
    StoreFull,
    WrongFragment,
)


class MemoryStore:
    """See FragmentStore. Deterministic under any event loop; no threads."""

    def __init__(self, clock: Clock, pledge: int) -> None:
        self._clock = clock
        self._pledge = pledge
        self._fragments: dict[bytes, tuple[Entry, FragmentRecord, bytes]] = {}
        self._owners: dict[bytes, AccountId | None] = {}
        self._used = 0
        self._batch = 0
        self._closed = False

    def put(
        self, record: FragmentRecord, payload: Buffer, owner: AccountId | None = None
    ) -> "asyncio.Future[Stored]":
        if self._closed:
            raise StoreFailed("the store is closed")
        if len(payload) != record.size or fragment_id(payload) != record.id:
            raise WrongFragment("the bytes are not the fragment that its record names")
        if record.key not in self._fragments:
            if self._used + record.size > self._pledge:
                raise StoreFull(f"{self._pledge - self._used} bytes are left of the pledge")
            entry = Entry(record.id, record.size, self._clock.now_ns(), confirmed=False)
            self._fragments[record.key] = (entry, record, bytes(payload))
            self._owners[record.key] = owner
            self._used += record.size
        self._batch += 1
        batch = Batch(self._batch, self._clock.now_ns(), ((record.id, record.size),))
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Stored] = loop.create_future()
        loop.call_soon(_settle, future, Stored(batch, 0))
        return future

    def find(self, key: bytes) -> Entry | None:
        found = self._fragments.get(key)
        return found[0] if found else None

    async def read(
        self, key: bytes, start: int, end: int, room: memoryview | None = None
    ) -> Buffer:
        entry, _, payload = self._get(key)
        assert 0 <= start <= end <= entry.size
        if room is None or len(room) < end - start:
            return payload[start:end]
        room[: end - start] = payload[start:end]
        return room[: end - start]

    async def record(self, key: bytes) -> FragmentRecord:
        return self._get(key)[1]

    async def owner(self, key: bytes) -> AccountId | None:
        self._get(key)
        return self._owners[key]

    async def verify(self, key: bytes) -> bool:
        entry, _, payload = self._get(key)
        return fragment_id(payload) == entry.id

    async def drop(self, keys: Sequence[bytes]) -> int:
        if self._closed:
            raise StoreFailed("the store is closed")
        return self.forget(keys)

    def forget(self, keys: Sequence[bytes]) -> int:
        """Drop them at once."""
        dropped = 0
        for key in dict.fromkeys(keys):
            found = self._fragments.pop(key, None)
            if found is not None:
                self._used -= found[0].size
                dropped += 1
        return dropped

    async def damaged(self, keys: Sequence[bytes]) -> list[bytes]:
        held = [key for key in keys if key in self._fragments]
        return [key for key in held if not await self.verify(key)]

    async def drop_damaged(self, keys: Sequence[bytes]) -> int:
        return await self.drop(await self.damaged(keys))

    async def confirm(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            found = self._fragments.get(key)
            if found is not None:
                self._fragments[key] = (found[0]._replace(confirmed=True), *found[1:])

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, Entry]]:
        keys = sorted(key for key in self._fragments if key > after)
        return [(key, self._fragments[key][0]) for key in keys[:limit]]

    def staged(self, before_ns: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        rows = sorted(
            (entry.time_ns.to_bytes(8, "big") + key, key)
            for key, (entry, _, _) in self._fragments.items()
            if not entry.confirmed and entry.time_ns < before_ns
        )
        return [row for row in rows if row[0] > after][:limit]

    def space(self) -> Space:
        free = self._pledge - self._used
        return Space(self._pledge, self._used, free, 0, len(self._fragments))

    async def close(self) -> None:
        self._closed = True

    def damage(self, key: bytes, at: int = 0) -> None:
        """Flip a byte of a stored fragment, as a bad disk does."""
        entry, record, payload = self._get(key)
        flipped = bytearray(payload)
        flipped[at] ^= 0xFF
        self._fragments[key] = (entry, record, bytes(flipped))

    def _get(self, key: bytes) -> tuple[Entry, FragmentRecord, bytes]:
        found = self._fragments.get(key)
        if found is None:
            raise NoSuchFragment(key.hex())
        return found


def _settle(future: "asyncio.Future[Stored]", stored: Stored) -> None:
    if not future.done():
        future.set_result(stored)
