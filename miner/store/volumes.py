"""The fragment store on disk: the committer writes, I/O threads read."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from chain.clock import Clock, Entropy
from chain.format import DirectoryLock, lock_directory, open_store
from chain.ids import AccountId
from chain.net.transport import Buffer
from miner.fragment import FragmentRecord, InvalidFragment
from miner.store.checking import Checker
from miner.store.committer import Committer, Compact, Confirm, Drop, DropDamaged, Put
from miner.store.files import Disk, LocalDisk
from miner.store.index import Place
from miner.store.interface import (
    Entry,
    NoSuchFragment,
    Space,
    StoreBusy,
    Stored,
    StoreError,
    StoreFailed,
    WrongFragment,
)
from miner.store.journal import VOLUME_BYTES, Journal, NewFragment
from miner.store.layout import BLOCK, RecordHead, align, parse_record
from miner.store.opening import JournalOptions, boot_id, close_journal, open_journal
from miner.store.session import Session
from miner.store.volume import Volume

log = logging.getLogger(__name__)

KIND, FORMAT = "fragments", 2
# Version 2 may have zeros before a payload; what version 1 wrote stays as it is.
UPGRADES = {1: lambda _: None}
WAITING_MAX = 256 * 1024**2
# An executor hop costs 40-45 µs, as much as reading 256 KiB from the page cache.
INLINE_READ = 256 * 1024
# At most so much is copied from the page cache on the event loop: 0.3-0.6 ms. A fragment of a long
# segment has 4 MiB and some tags.
CACHED_READ = 5 * 1024**2
# Ranges remembered as read: who is asked for one again reads through the page cache.
RECENT_READS = 4096
_IO_THREADS = 4


class VolumeStore:
    """See FragmentStore. One per directory: a lock refuses a second."""

    def __init__(
        self, journal: Journal, session: Session, lock: DirectoryLock, clock: Clock
    ) -> None:
        self._journal = journal
        self._session = session
        self._index = journal.index
        self._lock = lock
        self._clock = clock
        self._checker = Checker()
        self._committer = Committer(journal, self._damaged, clock)
        self._recent: OrderedDict[tuple[bytes, int, int], None] = OrderedDict()
        self._threads = ThreadPoolExecutor(_IO_THREADS, thread_name_prefix="fragment-read")
        self._closed = False

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        pledge: int,
        clock: Clock,
        entropy: Entropy,
        disk: Disk | None = None,
        volume_bytes: int = VOLUME_BYTES,
        boot: str | None = None,
    ) -> "VolumeStore":
        """Open or create the store. Raises chain.format.StoreError, OSError."""
        lock = lock_directory(directory)
        try:
            open_store(directory, KIND, FORMAT, UPGRADES)
            options = JournalOptions(
                disk or LocalDisk(directory / "volumes"),
                entropy,
                pledge,
                volume_bytes,
                boot_id() if boot is None else boot,
            )
            journal, session = open_journal(directory / "index", options)
        except BaseException:
            lock.release()
            raise
        return cls(journal, session, lock, clock)

    def put(
        self, record: FragmentRecord, payload: Buffer, owner: AccountId | None = None
    ) -> "asyncio.Future[Stored]":
        size = len(payload)
        if size != record.size:
            raise WrongFragment(f"the fragment has {record.size} bytes, not {size}")
        waiting = self._committer.waiting
        if waiting + size > WAITING_MAX and waiting:
            raise StoreBusy("too many bytes wait for the disk")
        new = NewFragment(
            record.key,
            record.id,
            record.encode(),
            payload,
            self._clock.now_ns(),
            owner=owner or b"",
        )
        future: asyncio.Future[Stored] = self._future()
        self._committer.submit(Put(new, future))
        return future

    async def drop(self, keys: Sequence[bytes]) -> int:
        if not keys:
            return 0
        future: asyncio.Future[int] = self._future()
        self._committer.submit(Drop(list(dict.fromkeys(keys)), future))
        return await future

    async def drop_damaged(self, keys: Sequence[bytes]) -> int:
        future: asyncio.Future[int] = self._future()
        self._committer.submit(DropDamaged(list(dict.fromkeys(keys)), future))
        return await future

    async def confirm(self, keys: Sequence[bytes]) -> None:
        future: asyncio.Future[None] = self._future()
        self._committer.submit(Confirm(list(keys), future))
        await future

    async def compact(self) -> None:
        """Give back all the space that can be given back; else that happens when idle."""
        future: asyncio.Future[None] = self._future()
        self._committer.submit(Compact(future))
        await future

    def find(self, key: bytes) -> Entry | None:
        place = self._index.get(key)
        return None if place is None else _entry(place)

    async def read(
        self, key: bytes, start: int, end: int, room: memoryview | None = None
    ) -> Buffer:
        place = self._place(key)
        assert 0 <= start <= end <= place.size
        return await self._read(key, start, end, in_payload=True, room=room)

    async def record(self, key: bytes) -> FragmentRecord:
        return await self._record(key)

    async def owner(self, key: bytes) -> AccountId | None:
        return AccountId((await self._head(key)).owner) or None

    async def verify(self, key: bytes) -> bool:
        self._place(key)
        found = await self.damaged([key])
        self._place(key)
        return not found

    async def damaged(self, keys: Sequence[bytes]) -> list[bytes]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._damaged, keys)

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, Entry]]:
        return [(key, _entry(place)) for key, place in self._index.scan(after, limit)]

    def staged(self, before_ns: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return self._index.staged(before_ns, after, limit)

    def space(self) -> Space:
        journal, waiting = self._journal, self._committer.waiting
        free = max(0, journal.free() - waiting)
        return Space(journal.pledge, journal.used, free, waiting, journal.fragments)

    def in_place(self) -> bool:
        """Whether the directory is still there under the open files.

        Raises StoreFailed when the index turned out to be damaged: only a restart, which makes it
        again from the volumes, helps.
        """
        if self._index.damage:
            self._session.distrust()
            raise StoreFailed(f"the index is damaged, a restart repairs it: {self._index.damage}")
        return self._lock.in_place()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._committer.stop()
        await asyncio.get_running_loop().run_in_executor(self._threads, self._committer.join)
        self._threads.shutdown(wait=True)
        close_journal(self._journal, self._session)
        self._lock.release()

    def _future(self) -> "asyncio.Future":  # type: ignore[type-arg]
        if self._closed:
            raise StoreFailed("the store is closed")
        return asyncio.get_running_loop().create_future()

    def _place(self, key: bytes) -> Place:
        place = self._index.get(key)
        if place is None:
            raise NoSuchFragment(key.hex())
        return place

    # ---- reading

    async def _read(
        self,
        key: bytes,
        start: int,
        end: int,
        *,
        in_payload: bool,
        room: memoryview | None = None,
    ) -> Buffer:
        """Positioned read; follows a fragment that compaction moves away under it."""
        for _ in range(3):
            place = self._place(key)
            volume = self._journal.volumes.get(place.volume)
            if volume is None or not volume.pin():
                continue
            base = place.payload if in_payload else place.offset
            try:
                data = await self._pread(volume, end - start, base + start, (key, start, end), room)
            except OSError as error:
                raise StoreError(f"the disk cannot read: {error}") from error
            finally:
                volume.unpin()
            now = self._index.get(key)
            if now is None:
                raise NoSuchFragment(key.hex())
            if now.volume != place.volume:
                continue
            if len(data) != end - start:
                raise StoreError("the volume is shorter than its index says")
            return data
        raise StoreError("the fragment moves too often")

    async def _pread(
        self,
        volume: Volume,
        size: int,
        offset: int,
        name: tuple[bytes, int, int],
        room: memoryview | None,
    ) -> Buffer:
        """Bytes of a volume. What is read once leaves the page cache alone.

        Filling the cache costs 0.4-0.8 CPU s/GiB beside the copy, O_DIRECT 0.06 without one.
        """
        if size < INLINE_READ:
            return volume.file.read(size, offset)
        if volume.file.direct and self._is_first(name):
            return await self._read_disk(volume, size, offset, room)
        # Allocated here, not in the thread: so it comes from the heap that tune_malloc keeps.
        buffer = _fitting(room, size) or np.empty(size, np.uint8).data
        # What is in the page cache needs no thread: two hand-overs of the GIL cost as much as
        # copying 512 KiB, and asks of more than CACHED_READ would hold up the others.
        done = volume.file.read_cached(buffer, offset) if size <= CACHED_READ else 0
        if done < size:
            loop = asyncio.get_running_loop()
            rest, at = buffer[done:], offset + done
            done += await loop.run_in_executor(self._threads, volume.file.read_into, rest, at)
        return buffer[:done]

    def _is_first(self, name: tuple[bytes, int, int]) -> bool:
        """Whether this range was not read lately; from now on it was."""
        if name in self._recent:
            self._recent.move_to_end(name)
            return False
        self._recent[name] = None
        if len(self._recent) > RECENT_READS:
            self._recent.popitem(last=False)
        return True

    async def _read_disk(
        self, volume: Volume, size: int, offset: int, room: memoryview | None
    ) -> Buffer:
        """Whole blocks past the page cache; the view of what was asked for."""
        start, end = offset // BLOCK * BLOCK, align(offset + size)
        blocks = _fitting(room, end - start) or _aligned(end - start)
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(self._threads, volume.file.read_disk, blocks, start)
        return blocks[offset - start : min(done, offset - start + size)]

    async def _record(self, key: bytes) -> FragmentRecord:
        try:
            return FragmentRecord.parse((await self._head(key)).description)
        except InvalidFragment as error:
            raise StoreError(f"the fragment's record is damaged: {error}") from error

    async def _head(self, key: bytes) -> RecordHead:
        place = self._place(key)
        raw = await self._read(key, 0, place.head, in_payload=False)
        place = self._place(key)
        volume = self._journal.volumes.get(place.volume)
        head = parse_record(bytes(raw), place.offset, volume.key) if volume else None
        if head is None:
            raise StoreError("the fragment's record is damaged")
        return head

    def _damaged(self, keys: Sequence[bytes]) -> list[bytes]:
        return [key for key in keys if not self._is_whole(key)]

    def _is_whole(self, key: bytes) -> bool:
        """Reads the disk. What is not here, or no longer, is not damaged."""
        place = self._index.get(key)
        while place is not None:
            if self._is_whole_at(key, place):
                return True
            now = self._index.get(key)
            if now is not None and (now.volume, now.offset) == (place.volume, place.offset):
                return False
            place = now  # dropped, moved or stored anew meanwhile
        return True

    def _is_whole_at(self, key: bytes, place: Place) -> bool:
        volume = self._journal.volumes.get(place.volume)
        if volume is None or not volume.pin():
            return False
        try:
            return self._checker.is_whole(volume, key, place)
        except OSError as error:
            log.error("fragment %s cannot be read: %s", key.hex(), error)
            return False
        finally:
            volume.unpin()


def _entry(place: Place) -> Entry:
    return Entry(place.id, place.size, place.time_ns, place.confirmed)


def _fitting(room: memoryview | None, size: int) -> memoryview | None:
    """The part of a caller's room that is needed, None if there is none so large."""
    return None if room is None or len(room) < size else room[:size]


def _aligned(size: int) -> memoryview:
    """A page-aligned buffer, not zeroed: from the heap that tune_malloc keeps."""
    room = np.empty(size + BLOCK, np.uint8)
    skip = -room.__array_interface__["data"][0] % BLOCK
    return room[skip : skip + size].data
