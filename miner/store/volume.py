"""One open volume, and the writer of one batch into it."""

import mmap
import threading

import numpy as np

from chain.net.transport import Buffer
from miner.store.files import VolumeFile
from miner.store.index import VolumeFigures
from miner.store.layout import BLOCK, align

_STAGING = 4 * 1024 * 1024


class Volume:
    """A volume's file, key and figures. Readers pin it, so that it is not closed under them."""

    def __init__(self, number: int, key: bytes, file: VolumeFile, figures: VolumeFigures) -> None:
        self.number = number
        self.key = key
        self.file = file
        self.figures = figures
        self.writable = False
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

    @property
    def used(self) -> int:
        """Bytes on disk."""
        return self.figures.end - self.figures.punched

    @property
    def dead(self) -> int:
        """Bytes on disk that belong to nothing live."""
        return max(0, self.used - BLOCK - self.figures.live_bytes)


class Staging:
    """A page-aligned buffer through which batches go to the disk, as O_DIRECT demands.

    Copying costs 0.1 CPU s/GiB and releases the GIL; it buys whole blocks for any payload.
    """

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, _STAGING)
        self._view = memoryview(self._map)
        self._array = np.frombuffer(self._map, np.uint8)

    def batch(self, file: VolumeFile, start: int) -> "BatchWriter":
        """Write a batch that begins at `start`."""
        assert start % BLOCK == 0
        return BatchWriter(self._view, self._array, file, start)


class BatchWriter:
    """Lays records one after the other; whole blocks go to the file when the buffer is full."""

    def __init__(
        self,
        view: memoryview,
        array: "np.ndarray[tuple[int], np.dtype[np.uint8]]",
        file: VolumeFile,
        start: int,
    ) -> None:
        self._view = view
        self._array = array
        self._file = file
        self._flushed = start
        self._filled = 0

    @property
    def position(self) -> int:
        """Where the next byte goes in the volume."""
        return self._flushed + self._filled

    def add(self, head: bytes, payload: Buffer) -> None:
        """Append one record and fill up to where the next can start."""
        self._copy(head)
        if len(payload):
            self._copy(payload)
        self._zeros(align(self.position, 8) - self.position)

    def finish(self) -> int:
        """Write what is left, filled up to whole blocks; return the batch's end."""
        self._zeros(align(self.position) - self.position)
        self._flush()
        return self._flushed

    def _copy(self, data: Buffer) -> None:
        source = np.frombuffer(data, np.uint8)
        while len(source):
            room = min(len(source), len(self._array) - self._filled)
            np.copyto(self._array[self._filled : self._filled + room], source[:room])
            self._filled += room
            source = source[room:]
            if self._filled == len(self._array):
                self._flush()

    def _zeros(self, count: int) -> None:
        # At most a block; the buffer's size is a multiple of a block, so it always fits.
        self._array[self._filled : self._filled + count] = 0
        self._filled += count
        if self._filled == len(self._array):
            self._flush()

    def _flush(self) -> None:
        if self._filled:
            self._file.write(self._view[: self._filled], self._flushed)
            self._flushed += self._filled
            self._filled = 0
