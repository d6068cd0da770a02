"""The parts of a tar (POSIX.1-2001, pax) that is the same bytes whoever makes it. Pure.

IPIP-288: one top entry named by the CID. Names that are too long or no ASCII come in a pax header.
Names within a DAG are anybody's: what would be extracted outside the top entry, or through a
symbolic link that the tar itself brings, is refused.
"""

import posixpath
import tarfile
from dataclasses import dataclass, field

from gateway.ipfs.errors import NotAcceptable

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
PATH_BYTES_MAX = 4096  # what Linux takes
LINKS_MAX = 100_000
_DIRECTORY_MODE, _FILE_MODE, _LINK_MODE = 0o755, 0o644, 0o777

Time = tuple[int, int]  # seconds since 1970, nanoseconds


@dataclass(slots=True)
class Names:
    """The paths of one tar, checked one after the other."""

    top: str
    _links: set[str] = field(default_factory=set)

    def path(self, folder: str, name: str) -> str:
        """The path of an entry of a folder that is in the tar. Raises NotAcceptable."""
        path = posixpath.normpath(f"{folder}/{name}")
        if not path.startswith(f"{self.top}/"):
            raise NotAcceptable(
                "relative UnixFS paths outside the root are not allowed, use CAR instead"
            )
        if len(path.encode("utf-8", "surrogateescape")) > PATH_BYTES_MAX or "\0" in path:
            raise NotAcceptable("a path is too long for a tar or has a NUL in it, use CAR instead")
        parent = path
        while self._links and parent != self.top:
            if parent in self._links:
                raise NotAcceptable("a path leads through a symbolic link, use CAR instead")
            parent = posixpath.dirname(parent)
        return path

    def add_link(self, path: str) -> None:
        """Note a symbolic link. Raises NotAcceptable when there are too many."""
        if len(self._links) == LINKS_MAX:
            raise NotAcceptable("too many symbolic links for a tar, use CAR instead")
        self._links.add(path)


def directory(path: str, mode: int | None = None, mtime: Time | None = None) -> bytes:
    """The header of a directory."""
    entry = tarfile.TarInfo(path)
    entry.type = tarfile.DIRTYPE
    return _header(entry, _DIRECTORY_MODE if mode is None else mode, mtime)


def file(path: str, size: int, mode: int | None = None, mtime: Time | None = None) -> bytes:
    """The header of a file; its bytes follow, then `padding`."""
    entry = tarfile.TarInfo(path)
    entry.size = size
    return _header(entry, _FILE_MODE if mode is None else mode, mtime)


def link(path: str, target: bytes, mtime: Time | None = None) -> bytes:
    """The header of a symbolic link."""
    entry = tarfile.TarInfo(path)
    entry.type = tarfile.SYMTYPE
    entry.linkname = target.decode("utf-8", "surrogateescape")
    return _header(entry, _LINK_MODE, mtime)


def padding(size: int) -> bytes:
    """What stands behind the bytes of a file."""
    return bytes(-size % BLOCK_BYTES)


def _header(entry: tarfile.TarInfo, mode: int, mtime: Time | None) -> bytes:
    entry.mode = mode & 0o7777
    seconds, nanoseconds = mtime or (0, 0)
    entry.mtime = max(seconds, 0)
    if nanoseconds or seconds < 0:
        fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
        entry.pax_headers = {"mtime": f"{seconds}{fraction}"}
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
