"""Reading the index into the page cache, once, when a catalog starts.

Cold, every get meets two or three pages that are not in memory, one after the other, at 40 µs of
CPU and a disk's latency each; a page of a listing meets a hundred. Read from front to back the
index of a million objects takes less CPU than a thousand of those gets.
"""

import os
from pathlib import Path

from gateway.catalog.disk import read_ahead

# An index larger than this share of the machine's memory would only push out what is in use.
MEMORY_SHARE = 4
_PIECE_BYTES = 8 << 20


def warm(index: Path) -> int:
    """Read an index (its directory) if memory allows; the bytes read. Raises OSError. Blocks."""
    descriptor = os.open(index / "data.mdb", os.O_RDONLY | os.O_CLOEXEC)
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        size = os.fstat(descriptor).st_size
        if size > memory // MEMORY_SHARE:
            return 0
        for at in range(0, size, _PIECE_BYTES):
            read_ahead(descriptor, min(_PIECE_BYTES, size - at), at)
        return size
    finally:
        os.close(descriptor)
