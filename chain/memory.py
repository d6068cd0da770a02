"""The C library's heap: kept while a process works, given back when it rests (glibc only)."""

import asyncio
import ctypes
import gc
import time
from functools import cache

MIB = 1 << 20
# glibc gives every large buffer back to the kernel and faults it in again; most of an upload's
# cost: PUT ingest 1.01 -> 0.25 CPU s/GiB. The numbers are mallopt(3)'s.
MALLOC_OPTIONS = {
    -3: 32 * MIB,  # M_MMAP_THRESHOLD: smaller blocks come from the heap
    -1: 128 * MIB,  # M_TRIM_THRESHOLD: free memory kept at the heap's top
    -2: 64 * MIB,  # M_TOP_PAD: the heap grows in these steps
    # M_ARENA_MAX: libzmq's thread has a heap of its own, all the hashing threads share the other:
    # each further heap would keep its own peak of free memory.
    -8: 2,
}
# A process that used less than this share of a core for so long rests.
REST_SECONDS, RESTING = 10.0, 0.02
LOOKS = 5  # within that time


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it
    except (OSError, AttributeError):
        return None
    return library


def tune_malloc() -> bool:
    """Keep large buffers in the heap, on glibc; elsewhere nothing. Whether it was done."""
    library = _glibc()
    if library is None:
        return False
    return all(library.mallopt(option, value) == 1 for option, value in MALLOC_OPTIONS.items())


def trim() -> bool:
    """Give all free memory of the heaps back to the system; whether there was any."""
    gc.collect()
    library = _glibc()
    return library is not None and library.malloc_trim(0) == 1


class IdleTrim:
    """Trims once when the process comes to rest. Make it in the running loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._cpu = time.process_time()
        self._quiet = 0  # looks since it last worked
        self._timer = loop.call_later(REST_SECONDS / LOOKS, self._look)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        used, self._cpu = time.process_time() - self._cpu, time.process_time()
        self._quiet = self._quiet + 1 if used <= RESTING * REST_SECONDS / LOOKS else 0
        if self._quiet == LOOKS:
            trim()
            self._cpu = time.process_time()  # trimming is not work
        self._timer = self._loop.call_later(REST_SECONDS / LOOKS, self._look)
