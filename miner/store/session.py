"""Whether a store's index may be used again: index/SESSION. See docs/specs/volume.md.

LMDB maps its file and believes what it finds there: a rotten page crashes the process, and a
process that crashed while it opened the index must not do so again at its next start.
"""

import contextlib
import os
import shutil
from enum import Enum
from pathlib import Path

from blake3 import blake3

from chain.format import write_mark

_CLEAN, _OPENING = "clean", "opening"
# So many ends in a row without a clean stop may be the index's fault.
_CRASHES_MAX = 4
_PIECE = 1024**2
_DATA, _LOCK = "data.mdb", "lock.mdb"
_LOCK_BYTES = 16 * 1024  # room for 250 readers


class Trust(Enum):
    """What is known of an index."""

    NONE = 0  # make it anew
    UNCHECKED = 1  # written by this boot's kernel or by an older release: look at every row
    WHOLE = 2  # byte by byte what a clean stop left


class Session:
    """The file SESSION in the index directory."""

    def __init__(self, index_directory: Path, boot: str) -> None:
        """`boot` changes with every start of the machine; empty where that is not known."""
        self._directory = index_directory
        self._file = index_directory / "SESSION"
        self._boot = boot
        self._crashes = 0

    def trust(self) -> Trust:
        """What the last session left."""
        try:
            state, _, more = self._file.read_text().partition(" ")
        except (OSError, ValueError):
            return Trust.NONE
        if state == _CLEAN and more:
            return Trust.WHOLE if more == _digest(self._directory / _DATA) else Trust.NONE
        if state == _CLEAN:
            return Trust.UNCHECKED
        if not state or state != self._boot:
            return Trust.NONE
        self._crashes = int(more) + 1 if more.isascii() and more.isdigit() else 1
        return Trust.UNCHECKED if self._crashes < _CRASHES_MAX else Trust.NONE

    def opening(self) -> None:
        """From here to `opened` a crash means that the index is not to be trusted."""
        self._clear_lock()
        write_mark(self._file, _OPENING.encode())

    def begin_anew(self) -> None:
        """Remove the index. What is made from here on is trusted as far as it got."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._crashes = 0
        self._clear_lock()
        self.opened()

    def _clear_lock(self) -> None:
        """Empty LMDB's lock file: we hold the store's lock, so nobody uses it; it may be rotten.

        Written and not removed: LMDB maps a new one, and without room for it the process would end
        by SIGBUS. Raises OSError.
        """
        descriptor = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            file.write(bytes(_LOCK_BYTES))
            file.truncate()

    def opened(self) -> None:
        """The index is in use."""
        write_mark(self._file, f"{self._boot} {self._crashes}".encode())

    def distrust(self) -> None:
        """The next start makes the index anew."""
        with contextlib.suppress(OSError):
            write_mark(self._file, _OPENING.encode())

    def closed(self) -> None:
        """The index is whole on the disk, and closed."""
        digest = _digest(self._directory / _DATA)
        write_mark(self._file, f"{_CLEAN} {digest}".encode())


def _digest(path: Path) -> str:
    """BLAKE3 of a file; empty if it cannot be read. 0.1 s for a million fragments."""
    hasher = blake3()
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                hasher.update(piece)
    except OSError:
        return ""
    return hasher.hexdigest()
