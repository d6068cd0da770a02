"""Durable copies of the index, from which it is made again after a power loss.

They are compressed: a third of an index's pages is free space, and keys and constants repeat. Level
1 of igzip takes 2.2 CPU s per GB and halves them (docs/adr/125-bytes-of-a-small-object.md).
"""

import logging
import os
from pathlib import Path
from typing import cast

import google_crc32c
import lmdb
from isal import isal_zlib

from gateway.catalog.disk import Disk
from gateway.catalog.index import Index, file_checksum

logger = logging.getLogger(__name__)

_COPY_BYTES = 1 << 20
_LEVEL = 1
_BROKEN = cast("type[Exception]", isal_zlib.error)  # its stub calls the class an instance
_PLAIN, _PACKED = ".mdb", ".mdb.z"  # the first release did not compress


class Checkpoints:
    """Copies of the index under names that say their sequence and checksum."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.directory, self.disk = directory, disk

    def _found(self) -> list[tuple[int, int, Path]]:
        """(sequence, CRC-32C, path), newest first."""
        found = []
        for path in (*self.directory.glob("*" + _PLAIN), *self.directory.glob("*" + _PACKED)):
            sequence, _, checksum = path.name.partition(".")[0].partition("-")
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
        copy, temporary = self.directory / "copy", self.directory / "new"
        self.disk.reached("copy checkpoint")
        try:
            sequence = self._copy(index, copy)
            self._pack(copy, temporary)
        except (OSError, lmdb.Error):
            for path in (copy, temporary):
                self.disk.remove(path)
            raise
        self.disk.remove(copy)
        self.disk.reached("name checkpoint")
        path = self.directory / f"{sequence:016x}-{file_checksum(temporary):08x}{_PACKED}"
        older = [old for _, _, old in self._found() if old != path]
        self.disk.replace(temporary, path)
        self.disk.sync_directory(self.directory)
        for old in older:
            self.disk.reached("remove checkpoint")
            self.disk.remove(old)
        return sequence

    def _copy(self, index: Index, target: Path) -> int:
        """A snapshot of the index, not synced; returns the sequence it has."""
        descriptor = self.disk.create(target)
        try:
            index.environment.copyfd(descriptor, compact=True)
        finally:
            os.close(descriptor)
        copy = Index.open_readonly(target, lock=False)
        sequence = copy.applied().sequence
        copy.close()
        return sequence

    def _pack(self, source: Path, target: Path) -> None:
        """Compress a file and sync it."""
        packer, at = isal_zlib.compressobj(_LEVEL), 0
        descriptor = self.disk.create(target)
        try:
            with source.open("rb") as file:
                while some := file.read(_COPY_BYTES):
                    packed = packer.compress(some)
                    self.disk.write(descriptor, packed, at)
                    at += len(packed)
            self.disk.write(descriptor, packer.flush(), at)
            self.disk.sync(descriptor)
        finally:
            os.close(descriptor)

    def restore(self, target: Path) -> Path | None:
        """Copy the newest checkpoint that is whole to `target`; None if there is none.

        `target` gets its name last: half an index would be trusted by the next start.
        Raises OSError.
        """
        temporary = target.with_name("new")
        for _, checksum, path in self._found():
            try:
                whole = self._copy_out(path, temporary) == checksum
            except _BROKEN:
                whole = False
            if whole:
                self.disk.reached("name restored index")
                self.disk.replace(temporary, target)
                return path
            self.disk.remove(temporary)
            logger.error("%s does not have its checksum; looking for an older one", path)
        return None

    def _copy_out(self, source: Path, target: Path) -> int:
        """Copy or unpack a checkpoint; returns the CRC-32C of `source`."""
        unpacker, checksum, at = isal_zlib.decompressobj(), 0, 0
        packed = source.name.endswith(_PACKED)
        descriptor = self.disk.create(target)
        try:
            with source.open("rb") as file:
                while some := file.read(_COPY_BYTES):
                    checksum = google_crc32c.extend(checksum, some)
                    piece = unpacker.decompress(some) if packed else some
                    self.disk.write(descriptor, piece, at)
                    at += len(piece)
        finally:
            os.close(descriptor)
        return checksum
