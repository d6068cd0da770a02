"""The bytes of volumes: heads and records (pure). See docs/specs/volume.md."""

import struct
from enum import IntEnum
from typing import NamedTuple

from blake3 import blake3

from miner.fragment import KEY_BYTES

BLOCK = 4096
KEY_SIZE = 32  # of a volume's checksum key
VERSION = 1
OWNER_BYTES = 32
# Payloads from here on are written from where they lie, so zeros before them put their blocks in
# the file where they have them in memory: at most a block a fragment, 1.6 %.
LONG_BYTES = 256 * 1024
# head, 255 fragment ids with a name of 32, owner, number of zeros, checksum
HEAD_MAX = 32 + (13 + 32 + 255 * 32) + OWNER_BYTES + 2 + 16
_VOLUME = struct.Struct(">8sII32s")
_VOLUME_MAGIC = b"CMVOLUME"
_RECORD = struct.Struct(">4sBBHQQQ")
MAGIC = b"CMr1"
_CHECKSUM = 16
_CONFIRMED, _OWNED, _PADDED = 1, 2, 4
_PADDING = struct.Struct(">H")


class CorruptVolume(ValueError):
    """A head or record that does not hold what its checksum says."""


class Kind(IntEnum):
    """Records of a volume."""

    FRAGMENT = 1
    TOMBSTONE = 2


class RecordHead(NamedTuple):
    """A record without its payload."""

    kind: Kind
    confirmed: bool
    size: int  # of the payload
    batch: int
    time_ns: int
    description: bytes
    owner: bytes = b""  # the account that stored the fragment, b"" for one on this machine
    padding: int | None = None  # zeros before the payload, None where the record has no such field

    @property
    def head_bytes(self) -> int:
        """Bytes before the payload."""
        size = head_size(self.description, self.owner)
        return size if self.padding is None else size + _PADDING.size + self.padding

    def padded(self, offset: int, address: int) -> "RecordHead":
        """With as many zeros as put a payload at `address` there in its blocks on the disk too.

        `offset` is the record's place in the volume.
        """
        bare = self._replace(padding=0)
        return bare._replace(padding=(address - offset - bare.head_bytes) % BLOCK)


def align(offset: int, to: int = BLOCK) -> int:
    """The next multiple of `to` at or after `offset`."""
    return -(-offset // to) * to


def is_long(size: int) -> bool:
    """Whether a payload of this size is written from where it lies."""
    return size >= LONG_BYTES


def encode_volume(number: int, key: bytes) -> bytes:
    """Block 0 of a volume."""
    assert len(key) == KEY_SIZE
    head = _VOLUME.pack(_VOLUME_MAGIC, VERSION, number, key).ljust(BLOCK - 32, b"\0")
    return head + blake3(head).digest()


def parse_volume(block: bytes, number: int) -> bytes:
    """Check block 0 and return the volume key. Raises CorruptVolume."""
    if len(block) != BLOCK or blake3(block[:-32]).digest() != block[-32:]:
        raise CorruptVolume(f"volume {number}: the head is damaged")
    magic, version, own, key = _VOLUME.unpack_from(block)
    if magic != _VOLUME_MAGIC or version != VERSION or own != number:
        raise CorruptVolume(f"volume {number}: not this volume's head")
    assert isinstance(key, bytes)
    return key


def encode_record(head: RecordHead, offset: int, key: bytes) -> bytes:
    """All of a record that stands before its payload, for its place in the volume."""
    assert offset % 8 == 0
    assert len(head.owner) in (0, OWNER_BYTES)
    description = head.description + head.owner
    flags = (_CONFIRMED if head.confirmed else 0) | (_OWNED if head.owner else 0)
    if head.padding is not None:
        flags |= _PADDED
        description += _PADDING.pack(head.padding)
    assert len(description) < 1 << 16
    raw = (
        _RECORD.pack(
            MAGIC,
            head.kind,
            flags,
            len(description),
            head.size,
            head.batch,
            head.time_ns,
        )
        + description
    )
    return raw + _checksum(raw, offset, key) + bytes(head.padding or 0)


def parse_record(raw: bytes, offset: int, key: bytes) -> RecordHead | None:
    """The record that starts `raw` (which may go on), or None if there is no valid one."""
    if len(raw) < _RECORD.size or raw[:4] != MAGIC:
        return None
    _, kind, flags, length, size, batch, time_ns = _RECORD.unpack_from(raw)
    end = _RECORD.size + length
    if len(raw) < end + _CHECKSUM or kind not in (Kind.FRAGMENT, Kind.TOMBSTONE):
        return None
    if raw[end : end + _CHECKSUM] != _checksum(raw[:end], offset, key):
        return None
    padding = None
    if flags & _PADDED:
        end -= _PADDING.size
        (padding,) = _PADDING.unpack_from(raw, end)
    split = end - OWNER_BYTES if flags & _OWNED else end
    if split < _RECORD.size:
        return None
    description, owner = raw[_RECORD.size : split], raw[split:end]
    confirmed = bool(flags & _CONFIRMED)
    return RecordHead(Kind(kind), confirmed, size, batch, time_ns, description, owner, padding)


def record_bytes(description: bytes, owner: bytes, size: int) -> int:
    """Bytes that a record takes at the most, rounded up to where the next can start."""
    padding = _PADDING.size + BLOCK - 1 if is_long(size) else 0
    return align(head_size(description, owner) + padding + size, 8)


def head_size(description: bytes, owner: bytes) -> int:
    """Bytes of a record before its payload, without zeros."""
    return _RECORD.size + len(description) + len(owner) + _CHECKSUM


def tombstone(fragment_key: bytes, volume: int) -> bytes:
    """A tombstone's description."""
    assert len(fragment_key) == KEY_BYTES
    return fragment_key + struct.pack(">I", volume)


def parse_tombstone(description: bytes) -> tuple[bytes, int]:
    """(fragment key, volume). Raises CorruptVolume."""
    if len(description) != KEY_BYTES + 4:
        raise CorruptVolume("a tombstone has another length")
    return description[:KEY_BYTES], int.from_bytes(description[KEY_BYTES:], "big")


def _checksum(raw: bytes, offset: int, key: bytes) -> bytes:
    return blake3(raw + struct.pack(">Q", offset), key=key).digest(_CHECKSUM)
