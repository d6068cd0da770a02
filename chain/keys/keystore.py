"""Secret keys in files: directory 0700, files 0600. Specification: docs/specs/keystore.md."""

import os
import re
import stat
from pathlib import Path

from chain.clock import Entropy
from chain.format import sync_directory
from chain.keys.identity import Identity

SECRET_BYTES = 32
# 64 hexadecimal digits and a line feed.
FILE_BYTES = 65
# A name cannot leave the directory, start with a dot or differ from another by case only.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
SUFFIX = ".key"


class KeystoreError(Exception):
    """The keystore cannot be used; the message is one sentence for the operator."""


class InsecureKey(KeystoreError):
    """Others can read a key, or its directory."""


class UnknownKey(KeystoreError):
    """No key of this name."""


class Keystore:
    """Named 32-byte secrets, each in `DIRECTORY/NAME.key`."""

    def __init__(self, directory: Path) -> None:
        """Raises KeystoreError when the directory cannot be made, InsecureKey when it is open."""
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_private(directory)
        except OSError as error:
            raise KeystoreError(f"cannot use {directory}: {error.strerror}") from None

    def secret(self, name: str) -> bytes:
        """The secret of this name (32 bytes). Raises UnknownKey, InsecureKey, KeystoreError."""
        path = self._path(name)
        try:
            # O_NOFOLLOW: the checked file is the one that is read.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise UnknownKey(f"{path}: no such key") from None
        except OSError as error:
            raise KeystoreError(f"{path}: {error.strerror}") from None
        with os.fdopen(descriptor, "rb") as file:
            check_private(path, descriptor)
            raw = file.read(FILE_BYTES + 1)
        try:
            secret = bytes.fromhex(raw.decode("ascii"))
        except ValueError:
            secret = b""
        if len(raw) != FILE_BYTES or len(secret) != SECRET_BYTES:
            raise KeystoreError(f"{path} is damaged: not 64 hexadecimal digits and a line feed")
        return secret

    def create(self, name: str, secret: bytes) -> bytes:
        """Keep `secret` under `name` unless there is one; the one that is kept.

        Atomic and durable: of two processes that create one name, both get the same secret, and
        it is on stable storage when this returns.
        """
        assert len(secret) == SECRET_BYTES
        path = self._path(name)
        if path.exists():
            return self.secret(name)
        temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(secret.hex().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                path.hardlink_to(temporary)  # unlike a rename, it never replaces
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
            sync_directory(self._directory)
        except OSError as error:
            raise KeystoreError(f"cannot write {path}: {error.strerror}") from None
        return self.secret(name)

    def secret_or_new(self, name: str, entropy: Entropy) -> bytes:
        """The secret of this name, made on first use."""
        return self.create(name, entropy(SECRET_BYTES))

    def identity(self, name: str, entropy: Entropy) -> Identity:
        """The identity of this name, made on first use."""
        return Identity(self.secret_or_new(name, entropy))

    def names(self) -> list[str]:
        """Every key's name, in order."""
        found = (path.name.removesuffix(SUFFIX) for path in self._directory.glob(f"*{SUFFIX}"))
        return sorted(name for name in found if NAME.fullmatch(name))

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise KeystoreError(f"{name!r:.120} is no key name: a-z 0-9 . _ - (at most 100)")
        return self._directory / f"{name}{SUFFIX}"


def check_private(path: Path, descriptor: int | None = None) -> None:
    """Refuse what group or others may touch. Raises InsecureKey."""
    status = path.stat() if descriptor is None else os.fstat(descriptor)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        wanted = "700" if stat.S_ISDIR(status.st_mode) else "600"
        raise InsecureKey(f"{path} has mode {mode:04o}, others can reach it: chmod {wanted} {path}")
