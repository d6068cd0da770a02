"""One open volume, and the writer of one batch into it."""

import mmap
import threading

from chain.net.transport import Buffer
from miner.store.files import PARTS_MAX, VolumeFile
from miner.store.index import VolumeFigures
from miner.store.layout import BLOCK, is_long

_STAGING = 4 * 1024 * 1024
# Zeros behind a small batch, so that those after it change neither the file's size nor its blocks:
# their fdatasync has no journal of the file system to wait for (docs/adr/221).
AHEAD = 1024 * 1024
_ZEROS = memoryview(mmap.mmap(-1, AHEAD)).toreadonly()


class Volume:
    """A volume's file, key and figures. Readers pin it, so that it is not closed under them."""

    def __init__(self, number: int, key: bytes, file: VolumeFile, figures: VolumeFigures) -> None:
        self.number = number
        self.key = key
        self.file = file
        self.figures = figures
        self.writable = False
        self.zeroed = 0  # the file has blocks up to here, behind `figures.end` full of zeros
        self._lock = threading.Lock()
        self._pins = 1

    def pin(self) -> bool:
        """Keep the file open until `unpin`; False if it is closed already."""
        with self._lock:
            if not self._pins:
                return False
            self._pins += 1
            return True

    def unpin(self) -> None:
        """Let go; the last one closes the file."""
        with self._lock:
            self._pins -= 1
            last = not self._pins
        if last:
            self.file.close()

    def cut(self, end: int) -> None:
        """Cut the file here, durably. Raises OSError."""
        self.zeroed = 0
        self.file.truncate(end)

    @property
    def used(self) -> int:
        """Bytes on disk, without zeros written ahead."""
        return self.figures.end - self.figures.punched

    @property
    def dead(self) -> int:
        """Bytes on disk that belong to nothing live."""
        return max(0, self.used - BLOCK - self.figures.live_bytes)


class Staging:
    """A page-aligned buffer through which batches go to the disk, as O_DIRECT demands.

    Copying costs 0.1 CPU s/GiB and buys whole blocks for any payload. Of long ones only the ends
    are copied: the blocks between them are written from where they lie.
    """

    def __init__(self) -> None:
        self._view = memoryview(mmap.mmap(-1, _STAGING))

    def batch(self, file: VolumeFile, start: int) -> "BatchWriter":
        """Write a batch that begins at `start`."""
        assert start % BLOCK == 0
        return BatchWriter(self._view, file, start)


class BatchWriter:
    """Lays records one after the other; whole blocks go to the file when the buffer is full."""

    def __init__(self, view: memoryview, file: VolumeFile, start: int) -> None:
        self._view = view
        self._file = file
        self._flushed = start
        self.position = start  # where the next byte goes in the volume
        self._filled = 0  # of the buffer
        self._parted = 0  # of that, what is among the parts
        self._parts: list[memoryview] = []  # whole blocks that wait to be written

    def add(self, head: bytes, payload: Buffer) -> None:
        """Append one record and fill up to where the next can start.

        A long payload stands in its blocks as it does in memory (`RecordHead.padded`), and must
        not change until `finish` returns.
        """
        self._copy(head)
        if is_long(len(payload)):
            self._place(memoryview(payload))
        elif len(payload):
            self._copy(payload)
        self._zeros(-self.position % 8)

    def finish(self, ahead: int = 0) -> int:
        """Write what is left, filled up to whole blocks; return the batch's end.

        `ahead`: so many zeros, whole blocks and at most AHEAD, are written behind it.
        """
        self._zeros(-self.position % BLOCK)
        if ahead:
            self._part()
            self._parts.append(_ZEROS[:ahead])
        self._flush()
        return self.position

    def _place(self, payload: memoryview) -> None:
        first = -self.position % BLOCK
        last = first + (len(payload) - first) // BLOCK * BLOCK
        if first:
            self._copy(payload[:first])
        self._part()
        self._parts.append(payload[first:last])
        self.position += last - first
        if len(self._parts) >= PARTS_MAX - 1:
            self._flush()
        if last < len(payload):
            self._copy(payload[last:])

    def _copy(self, data: Buffer) -> None:
        source = memoryview(data)
        self.position += len(source)
        while source:
            end = min(self._filled + len(source), len(self._view))
            count = end - self._filled
            self._view[self._filled : end] = source[:count]
            self._filled, source = end, source[count:]
            if end == len(self._view):
                self._flush()

    def _zeros(self, count: int) -> None:
        # At most a block; the buffer's size is a multiple of a block, so it always fits.
        if count:
            self._view[self._filled : self._filled + count] = bytes(count)
            self._filled += count
            self.position += count
            if self._filled == len(self._view):
                self._flush()

    def _part(self) -> None:
        """What was copied since the last part is one."""
        if self._filled > self._parted:
            self._parts.append(self._view[self._parted : self._filled])
            self._parted = self._filled

    def _flush(self) -> None:
        self._part()
        if self._parts:
            self._file.write(self._parts, self._flushed)
            self._flushed += sum(map(len, self._parts))
            self._parts.clear()
        self._filled = self._parted = 0
