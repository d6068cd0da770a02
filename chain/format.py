"""Every store names its format: newer is refused, older is upgraded. docs/specs/store-format.md."""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

FORMAT_FILE = "FORMAT"
LOCK_FILE = "LOCK"
FORMAT_BYTES_MAX = 4096

Upgrade = Callable[[Path], None]


class StoreError(Exception):
    """A store that cannot be opened; the message is one sentence for the operator."""


class NewerFormat(StoreError):
    """Written by a newer program."""


class WrongStore(StoreError):
    """Another kind of store, a damaged FORMAT file, or a version that cannot be upgraded."""


class DirectoryLocked(StoreError):
    """Another process uses this directory."""


def open_store(
    directory: Path, kind: str, current: int, upgrades: Mapping[int, Upgrade]
) -> None:  # fmt: skip
    """Make `directory` a store of `kind` at version `current`.

    `upgrades[v]` turns version v into v+1. It must be safe to run again: after a crash inside it,
    the version is still v. Call with the directory locked. Raises NewerFormat, WrongStore.
    """
    directory.mkdir(parents=True, exist_ok=True)
    version = read_format(directory, kind)
    if version is None:
        others = [entry.name for entry in directory.iterdir() if not _is_ours(entry.name)]
        if others:
            raise WrongStore(
                f"{directory} holds files ({sorted(others)[0]} …) but no {FORMAT_FILE}: "
                f"not a store of kind {kind}"
            )
        write_format(directory, kind, current)
        return
    if version > current:
        raise NewerFormat(
            f"{directory} has {kind} format {version}; this program knows {current}: "
            "use a newer Cumulus"
        )
    for step in range(version, current):
        if step not in upgrades:
            raise WrongStore(f"{directory} has {kind} format {step}, too old to upgrade")
        upgrades[step](directory)
        write_format(directory, kind, step + 1)


def read_format(directory: Path, kind: str) -> int | None:
    """The version on disk, None when there is none. Raises WrongStore."""
    try:
        with (directory / FORMAT_FILE).open("rb") as file:
            raw = file.read(FORMAT_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(raw) if len(raw) <= FORMAT_BYTES_MAX else None
    except (ValueError, RecursionError):
        fields = None
    version = fields.get("version") if isinstance(fields, dict) else None
    if not isinstance(fields, dict) or type(version) is not int or version < 1:
        raise WrongStore(f"{directory / FORMAT_FILE} is damaged")
    if fields.get("kind") != kind:
        raise WrongStore(f"{directory} is a store of kind {fields.get('kind')!r:.80}, not {kind}")
    return version


def write_format(directory: Path, kind: str, version: int) -> None:
    """Write the version atomically and durably."""
    text = json.dumps({"kind": kind, "version": version}) + "\n"
    write_durably(directory / FORMAT_FILE, text.encode())


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a small file: after a crash it has the old bytes or the new ones.

    Raises OSError, which names the file.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = str(path)
        raise


def write_mark(path: Path, data: bytes) -> None:
    """`write_durably` for a file that may be lost: overwritten in place on a full disk.

    A crash may then leave a part of both, which its reader must take for nothing.
    """
    try:
        write_durably(path, data, 0o600)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not path.exists():
            raise
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def make_directory(path: Path) -> None:
    """Make a directory and those above it, durably; nothing if it is there. Raises OSError."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync_directory(one.parent)


def sync_directory(directory: Path) -> None:
    """Make renames and new names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DirectoryLock:
    """An exclusive flock on DIRECTORY/LOCK, held until `release` or the end of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def in_place(self) -> bool:
        """Whether the directory still is the one that was locked: not removed, not replaced."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Let another process in. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "DirectoryLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_directory(path: Path) -> DirectoryLock:
    """Take the directory for this process. Raises DirectoryLocked."""
    make_directory(path)
    # O_CLOEXEC: a child must not keep its parent's lock.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(path / LOCK_FILE, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise DirectoryLocked(f"{path} is in use by process {holder or '?'}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return DirectoryLock(path / LOCK_FILE, descriptor)


def _is_ours(name: str) -> bool:
    return name in {LOCK_FILE, FORMAT_FILE, f".{FORMAT_FILE}.new"}
