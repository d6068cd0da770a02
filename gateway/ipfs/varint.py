"""Unsigned LEB128 (https://github.com/multiformats/unsigned-varint): minimal, at most 63 bits."""

from gateway.ipfs.errors import BlockError


def encode(value: int) -> bytes:
    """1 to 9 bytes."""
    assert 0 <= value < 1 << 63
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """(value, offset behind it). Raises BlockError."""
    value = 0
    for shift in range(0, 63, 7):
        if at >= len(data):
            raise BlockError("a varint is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise BlockError("a varint is not minimal")
            return value, at
    raise BlockError("a varint is too long")
