"""Log records as bytes. No I/O. See docs/specs/catalog.md."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import google_crc32c

from chain.net.transport import Buffer
from gateway.catalog.interface import KEY_MAX, Space

FORMAT = 1
RECORD_MAX = 16 << 20
CHANGES_MAX = 65_535

FILE_MAGIC = b"CumulLog"
_FILE_HEADER = struct.Struct("<8sIIQI")
FILE_HEADER_BYTES = _FILE_HEADER.size + 4

RECORD_MAGIC = b"CcR1"
_HEADER = struct.Struct("<4sIIQQ")
HEADER_BYTES = _HEADER.size + 4
_FRAME = struct.Struct("<BBHII")
FRAME_BYTES = _FRAME.size
_PLACE, _OLD_PLACE = struct.Struct("<III"), struct.Struct("<QQI")
_U32 = struct.Struct("<I")

PUT, DELETE = 1, 2
_SPACES = frozenset(map(int, Space))


class Damaged(ValueError):
    """The bytes are not a record (or not the frame that was looked for)."""


class Resolved(NamedTuple):
    """A change after judging: a put or delete of one row."""

    operation: int
    space: int
    key: bytes
    value: bytes


class Frame(NamedTuple):
    """A change inside a record; `offset` is that of the frame in the record."""

    operation: int
    space: int
    key: bytes
    offset: int
    value_offset: int
    value_length: int


class Record(NamedTuple):
    """A parsed record's header and frames."""

    sequence: int
    group: int
    length: int
    frames: list[Frame]


class Place(NamedTuple):
    """Where a body's frame lies in the log."""

    file: int
    offset: int
    length: int  # of the value

    def pack(self) -> bytes:
        """As a row of the index: 12 bytes."""
        return _PLACE.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> "Place":
        """From its row; the first release wrote 20 bytes."""
        return cls._make((_OLD_PLACE if len(raw) == _OLD_PLACE.size else _PLACE).unpack(raw))


def crc32c(data: Buffer) -> int:
    """CRC-32C; the library takes bytes only, anything else is copied."""
    value: int = google_crc32c.value(data if isinstance(data, bytes) else bytes(data))
    return value


def frame_bytes(key: bytes, value_length: int) -> int:
    """Bytes that a row takes in the log."""
    return FRAME_BYTES + len(key) + value_length


def pack_file_header(number: int) -> bytes:
    """The 32 bytes at the start of log file `number`."""
    head = _FILE_HEADER.pack(FILE_MAGIC, FORMAT, 0, number, 0)
    return head + _U32.pack(crc32c(head))


def check_file_header(raw: bytes, number: int) -> None:
    """Raises Damaged unless `raw` is the header of file `number`."""
    if len(raw) < FILE_HEADER_BYTES or raw[:FILE_HEADER_BYTES] != pack_file_header(number):
        raise Damaged(f"not the header of log file {number:016x}")


def encode(sequence: int, group: int, changes: Sequence[Resolved]) -> tuple[bytes, list[int]]:
    """A record, and the offset of each change's frame in it."""
    parts: list[bytes] = [b"", b""]
    offsets = []
    at = HEADER_BYTES
    pack, checksum_of = _FRAME.pack, google_crc32c.value
    for operation, space, key, value in changes:
        size = len(value)
        offsets.append(at)
        parts += (pack(operation, space, len(key), size, checksum_of(value)), key, value)
        at += FRAME_BYTES + len(key) + size
    assert at <= RECORD_MAX
    assert len(offsets) <= CHANGES_MAX
    head = _HEADER.pack(RECORD_MAGIC, at, len(offsets), sequence, group)
    checksum = google_crc32c.extend(crc32c(head), b"".join(parts))
    parts[0], parts[1] = head, _U32.pack(checksum)
    return b"".join(parts), offsets


def decode(raw: bytes, start: int = 0) -> Record:
    """Parse and check the record at `start` of `raw`. Raises Damaged."""
    if len(raw) - start < HEADER_BYTES:
        raise Damaged("the record ends early")
    magic, length, count, sequence, group = _HEADER.unpack_from(raw, start)
    if magic != RECORD_MAGIC:
        raise Damaged("no record starts here")
    if not HEADER_BYTES <= length <= min(RECORD_MAX, len(raw) - start) or count > CHANGES_MAX:
        raise Damaged("the record ends early or is longer than records are")
    if not 1 <= group <= sequence:
        raise Damaged("the record's group is not before it")
    head = raw[start : start + _HEADER.size]
    body = raw[start + HEADER_BYTES : start + length]
    if google_crc32c.extend(crc32c(head), body) != _U32.unpack_from(raw, start + _HEADER.size)[0]:
        raise Damaged("the record's checksum is wrong")
    return Record(sequence, group, length, _frames(body, count))


def _frames(body: bytes, count: int) -> list[Frame]:
    frames = []
    at = 0
    for _ in range(count):
        if len(body) - at < FRAME_BYTES:
            raise Damaged("a change ends early")
        operation, space, key_length, value_length, _ = _FRAME.unpack_from(body, at)
        key_at = at + FRAME_BYTES
        value_at = key_at + key_length
        if (
            not 1 <= key_length <= KEY_MAX
            or value_at + value_length > len(body)
            or space not in _SPACES
            or operation not in (PUT, DELETE)
            or (operation == DELETE and value_length)
        ):
            raise Damaged("a change has impossible values")
        frames.append(
            Frame(
                operation,
                space,
                body[key_at:value_at],
                at + HEADER_BYTES,
                value_at + HEADER_BYTES,
                value_length,
            )
        )
        at = value_at + value_length
    if at != len(body):
        raise Damaged("the record has bytes after its changes")
    return frames


def frame_value(raw: bytes, space: int, key: bytes, length: int) -> bytes:
    """The value in frame `raw`, checked to be the row (space, key). Raises Damaged."""
    if len(raw) != FRAME_BYTES + len(key) + length:
        raise Damaged("the frame ends early")
    operation, found, key_length, value_length, checksum = _FRAME.unpack_from(raw)
    value_at = FRAME_BYTES + len(key)
    if (operation, found, key_length, value_length) != (PUT, space, len(key), length) or raw[
        FRAME_BYTES:value_at
    ] != key:
        raise Damaged("another row lies here")
    value = raw[value_at:]
    if crc32c(value) != checksum:
        raise Damaged("the row's checksum is wrong")
    return value


def find_record(raw: bytes, start: int) -> tuple[int, Record] | None:
    """The next valid record at or after `start`, and its offset."""
    at = raw.find(RECORD_MAGIC, start)
    while at >= 0:
        try:
            return at, decode(raw, at)
        except Damaged:
            at = raw.find(RECORD_MAGIC, at + 1)
    return None
