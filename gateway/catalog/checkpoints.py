"""Durable copies of the index, from which it is made again after a power loss."""

import logging
import os
import shutil
from pathlib import Path

import google_crc32c

from gateway.catalog.disk import Disk
from gateway.catalog.index import Index

logger = logging.getLogger(__name__)

_COPY_BYTES = 1 << 20


class Checkpoints:
    """Copies of the index under names that say their sequence and checksum."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.directory, self.disk = directory, disk

    def _found(self) -> list[tuple[int, int, Path]]:
        """(sequence, CRC-32C, path), newest first."""
        found = []
        for path in self.directory.glob("*.mdb"):
            sequence, _, checksum = path.stem.partition("-")
            try:
                found.append((int(sequence, 16), int(checksum, 16), path))
            except ValueError:
                continue
        return sorted(found, reverse=True)

    def newest(self) -> int:
        """The newest checkpoint's sequence; 0 if there is none."""
        return next((sequence for sequence, _, _ in self._found()), 0)

    def write(self, index: Index) -> int:
        """Copy `index`; older copies go when the new one is durable. Raises OSError, lmdb.Error."""
        self.disk.make_directory(self.directory)
        temporary = self.directory / "new"
        self.disk.reached("copy checkpoint")
        descriptor = self.disk.create(temporary)
        try:
            index.environment.copyfd(descriptor, compact=True)
            self.disk.sync(descriptor)
        finally:
            os.close(descriptor)
        copy = Index.open_readonly(temporary, lock=False)
        sequence = copy.applied().sequence
        copy.close()
        self.disk.reached("name checkpoint")
        path = self.directory / f"{sequence:016x}-{_file_crc(temporary):08x}.mdb"
        older = [old for _, _, old in self._found() if old != path]
        self.disk.replace(temporary, path)
        self.disk.sync_directory(self.directory)
        for old in older:
            self.disk.reached("remove checkpoint")
            self.disk.remove(old)
        return sequence

    def restore(self, target: Path) -> Path | None:
        """Copy the newest checkpoint that is whole to `target`; None if there is none."""
        for _, checksum, path in self._found():
            if _file_crc(path) == checksum:
                shutil.copyfile(path, target)
                return path
            logger.error("%s does not have its checksum; looking for an older one", path)
        return None


def _file_crc(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while some := file.read(_COPY_BYTES):
            checksum = google_crc32c.extend(checksum, some)
    return checksum
