"""The engine under the disk store: batches into volumes, the index after them. No threads.

One caller at a time changes things (the committer); reads of the index and of pinned volumes are
free for all. Rules:
1. The index changes only after the volume's fdatasync.
2. A file is removed before the index forgets it; a tombstone is durable before blocks are punched.
3. A volume that failed a sync is never written again.
4. A long payload may lie in memory that another process can change: it is checked after it was
   written, so that what is checked is what the disk was given, or came later still.
"""

import errno
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import lmdb
from blake3 import blake3

from chain.clock import Entropy
from chain.ids import FragmentId
from chain.net.shared import VIEW_MIN, address_of
from chain.net.transport import Buffer
from miner.store.files import Disk
from miner.store.index import Index, IndexWriter, Place, VolumeFigures
from miner.store.interface import StoreError, StoreFailed, StoreFull, WrongFragment
from miner.store.layout import (
    BLOCK,
    KEY_SIZE,
    Kind,
    RecordHead,
    align,
    encode_record,
    encode_volume,
    is_long,
    record_bytes,
    tombstone,
)
from miner.store.volume import AHEAD, BatchWriter, Staging, Volume

VOLUME_BYTES = 1024**3
HEADROOM = 64 * 1024**2  # of the file system, kept for tombstones and the index
# statvfs costs 15-25 us: far from full it is asked every so many batches.
_LOOK_BELOW, _LOOK_EVERY = 8 * 1024**3, 32
# Behind batches up to here zeros are written ahead.
_SMALL_BYTES = 256 * 1024


class NewFragment(NamedTuple):
    """A fragment to write: its key, record and bytes, and what compaction carries over."""

    key: bytes
    id: FragmentId
    description: bytes
    payload: Buffer
    time_ns: int
    confirmed: bool = False
    moved: bool = False
    owner: bytes = b""  # the account that stored it

    @property
    def is_long(self) -> bool:
        """Whether it is written from where it lies, and checked when it was."""
        return is_long(len(self.payload))


class Outcome(NamedTuple):
    """What became of a batch: its number, an error or None per fragment, fragments dropped."""

    number: int
    errors: list[StoreError | None]
    dropped: int


@dataclass(slots=True)
class _Plan:
    """Changes that become true when the batch is synced."""

    added: dict[bytes, Place] = field(default_factory=dict)
    dropped: dict[bytes, Place] = field(default_factory=dict)


def volume_name(number: int) -> str:
    """The file name of a volume."""
    return f"{number:08d}.volume"


