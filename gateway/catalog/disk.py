"""The catalog's calls into the file system, in one place, so that tests can make them fail.

Rule: nothing of the catalog reaches the disk on another way than through a method of Disk (LMDB's
own pages apart). tests/fault kills the writer at every call, and plays a power loss from the calls.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chain.format import make_directory, sync_directory, write_mark
from chain.net.transport import Buffer

# What one call brings into the page cache lies there in blocks as long as the call, up to 2 MiB
# (Linux 6.16 and newer, ext4), and each later write of a page walks over all of its block: 15 us
# instead of 7. So long writes are cut, and files are read ahead without the read.
PIECE_BYTES = 64 << 10
# Linux reads no more for one piece of advice than the device's read-ahead, by default this much.
_AHEAD_BYTES = 128 << 10
_fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class Disk:
    """Real files. Tests override a method to raise OSError, or `reached` to crash at a step."""

    def make_directory(self, path: Path) -> None:
        """A directory that a power loss leaves there. Raises OSError."""
        make_directory(path)

    def create(self, path: Path) -> int:
        """A descriptor of a new empty file, or of an emptied one. Raises OSError."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset` on. Raises OSError."""
        return os.pread(descriptor, size, offset)

    def read_file(self, path: Path) -> bytes:
        """A whole file. Raises OSError."""
        return path.read_bytes()

    def write(self, descriptor: int, data: Buffer, offset: int) -> None:
        """Write all of `data` at `offset`. Raises OSError; a part may then be written."""
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view[:PIECE_BYTES], offset)
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
        sync_directory(path)

    def replace(self, source: Path, target: Path) -> None:
        """Give a file another's name; durable once the directory is synced. Raises OSError."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Take a file's name away if it is there. Raises OSError."""
        path.unlink(missing_ok=True)

    def write_file(self, path: Path, data: bytes) -> None:
        """Replace a small file durably; on a full disk a crash may leave a part of it."""
        write_mark(path, data)

    def commit(self, transaction: Any) -> None:
        """Make an LMDB transaction visible, not durable. Raises lmdb.Error."""
        transaction.commit()

    def sync_index(self, environment: Any) -> None:
        """Bring an LMDB environment to stable storage. Raises lmdb.Error."""
        environment.sync(True)

    def reached(self, step: str) -> None:
        """Called before each step that a crash may separate from the next; does nothing."""


def read_ahead(descriptor: int, size: int, offset: int) -> None:
    """Bring bytes of a file into the page cache, page by page. Raises OSError. Blocks."""
    advise = getattr(os, "posix_fadvise", None)
    if advise is None:  # macOS
        os.pread(descriptor, size, offset)
        return
    for at in range(offset, offset + size, _AHEAD_BYTES):
        advise(descriptor, at, min(_AHEAD_BYTES, offset + size - at), os.POSIX_FADV_WILLNEED)


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
