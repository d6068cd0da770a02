"""The volumes' index in LMDB: where every fragment lies. Rebuildable, so never synced.

A get costs 1.7 µs, a write transaction 20 µs and 2 µs a row.
LMDB has no checksums: what is damaged shows as an error, as rows that cannot be, or not at all.
"""

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from chain.ids import FragmentId
from miner.fragment import KEY_BYTES
from miner.store.interface import StoreFailed
from miner.store.layout import BLOCK

# Sparse; 200 bytes a fragment, so room for 80 million.
_MAP_BYTES = 16 * 1024**3
_PLACE = struct.Struct(">IQHQQB32s")
_VOLUME = struct.Struct(">QQIQQ")
_NUMBER = struct.Struct(">I")
_GRAVE = struct.Struct(">II")
_TIME = struct.Struct(">Q")
# What reading damaged pages raises, if it does not end the process.
_BROKEN = (lmdb.Error, struct.error)


class DamagedIndex(StoreFailed):
    """The index is not what was written; it must be made anew."""


class Place(NamedTuple):
    """Where a fragment lies and what it is."""

    volume: int
    offset: int  # of the record
    head: int  # bytes of the record before the payload
    size: int
    time_ns: int
    confirmed: bool
    id: FragmentId

    @property
    def payload(self) -> int:
        """Offset of the payload."""
        return self.offset + self.head


@dataclass(slots=True)
class VolumeFigures:
    """What the index knows of a volume; `batch` is the last one in it."""

    end: int = 0
    live_bytes: int = 0
    live: int = 0
    punched: int = 0
    batch: int = 0