class Journal:
    """Volumes, their index and their space."""

    def __init__(
        self, disk: Disk, index: Index, entropy: Entropy, pledge: int, volume_bytes: int
    ) -> None:
        self.disk = disk
        self.index = index
        self.volumes: dict[int, Volume] = {}
        self.pledge = pledge
        self.batch = 0
        self.fragments = 0
        self._entropy = entropy
        self._volume_bytes = volume_bytes
        self._staging = Staging()
        self._current: Volume | None = None
        self._next_number = 1
        self._broken = ""
        self._disk_left = 0
        self._unlooked = 0

    @property
    def used(self) -> int:
        """Bytes on disk of all volumes."""
        return sum(volume.used for volume in list(self.volumes.values()))

    def free(self) -> int:
        """Bytes that can still be stored: what is left of the pledge and of the file system."""
        if self._disk_left < _LOOK_BELOW or self._unlooked >= _LOOK_EVERY:
            self._unlooked = 0
            try:
                self._disk_left = self.disk.free_bytes() - HEADROOM
            except OSError:
                self._disk_left = 0
        self._unlooked += 1
        return max(0, min(self.pledge - self.used, self._disk_left))

    def adopt(self, volume: Volume, *, writable: bool) -> None:
        """Take over an opened volume (recovery)."""
        self.volumes[volume.number] = volume
        volume.writable = writable
        self.reserve(volume.number)
        self.batch = max(self.batch, volume.figures.batch)
        if writable:
            self._current = volume

    def reserve(self, number: int) -> None:
        """Never use this volume number again."""
        self._next_number = max(self._next_number, number + 1)

    def commit(self, puts: Sequence[NewFragment], drops: Sequence[bytes], now_ns: int) -> Outcome:
        """Make one batch durable. Errors of single fragments are returned, never raised.

        Raises StoreFull, StoreFailed when nothing of the batch counts.
        """
        if self._broken:
            raise StoreFailed(self._broken)
        self.batch += 1
        checked = [None if put.moved or put.is_long else _check(put) for put in puts]
        known = self.index.present([*(put.key for put in puts if not put.moved), *drops])
        while True:
            errors, wanted = self._admit(puts, checked, known)
            graves = {key: None for key in drops if key in wanted or key in known}
            wrong = self._write(wanted, list(graves), now_ns) if wanted or graves else {}
            if not wrong:
                return Outcome(self.batch, errors, len(graves))
            # As if they had never come: another copy in this batch may be right.
            checked = [
                wrong[put.key] if wanted.get(put.key) is put and put.key in wrong else error
                for put, error in zip(puts, checked, strict=True)
            ]

    def _admit(
        self,
        puts: Sequence[NewFragment],
        checked: list[StoreError | None],
        known: Container[bytes],
    ) -> tuple[list[StoreError | None], dict[bytes, NewFragment]]:
        """What is to be said of each, and the new ones among those that nothing speaks against."""
        errors: list[StoreError | None] = []
        wanted: dict[bytes, NewFragment] = {}
        room = self.free()
        for put, error in zip(puts, checked, strict=True):
            if error is None and (put.key in wanted or (put.key in known and not put.moved)):
                error = _check_written(put)  # nothing is, but what it says is checked all the same
            elif error is None:
                need = record_bytes(put.description, put.owner, len(put.payload)) + BLOCK
                if need > room and not put.moved:
                    error = StoreFull(f"{room} bytes are left of the pledge or the disk")
                else:
                    room -= need
                    wanted[put.key] = put
            errors.append(error)
        return errors, wanted

    def confirm(self, keys: Sequence[bytes]) -> None:
        """Mark fragments in the index alone."""
        with self.index.write() as writer:
            for key in keys:
                place = writer.get(key)
                if place is not None and not place.confirmed:
                    writer.put(key, place._replace(confirmed=True))

    def retire(self) -> None:
        """Remove full volumes in which nothing is needed any more."""
        again = True
        while again:
            again = False
            for volume in list(self.volumes.values()):
                if volume is self._current or volume.figures.live:
                    continue
                buried = self.index.buried_by(volume.number) - {volume.number}
                if buried.isdisjoint(self.volumes):
                    self._remove(volume)
                    again = True

    def worst(self, excluded: Container[int] = ()) -> Volume | None:
        """The full volume with the most dead space that punching did not give back, if it pays."""
        full = [
            volume
            for volume in self.volumes.values()
            if volume is not self._current and volume.number not in excluded
        ]
        volume = max(full, key=lambda v: v.dead, default=None)
        if volume is None or volume.dead * 2 <= volume.used or volume.dead < 16 * BLOCK:
            return None
        return volume

    def bury(self, tombs: Sequence[tuple[bytes, int]], now_ns: int) -> None:
        """Append tombstones again (compaction)."""
        self.batch += 1
        self._append([], list(tombs), now_ns)

    def release_graves(self, volume: Volume) -> None:
        """The volume's tombstones stand elsewhere now, so it may go."""
        with self.index.write() as writer:
            writer.forget_graves(volume.number)

    def _write(
        self, puts: dict[bytes, NewFragment], drops: list[bytes], now_ns: int
    ) -> dict[bytes, StoreError]:
        volume = self._writable()
        tombs = []
        for key in drops:
            place = self.index.get(key)
            number = volume.number if key in puts or place is None else place.volume
            tombs.append((key, number))
        return self._append(list(puts.values()), tombs, now_ns)

    def _append(
        self, puts: list[NewFragment], tombs: list[tuple[bytes, int]], now_ns: int
    ) -> dict[bytes, StoreError]:
        """Make these durable; or, if some payloads are wrong, do nothing and say which."""
        volume = self._writable()
        plan = _Plan()
        start = volume.figures.end
        try:
            end = self._lay_out(volume, puts, tombs, plan, now_ns)
            wrong = {put.key: error for put in puts if (error := _check_written(put))}
            if wrong:
                volume.cut(start)
                return wrong
            volume.file.sync()
        except OSError as error:
            self._abandon(volume, start, error)
            raise _store_error(error) from error
        volume.figures.end = end
        volume.figures.batch = self.batch
        try:
            self._settle(volume, plan, tombs)
        except Exception as error:
            self._unsettle(volume, start, error)
            raise _store_error(error) from error
        return {}

    def _lay_out(
        self,
        volume: Volume,
        puts: list[NewFragment],
        tombs: list[tuple[bytes, int]],
        plan: _Plan,
        now_ns: int,
    ) -> int:
        writer = self._staging.batch(volume.file, volume.figures.end)
        for put in puts:
            offset, size = writer.position, len(put.payload)
            head = RecordHead(
                Kind.FRAGMENT,
                put.confirmed,
                size,
                self.batch,
                put.time_ns,
                put.description,
                put.owner,
            )
            if put.is_long:
                head = head.padded(offset, address_of(put.payload))
            writer.add(encode_record(head, offset, volume.key), put.payload)
            plan.added[put.key] = Place(
                volume.number,
                offset,
                head.head_bytes,
                size,
                put.time_ns,
                put.confirmed,
                put.id,
            )
        for key, target in tombs:
            head = RecordHead(Kind.TOMBSTONE, False, 0, self.batch, now_ns, tombstone(key, target))
            writer.add(encode_record(head, writer.position, volume.key), b"")
        return self._finish(volume, writer)

    def _finish(self, volume: Volume, writer: BatchWriter) -> int:
        """Write a batch out; a small one that the file has no blocks for takes some more along."""
        end = align(writer.position)
        small = end - volume.figures.end <= _SMALL_BYTES
        ahead = AHEAD if small and end > volume.zeroed and self._disk_left > _LOOK_BELOW else 0
        writer.finish(ahead)
        volume.zeroed = max(volume.zeroed, end + ahead)
        return end

    def _settle(self, volume: Volume, plan: _Plan, tombs: list[tuple[bytes, int]]) -> None:
        """The batch is durable: punch what it drops, then tell the index."""
        with self.index.write() as writer:
            for key, place in plan.added.items():
                self.add(writer, key, place)
            for key, target in tombs:
                self.drop(writer, key, target, volume.number)
            writer.volume(volume.number, volume.figures)

    def _unsettle(self, volume: Volume, start: int, error: Exception) -> None:
        """The index did not take the batch: undo it on the disk too.

        With a full file system that is all: the next batch may find room. Any other failure
        leaves only a restart.
        """
        full = _is_full(error)
        try:
            for number, figures in self.index.volumes().items():
                if number in self.volumes:
                    self.volumes[number].figures = figures
            self.fragments = self.index.count()
        except StoreError:
            full = False
        volume.figures.end = start
        if full:
            self._abandon(volume, start, OSError(errno.ENOSPC, "the index is full"))
        else:
            self._broken = f"the index failed, restart the miner: {error}"
            self.index.failed(error)

    def add(self, writer: IndexWriter, key: bytes, place: Place) -> None:
        """Enter a fragment; an older copy of it becomes dead space."""
        old = writer.get(key)
        if old is not None and (old.volume, old.offset) == (place.volume, place.offset):
            return  # replayed twice
        if old is not None:
            self._subtract(writer, old)
        else:
            self.fragments += 1
        figures = self.volumes[place.volume].figures
        figures.live += 1
        figures.live_bytes += place.head + place.size
        writer.put(key, place)

    def drop(self, writer: IndexWriter, key: bytes, target: int, holder: int) -> None:
        """Enter a tombstone: forget the fragment if it is still the one in volume `target`."""
        place = writer.get(key)
        if place is not None and place.volume == target:
            self._subtract(writer, place)
            writer.delete(key, place)
            self.fragments -= 1
        if target != holder and target in self.volumes:
            writer.bury(holder, target)

    def _subtract(self, writer: IndexWriter, place: Place) -> None:
        volume = self.volumes.get(place.volume)
        if volume is None:
            return
        figures = volume.figures
        figures.live -= 1
        figures.live_bytes -= place.head + place.size
        start = -(-place.payload // BLOCK) * BLOCK
        end = (place.payload + place.size) // BLOCK * BLOCK
        if end > start and volume.file.punch(start, end):
            figures.punched += end - start
        writer.volume(volume.number, figures)

    def _writable(self) -> Volume:
        volume = self._current
        if volume is not None and volume.writable and volume.figures.end < self._volume_bytes:
            return volume
        number, key = self._next_number, self._entropy(KEY_SIZE)
        self._next_number += 1
        file = None
        try:
            self.end_current()
            file = self.disk.create(volume_name(number))
            writer = self._staging.batch(file, 0)
            writer.add(encode_volume(number, key), b"")
            figures = VolumeFigures(end=writer.finish())
            file.sync()
        except OSError as error:
            if file is not None:
                file.close()
                self.disk.remove(volume_name(number))
            raise _store_error(error) from error
        volume = Volume(number, key, file, figures)
        self.adopt(volume, writable=True)
        return volume

    def end_current(self) -> None:
        """Leave no zeros behind the last batch. Raises OSError."""
        volume = self._current
        if volume is not None and volume.zeroed > volume.figures.end:
            volume.cut(volume.figures.end)

    def _abandon(self, volume: Volume, end: int, error: OSError) -> None:
        try:
            volume.cut(end)
            volume.writable = error.errno in (errno.ENOSPC, errno.EDQUOT)
        except OSError:
            volume.writable = False

    def _remove(self, volume: Volume) -> None:
        try:
            self.disk.remove(volume_name(volume.number))
        except OSError as error:
            raise _store_error(error) from error
        del self.volumes[volume.number]
        with self.index.write() as writer:
            writer.forget_volume(volume.number)
        volume.unpin()


def _check(put: NewFragment) -> StoreError | None:
    if blake3(put.payload).digest() != put.id:
        return WrongFragment("the bytes do not hash to the fragment's id")
    return None


def _check_written(put: NewFragment) -> StoreError | None:
    return _check(put) if put.is_long and not put.moved else None


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, lmdb.DiskError | lmdb.MapFullError)


def _store_error(error: Exception) -> StoreError:
    if _is_full(error):
        return StoreFull("the disk is full")
    return StoreFailed(f"the disk refused a write: {error}")


assert is_long(VIEW_MIN)  # what others may change is checked after it was written
