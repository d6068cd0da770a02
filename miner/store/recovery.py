"""Reading volumes back record by record, whatever happened to them. See docs/specs/volume.md."""

import logging
from collections.abc import Iterator
from typing import NamedTuple

from miner.fragment import FragmentRecord, InvalidFragment, fragment_id
from miner.store.files import VolumeFile
from miner.store.layout import (
    BLOCK,
    HEAD_MAX,
    MAGIC,
    Kind,
    RecordHead,
    align,
    parse_record,
)

log = logging.getLogger(__name__)

_WINDOW = 256 * 1024


class Found(NamedTuple):
    """A valid record and where it starts."""

    offset: int
    head: RecordHead

    @property
    def end(self) -> int:
        """Where the next record of its batch would start."""
        return align(self.offset + self.head.head_bytes + self.head.size, 8)


def scan(file: VolumeFile, key: bytes, start: int) -> Iterator[Found]:
    """The records from `start` (a block boundary) on, in order.

    Where a record is damaged or unreadable the scan goes on at the next block that starts with one.
    Payloads are skipped, not read. Memory: one window of 256 KiB.
    """
    window = _Window(file)
    offset, size = start, file.size()
    while offset < size:
        head = parse_record(window.at(offset), offset, key)
        if head is None or offset + head.head_bytes + head.size > size:
            offset = window.next_magic(align(offset + 1), size)
            continue
        found, boundary = Found(offset, head), align(offset + 1)
        if boundary < found.end and parse_record(window.at(boundary), boundary, key) is not None:
            # The head of a torn record that was cut behind its block: where its payload would be,
            # the next batch begins. No payload can look like that, checksums have a key.
            offset = boundary
            continue
        yield found
        offset = found.end


def is_whole(file: VolumeFile, found: Found) -> bool:
    """Whether the record's payload is the fragment that it names."""
    if found.head.kind is Kind.TOMBSTONE:
        return True
    try:
        record = FragmentRecord.parse(found.head.description)
    except InvalidFragment:
        return False
    try:
        payload = file.read(found.head.size, found.offset + found.head.head_bytes)
    except OSError as error:
        # Not torn but unreadable, perhaps for a moment: readers and scrub will see.
        log.error("a payload at offset %d cannot be read: %s", found.offset, error)
        return True
    return len(payload) == record.size and fragment_id(payload) == record.id


def is_blank(file: VolumeFile, start: int, end: int) -> bool:
    """Whether there are zeros alone: written ahead, and never used."""
    for at in range(start, end, _WINDOW):
        try:
            data = file.read(min(_WINDOW, end - at), at)
            if data.count(0) != len(data):
                return False
        except OSError:
            return False
    return True


class _Window:
    """A file read in steps of 256 KiB."""

    def __init__(self, file: VolumeFile) -> None:
        self._file = file
        self._start = 0
        self._data = b""

    def at(self, offset: int) -> bytes:
        """At least HEAD_MAX bytes from `offset`, fewer at the end of the file."""
        start = offset - self._start
        if start < 0 or start + HEAD_MAX > len(self._data):
            self._data = self._read(offset)
            self._start, start = offset, 0
        return self._data[start : start + HEAD_MAX]

    def _read(self, offset: int) -> bytes:
        """As much as can be read around a bad place of the disk."""
        for size in (_WINDOW, align(HEAD_MAX), align(offset + 1) - offset):
            try:
                return self._file.read(size, offset)
            except OSError as error:
                failure = error
        log.error("offset %d of a volume cannot be read: %s", offset, failure)
        return b""

    def next_magic(self, offset: int, size: int) -> int:
        """The first block boundary from `offset` that starts with a record's magic, or `size`."""
        while offset < size and self.at(offset)[: len(MAGIC)] != MAGIC:
            offset += BLOCK
        return min(offset, size)
