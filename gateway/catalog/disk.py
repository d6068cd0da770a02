"""The writer's calls into the file system, in one place, so that tests can make them fail."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from chain.net.transport import Buffer

_fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class Disk:
    """Real files. Tests override a method to raise OSError, or `reached` to crash at a step."""

    def write(self, descriptor: int, data: Buffer, offset: int) -> None:
        """Write all of `data` at `offset`. Raises OSError; a part may then be written."""
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            offset += written
            view = view[written:]

    def sync(self, descriptor: int) -> None:
        """Bring a file's bytes to stable storage. Raises OSError."""
        if sys.platform == "darwin":
            import fcntl

            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            _fdatasync(descriptor)

    def cut(self, descriptor: int, length: int) -> None:
        """Set a file's length. Raises OSError."""
        os.ftruncate(descriptor, length)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable. Raises OSError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def reached(self, step: str) -> None:
        """Called before each step that a crash may separate from the next; does nothing."""


def boot_id() -> str:
    """A text that changes when the machine starts anew; "" if it cannot be told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return _boot_session() if sys.platform == "darwin" else ""


def _boot_session() -> str:
    """macOS: sysctl kern.bootsessionuuid."""
    import ctypes

    size = ctypes.c_size_t(64)
    text = ctypes.create_string_buffer(size.value)
    call = ctypes.CDLL(None).sysctlbyname
    if call(b"kern.bootsessionuuid", text, ctypes.byref(size), None, 0) != 0:
        return ""
    return text.value.decode("ascii", "replace")
