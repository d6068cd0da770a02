"""Where an edge keeps ranges of sealed segments: extents in RAM, slice files on disk.

Format of a slice file: docs/specs/edge.md.
"""

import contextlib
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path

from blake3 import blake3

from cdn.policy import Gdsf, S3Fifo
from chain.clock import Clock
from chain.format import lock_directory, open_store
from chain.ids import SegmentId
from chain.net.transport import Buffer

SLICE_BYTES = 1 << 20
_BLOCK = 4096  # a file takes whole blocks
_EXTENTS_MAX = 64  # of one segment; it has at most 33 slices
_PAUSE_SECONDS = 60.0  # after a failed write

_MAGIC = b"CUMSLICE"
_VERSION = 1
_HEADER = struct.Struct(">8sII32s")
_NAME = re.compile(r"([0-9a-f]{64})-(0|[1-9][0-9]{0,5})\.slice")

SliceKey = tuple[SegmentId, int]


class Extent:
    """A run [start, end) of a segment's ciphertext, as it was fetched."""

    __slots__ = ("alive", "end", "segment", "settled", "start", "view", "whole")

    def __init__(self, segment: SegmentId, start: int, view: memoryview, whole: int) -> None:
        self.segment = segment
        self.start = start
        self.end = start + len(view)
        self.view = view
        self.whole = whole  # length of the segment
        self.settled = False  # on its way to disk, or there
        self.alive = True  # false once a reader complained

    def is_wrong(self) -> bool:
        """Whether a reader complained since it was fetched."""
        return not self.alive

    def slices(self) -> range:
        """Numbers of the slices that lie in this extent as a whole."""
        first = -(-self.start // SLICE_BYTES)
        last = -(-self.end // SLICE_BYTES) if self.end == self.whole else self.end // SLICE_BYTES
        return range(first, max(first, last))

    def slice(self, index: int) -> memoryview:
        """The bytes of one of `slices()`."""
        at = index * SLICE_BYTES - self.start
        return self.view[at : min(at + SLICE_BYTES, len(self.view))]


def own_memory(buffer: Buffer) -> memoryview:
    """A read-only view that pins little more memory than it shows (a copy if it would)."""
    view = memoryview(buffer).cast("B").toreadonly()
    base = view.obj
    pinned = len(memoryview(base).cast("B")) if base is not None else len(view)
    return view if pinned <= 2 * len(view) + _BLOCK else memoryview(bytes(view))


class RamShelf:
    """Extents by segment under a byte budget; gives up whole segments by GDSF."""

    def __init__(self, capacity: int) -> None:
        self._policy = Gdsf[SegmentId](capacity)
        self._extents: dict[SegmentId, list[Extent]] = {}

    @property
    def used(self) -> int:
        return self._policy.used

    @property
    def capacity(self) -> int:
        return self._policy.capacity

    def __contains__(self, segment: SegmentId) -> bool:
        return segment in self._extents

    def find(self, segment: SegmentId, start: int, end: int) -> tuple[memoryview, Extent] | None:
        """A view of [start, end), if one extent holds it all."""
        for extent in self._extents.get(segment, ()):
            if extent.start <= start and end <= extent.end:
                self._policy.hit(segment)
                return extent.view[start - extent.start : end - extent.start], extent
        return None

    def keep(self, extent: Extent) -> None:
        """Take an extent in, in place of those it covers."""
        extents = self._extents.get(extent.segment, [])
        for other in extents:
            if other.start <= extent.start and extent.end <= other.end:
                return
        kept = [e for e in extents if not (extent.start <= e.start and e.end <= extent.end)]
        kept = [*kept[-(_EXTENTS_MAX - 1) :], extent]
        self._extents[extent.segment] = kept
        size = sum(len(e.view) for e in kept)
        for victim in self._policy.add(extent.segment, size):
            self._extents.pop(victim, None)

    def drop(self, segment: SegmentId) -> bool:
        """Forget a segment; whether there was any of it."""
        self._policy.remove(segment)
        extents = self._extents.pop(segment, [])
        for extent in extents:
            extent.alive = False
        return bool(extents)


class DiskShelf:
    """Slice files under a byte budget; gives up slices by S3-FIFO.

    `read` and `write` block: call them on a thread. `holds`, `admit`, `settle` and `drop` keep the
    books and belong to the event loop's thread.
    """

    def __init__(self, directory: Path, capacity: int, clock: Clock) -> None:
        """Open (and lock) a shelf. Blocks for the scan. Raises StoreError, OSError."""
        self._directory = directory
        self._clock = clock
        self._policy = S3Fifo[SliceKey](capacity)
        self._by_segment: dict[SegmentId, set[int]] = {}
        self._trusted: set[SliceKey] = set()  # written or verified by this process
        self._paused_until = float("-inf")
        self.failures = 0
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = lock_directory(directory)
        try:
            open_store(directory, "edge-shelf", 1, {})
        except BaseException:
            self._lock.release()
            raise
        self._scan()

    @property
    def used(self) -> int:
        return self._policy.used

    @property
    def capacity(self) -> int:
        return self._policy.capacity

    def close(self) -> None:
        """Release the lock; the files stay."""
        self._lock.release()

    def __contains__(self, segment: SegmentId) -> bool:
        return segment in self._by_segment

    def holds(self, segment: SegmentId, start: int, end: int) -> bool:
        """Whether every slice that [start, end) touches is on disk; counts as a hit if so."""
        have = self._by_segment.get(segment)
        if have is None:
            return False
        wanted = range(start // SLICE_BYTES, -(-end // SLICE_BYTES))
        if not all(index in have for index in wanted):
            return False
        for index in wanted:
            self._policy.hit((segment, index))
        return True

    def read(self, segment: SegmentId, start: int, end: int, whole: int) -> memoryview | None:
        """The slices around [start, end) as one buffer; None if any is gone or corrupt.

        `whole` is the segment's length. The buffer starts at a slice boundary.
        """
        first, last = start // SLICE_BYTES, -(-end // SLICE_BYTES)
        base = first * SLICE_BYTES
        out = memoryview(bytearray(min(last * SLICE_BYTES, whole) - base))
        for index in range(first, last):
            at = index * SLICE_BYTES - base
            into = out[at : min(at + SLICE_BYTES, len(out))]
            if not self._read_slice((segment, index), into):
                return None
        return out

    def write(self, key: SliceKey, body: memoryview) -> bool:
        """Write one slice file and rename it into place; False when the disk does not take it."""
        path = self._path(key)
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(exist_ok=True)
            with temporary.open("wb", buffering=0) as file:
                wanted = _HEADER.size + len(body)
                if os.writev(file.fileno(), [_header(key, body), body]) != wanted:
                    raise OSError("short write")
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            return False
        return True

    @property
    def paused(self) -> bool:
        """Whether the disk refused a write less than a minute ago."""
        return self._clock.monotonic() < self._paused_until

    def settle(self, key: SliceKey, size: int, written: bool) -> None:
        """Book the outcome of `write`."""
        if not written:
            self.failures += 1
            self._paused_until = self._clock.monotonic() + _PAUSE_SECONDS
            return
        self._trusted.add(key)
        self._by_segment.setdefault(key[0], set()).add(key[1])
        self._unlink(self._policy.add(key, _charge(size)))

    def discard(self, key: SliceKey) -> None:
        """Remove one slice, booked or not."""
        self._policy.remove(key)
        self._unlink([key])

    def drop(self, segment: SegmentId) -> bool:
        """Remove every slice of a segment; whether there was any."""
        indices = list(self._by_segment.get(segment, ()))
        for index in indices:
            self.discard((segment, index))
        return bool(indices)

    # ------------------------------------------------------------------ files
    def _path(self, key: SliceKey) -> Path:
        name = key[0].hex()
        return self._directory / name[:2] / f"{name}-{key[1]}.slice"

    def _unlink(self, keys: Iterable[SliceKey]) -> None:
        for key in keys:
            self._trusted.discard(key)
            indices = self._by_segment.get(key[0])
            if indices is not None:
                indices.discard(key[1])
                if not indices:
                    del self._by_segment[key[0]]
            with contextlib.suppress(OSError):
                self._path(key).unlink()

    def _read_slice(self, key: SliceKey, into: memoryview) -> bool:
        try:
            with self._path(key).open("rb", buffering=0) as file:
                header = bytearray(_HEADER.size)
                got = os.readv(file.fileno(), [header, into])
        except OSError:
            return False
        if got != len(header) + len(into):
            return False
        magic, version, length, _ = _HEADER.unpack(header)
        if (magic, version, length) != (_MAGIC, _VERSION, len(into)):
            return False
        if key not in self._trusted:
            if header != _header(key, into):
                return False
            self._trusted.add(key)
        return True

    def _scan(self) -> None:
        """Take in what lies there from before; remove what is not ours to read."""
        for folder in sorted(self._directory.iterdir()):
            if not folder.is_dir() or not re.fullmatch("[0-9a-f]{2}", folder.name):
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._take(entry)

    def _take(self, entry: os.DirEntry[str]) -> None:
        match = _NAME.fullmatch(entry.name)
        size = entry.stat(follow_symlinks=False).st_size - _HEADER.size
        if match is None or not 0 < size <= SLICE_BYTES:
            if entry.name.endswith((".slice", ".tmp")):
                with contextlib.suppress(OSError):
                    Path(entry.path).unlink()
            return
        key = SegmentId(bytes.fromhex(match[1])), int(match[2])
        self._by_segment.setdefault(key[0], set()).add(key[1])
        self._unlink(self._policy.add(key, _charge(size)))


def _charge(size: int) -> int:
    return -(-(size + _HEADER.size) // _BLOCK) * _BLOCK


def _header(key: SliceKey, body: memoryview) -> bytes:
    hasher = blake3(key[0] + struct.pack(">I", key[1]))
    hasher.update(body)
    return _HEADER.pack(_MAGIC, _VERSION, len(body), hasher.digest())
