"""Holes in files: space that goes back to the system while the file stays (Linux)."""

import ctypes
import sys
from functools import cache

_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01


def punch(fd: int, start: int, end: int) -> bool:
    """Give the bytes [start, end) back; they read as zeros. False where that cannot be done."""
    fallocate = _fallocate()
    if fallocate is None:
        return False
    return bool(fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, start, end - start) == 0)


@cache
def _fallocate() -> "ctypes._NamedFuncPointer | None":
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    function.restype = ctypes.c_int
    return function