class Index:
    """Four tables: fragments, volumes, graves (tombstones per volume pair), staged (by time)."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._env = lmdb.open(
            str(directory),
            map_size=_MAP_BYTES,
            max_dbs=4,
            sync=False,
            metasync=False,
            max_spare_txns=4,
            mode=0o600,
        )
        self._env.reader_check()
        self.damage = ""  # what showed that the index is damaged
        self._fragments = self._env.open_db(b"fragments")
        self._volumes = self._env.open_db(b"volumes")
        self._graves = self._env.open_db(b"graves")
        self._staged = self._env.open_db(b"staged")

    @contextmanager
    def write(self) -> Iterator["IndexWriter"]:
        """All of it or nothing."""
        try:
            with self._env.begin(write=True) as txn:
                yield IndexWriter(self, txn)
        except (lmdb.DiskError, lmdb.MapFullError):
            raise  # no room now
        except _BROKEN as error:
            self.failed(error)
            raise

    def failed(self, error: Exception) -> DamagedIndex:
        """Note that LMDB cannot go on; the error to raise."""
        self.damage = self.damage or f"{type(error).__name__}: {error}"
        return DamagedIndex(f"the index is damaged: {error}")

    def get(self, key: bytes) -> Place | None:
        """The place of one fragment. Raises DamagedIndex, as all that read here."""
        try:  # not `_reading`, which costs as much as the get itself
            with self._env.begin(self._fragments) as txn:
                raw = txn.get(key)
            return None if raw is None else _place(raw)
        except _BROKEN as error:
            raise self.failed(error) from error

    def present(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of them that are there, in one look."""
        try:
            with self._env.begin(self._fragments) as txn:
                return {key for key in keys if txn.get(key) is not None}
        except _BROKEN as error:
            raise self.failed(error) from error

    @contextmanager
    def _reading(self, table: Any) -> Iterator[Any]:
        """A snapshot of a table."""
        try:
            with self._env.begin(table) as txn:
                yield txn
        except _BROKEN as error:
            raise self.failed(error) from error

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, Place]]:
        """Up to `limit` fragments with key > `after`."""
        with self._reading(self._fragments) as txn:
            return [(key, _place(raw)) for key, raw in _after(txn, after, limit)]

    def staged(self, before_ns: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """(cursor, fragment key) of unconfirmed fragments staged before `before_ns`."""
        end = _TIME.pack(max(0, before_ns))
        with self._reading(self._staged) as txn:
            rows = _after(txn, after, limit)
        return [(row, row[_TIME.size :]) for row, _ in rows if row < end]

    def fragments_in(self, volume: int) -> list[tuple[bytes, Place]]:
        """Every live fragment of a volume (a scan of the whole table: compaction only)."""
        with self._reading(self._fragments) as txn:
            rows = ((key, _place(raw)) for key, raw in txn.cursor())
            return [(key, place) for key, place in rows if place.volume == volume]

    def volumes(self) -> dict[int, VolumeFigures]:
        """All volumes the index knows."""
        with self._reading(self._volumes) as txn:
            return {
                _NUMBER.unpack(key)[0]: VolumeFigures(*_VOLUME.unpack(raw))
                for key, raw in txn.cursor()
            }

    def buried_by(self, volume: int) -> set[int]:
        """The volumes that tombstones of `volume` speak of."""
        with self._reading(self._graves) as txn:
            cursor, targets = txn.cursor(), set()
            if cursor.set_range(_GRAVE.pack(volume, 0)):
                for key in cursor.iternext(values=False):
                    holder, target = _GRAVE.unpack(key)
                    if holder != volume:
                        break
                    targets.add(target)
            return targets

    def count(self) -> int:
        """Fragments in the index."""
        with self._reading(self._fragments) as txn:
            return int(txn.stat(self._fragments)["entries"])

    def check(self) -> None:
        """Look at every row: 1 s for a million fragments. Raises DamagedIndex, lmdb.Error.

        Order and number of the rows, and their sums per volume, must be what they say.
        """
        with self._env.begin() as txn:
            for key, raw in self._rows(txn, self._volumes):
                if len(key) != _NUMBER.size or len(raw) != _VOLUME.size:
                    raise DamagedIndex("a volume's row has another length")
            staged = self._check_fragments(txn)
            for key, _ in self._rows(txn, self._staged):
                staged -= 1
                if len(key) != _TIME.size + KEY_BYTES:
                    raise DamagedIndex("a staged fragment's row has another length")
            if staged:
                raise DamagedIndex("the staged fragments are other ones")
            for key, _ in self._rows(txn, self._graves):
                if len(key) != _GRAVE.size:
                    raise DamagedIndex("a grave's row has another length")

    def _check_fragments(self, txn: Any) -> int:
        """How many are unconfirmed."""
        sums: dict[int, list[int]] = {}
        staged = 0
        for key, raw in self._rows(txn, self._fragments):
            if len(key) != KEY_BYTES or len(raw) != _PLACE.size:
                raise DamagedIndex("a fragment's row has another length")
            volume, offset, head, size, _, confirmed, _ = _PLACE.unpack(raw)
            found = sums.setdefault(volume, [0, 0, 0])
            found[0] += 1
            found[1] += head + size
            found[2] = max(found[2], offset + head + size)
            staged += not confirmed
        figures = self.volumes()
        for number, known in figures.items():
            live, live_bytes, end = sums.pop(number, [0, 0, 0])
            if (live, live_bytes) != (known.live, known.live_bytes) or end > known.end:
                raise DamagedIndex(f"the figures of volume {number} are not those of its rows")
            if known.end % BLOCK or not 0 <= known.punched <= known.end:
                raise DamagedIndex(f"the figures of volume {number} cannot be")
        if sums:
            raise DamagedIndex(f"volume {min(sums)} is not known")
        return staged

    @staticmethod
    def _rows(txn: Any, table: Any) -> Iterator[tuple[bytes, bytes]]:
        """All rows, as many as the table says it has, in ascending order: never a circle."""
        count, last = 0, b""
        for key, raw in txn.cursor(table):
            if key <= last:
                raise DamagedIndex("rows are not in order")
            last = key
            count += 1
            yield key, raw
        if count != txn.stat(table)["entries"]:
            raise DamagedIndex("rows are missing")

    def sync(self) -> None:
        """Make it durable (a clean stop)."""
        self._env.sync(True)

    def close(self) -> None:
        """Release it."""
        self._env.close()


class IndexWriter:
    """One write transaction."""

    def __init__(self, index: Index, txn: Any) -> None:
        self._index = index
        self._txn = txn

    def get(self, key: bytes) -> Place | None:
        """As changed by this transaction so far."""
        raw = self._txn.get(key, db=self._index._fragments)
        return None if raw is None else _place(raw)

    def put(self, key: bytes, place: Place) -> None:
        """Add or replace a fragment."""
        self._txn.put(key, _PLACE.pack(*place), db=self._index._fragments)
        row = _TIME.pack(place.time_ns) + key
        if place.confirmed:
            self._txn.delete(row, db=self._index._staged)
        else:
            self._txn.put(row, b"", db=self._index._staged)

    def delete(self, key: bytes, place: Place) -> None:
        """Forget a fragment."""
        self._txn.delete(key, db=self._index._fragments)
        self._txn.delete(_TIME.pack(place.time_ns) + key, db=self._index._staged)

    def bury(self, holder: int, target: int) -> None:
        """Note that a tombstone in `holder` speaks of a fragment in `target`."""
        self._txn.put(_GRAVE.pack(holder, target), b"", db=self._index._graves)

    def volume(self, number: int, figures: VolumeFigures) -> None:
        """Set a volume's figures."""
        row = _VOLUME.pack(
            figures.end, figures.live_bytes, figures.live, figures.punched, figures.batch
        )
        self._txn.put(_NUMBER.pack(number), row, db=self._index._volumes)

    def forget_volume(self, number: int) -> None:
        """Remove a volume and its graves."""
        self._txn.delete(_NUMBER.pack(number), db=self._index._volumes)
        self.forget_graves(number)

    def forget_graves(self, number: int) -> None:
        """Remove the notes of a volume's tombstones."""
        cursor = self._txn.cursor(self._index._graves)
        while cursor.set_range(_GRAVE.pack(number, 0)):
            if _GRAVE.unpack(cursor.key())[0] != number:
                break
            cursor.delete()


def _place(raw: bytes) -> Place:
    volume, offset, head, size, time_ns, confirmed, digest = _PLACE.unpack(raw)
    return Place(volume, offset, head, size, time_ns, bool(confirmed), FragmentId(digest))


def _after(txn: Any, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    cursor = txn.cursor()
    found = cursor.set_range(after) if after else cursor.first()
    if found and after and cursor.key() == after:
        found = cursor.next()
    rows: list[tuple[bytes, bytes]] = []
    if not found:
        return rows
    for row in cursor:
        if len(rows) >= limit:
            break
        rows.append(row)
    return rows


assert KEY_BYTES + _TIME.size <= 511  # LMDB's longest key
