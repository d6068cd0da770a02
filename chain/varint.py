"""Unsigned LEB128 (https://github.com/multiformats/unsigned-varint): minimal, at most 63 bits."""


class InvalidVarint(ValueError):
    """Cut off, longer than 63 bits, or not the shortest form."""


# Most are one byte: looking it up takes 0.1 us, making it 0.5.
_SHORT = [bytes([value]) for value in range(0x80)]


def encode(value: int) -> bytes:
    """1 to 9 bytes."""
    assert 0 <= value < 1 << 63
    if value < 0x80:
        return _SHORT[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(
    data: bytes | memoryview, at: int, error: type[ValueError] = InvalidVarint
) -> tuple[int, int]:
    """(value, offset behind it). Raises `error`, so that each format names its own."""
    if at < len(data) and data[at] < 0x80:
        return data[at], at + 1
    value = 0
    for shift in range(0, 63, 7):
        if at >= len(data):
            raise error("a varint is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise error("a varint is not minimal")
            return value, at
    raise error("a varint is too long")
