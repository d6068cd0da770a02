"""Protocol buffers' wire format as IPNS records and libp2p keys need it. Pure.

https://protobuf.dev/programming-guides/encoding/. Unlike DAG-PB (dagpb.py) these messages may come
from any writer: fields in any order, unknown ones, the last of several counts.
"""

from collections.abc import Iterator

from gateway.ipfs.errors import BlockError

FIELDS_MAX = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a message: unsigned varints as int, the rest as bytes.

    Raises BlockError for what no writer makes, and for more than 64 fields.
    """
    at = count = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        count += 1
        if not 0 < number < 1 << 29 or count > FIELDS_MAX:
            raise BlockError("protobuf: a bad field number, or too many fields")
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise BlockError("protobuf: an unknown wire type")
        if size > len(data) - at:
            raise BlockError("protobuf: a field is longer than the message")
        yield number, data[at : at + size]
        at += size


def uint_field(number: int, value: int) -> bytes:
    """A varint field, also of value 0."""
    return _encode(number << 3 | _VARINT) + _encode(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """A bytes field, also an empty one."""
    return _encode(number << 3 | _BYTES) + _encode(len(value)) + value


def _encode(value: int) -> bytes:
    """Up to 64 bits (chain.varint ends at 63)."""
    assert 0 <= value < 1 << 64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise BlockError("protobuf: a varint is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at
    raise BlockError("protobuf: a varint is longer than 64 bits")
