"""The file system as volumes see it, and the real one.

Everything a volume does to the disk goes through `Disk` and `VolumeFile`, so that tests can put a
disk there that tears, drops or refuses writes.
"""

import contextlib
import errno
import fcntl
import os
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from chain import holes
from miner.store.layout import BLOCK

# Of one write (IOV_MAX is 1024).
PARTS_MAX = 512
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


class VolumeFile(Protocol):
    """One volume's file. Errors are OSError."""

    @property
    def direct(self) -> bool:
        """Whether `read_disk` reads past the page cache, without a copy."""
        ...

    def write(self, parts: Sequence[memoryview], offset: int) -> None:
        """Write these in a row: each is whole blocks, page-aligned. At most PARTS_MAX."""
        ...

    def sync(self) -> None:
        """Return when everything written is on stable storage."""
        ...

    def read(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file. Thread-safe."""
        ...

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer`; returns the bytes read, fewer only at the end. Thread-safe."""
        ...

    def read_cached(self, buffer: memoryview, offset: int) -> int:
        """As `read_into`, but only what needs no wait for the disk: as many bytes as there are."""
        ...

    def read_disk(self, buffer: memoryview, offset: int) -> int:
        """Fill a page-aligned buffer with whole blocks of what is on the disk, not in the cache.

        Leaves nothing behind in the page cache. Returns the bytes read, fewer only at the end of
        the file. Thread-safe.
        """
        ...

    def truncate(self, size: int) -> None:
        """Cut the file, durably."""
        ...

    def punch(self, start: int, end: int) -> bool:
        """Give whole blocks back to the file system; False where that cannot be done."""
        ...

    def size(self) -> int:
        """Bytes of the file."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


class Disk(Protocol):
    """A directory of volumes."""

    def names(self) -> list[str]:
        """The files in it, sorted; makes the directory if it is missing."""
        ...

    def create(self, name: str) -> VolumeFile:
        """A new empty file whose name is durable."""
        ...

    def open(self, name: str) -> VolumeFile:
        """An existing file."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file."""
        ...

    def free_bytes(self) -> int:
        """What the file system has left for this user."""
        ...


class LocalDisk:
    """A directory of the machine's own file system."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return sorted(path.name for path in self._directory.iterdir())

    def create(self, name: str) -> VolumeFile:
        path = self._directory / name
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._sync_directory()
        return LocalFile(path)

    def open(self, name: str) -> VolumeFile:
        return LocalFile(self._directory / name)

    def remove(self, name: str) -> None:
        (self._directory / name).unlink(missing_ok=True)
        self._sync_directory()

    def free_bytes(self) -> int:
        status = os.statvfs(self._directory)
        return status.f_bavail * status.f_frsize

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class LocalFile:
    """A volume's file: written with O_DIRECT where the file system can, read through the cache.

    O_DIRECT costs 0.06-0.15 CPU s/GiB, buffered writing 0.29-0.48; tmpfs refuses it.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR)
        self._direct = _open_direct(path, self._fd)

    @property
    def direct(self) -> bool:
        return self._direct != self._fd

    def write(self, parts: Sequence[memoryview], offset: int) -> None:
        assert all(len(part) % BLOCK == 0 for part in parts)
        assert offset % BLOCK == 0
        left = deque(parts)
        while left:
            try:
                done = os.pwritev(self._direct, left, offset)
            except OSError as error:
                if error.errno != errno.EINVAL or self._direct == self._fd:
                    raise
                # The file system took the flag but not our alignment: go on without it.
                os.close(self._direct)
                self._direct = self._fd
                continue
            if done <= 0:
                raise OSError(errno.EIO, "a write made no progress")
            if done % BLOCK:
                done -= done % BLOCK  # write the torn block again, whole
                if not done:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            offset += done
            while left and done >= len(left[0]):
                done -= len(left.popleft())
            if done:
                left[0] = left[0][done:]

    def sync(self) -> None:
        if sys.platform == "darwin":
            fcntl.fcntl(self._fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(self._fd)

    def read(self, size: int, offset: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]
        while data and (rest := size - sum(map(len, parts))):
            data = os.pread(self._fd, rest, offset + size - rest)
            parts.append(data)
        return b"".join(parts)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        return _fill(self._fd, buffer, offset)

    def read_cached(self, buffer: memoryview, offset: int) -> int:
        if not _NOWAIT:
            return 0
        try:
            return os.preadv(self._fd, [buffer], offset, _NOWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return 0
            raise

    def read_disk(self, buffer: memoryview, offset: int) -> int:
        assert len(buffer) % BLOCK == 0
        assert offset % BLOCK == 0
        if self._direct != self._fd:
            try:
                return _fill(self._direct, buffer, offset)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        # No O_DIRECT here: what the cache holds is read, and no longer kept.
        done = _fill(self._fd, buffer, offset)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, offset, done, os.POSIX_FADV_DONTNEED)
        return done

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)

    def punch(self, start: int, end: int) -> bool:
        return holes.punch(self._fd, start, end)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._direct != self._fd:
            with contextlib.suppress(OSError):
                os.close(self._direct)
        os.close(self._fd)


def _open_direct(path: Path, plain: int) -> int:
    """The file past the page cache; `plain` where the file system cannot."""
    flag = getattr(os, "O_DIRECT", 0)
    if flag:
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDWR | flag)
    return plain


def _fill(fd: int, buffer: memoryview, offset: int) -> int:
    done = 0
    while done < len(buffer):
        count = os.preadv(fd, [buffer[done:]], offset + done)
        if not count:
            break
        done += count
    return done
