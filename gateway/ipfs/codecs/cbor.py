"""DAG-CBOR (https://ipld.io/specs/codecs/dag-cbor/spec/) with links as Cid and bytes as bytes.

`encode` writes the one canonical form. `decode` is strict but for the order of keys and the width
of floats: blocks of others are read for people and for paths, and sent as the bytes they are.
"""

import math
import struct
from collections.abc import Iterator

from chain.cids import Cid, InvalidCid
from gateway.ipfs.codecs.data_model import DEPTH_MAX, ITEMS_MAX, Value
from gateway.ipfs.errors import BlockError

_UINT, _NINT, _BYTES, _TEXT, _LIST, _MAP, _TAG = range(7)  # major types; 7 is simple and floats
_LINK_TAG = 42
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}


def decode(block: bytes) -> Value:
    """The value of a block. Raises BlockError."""
    reader = _Reader(block)
    value = reader.value(0)
    if reader.at != len(block):
        raise BlockError("bytes behind a DAG-CBOR item")
    return value


class _Reader:
    """Reads one item after the other. Recursion is bounded by DEPTH_MAX."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._items = 0
        self.at = 0

    def value(self, depth: int) -> Value:
        """The item at `at`. Raises BlockError."""
        self._items += 1
        if self._items > ITEMS_MAX or depth > DEPTH_MAX:
            raise BlockError("a DAG-CBOR block of too many or too deep items")
        kind, short, argument = self._head()
        match kind:
            case 0:
                value: Value = argument
            case 1:
                value = -1 - argument
            case 2:
                value = self._take(argument)
            case 3:
                value = self._text(argument)
            case 4:
                value = [self.value(depth + 1) for _ in range(self._count(argument))]
            case 5:
                value = self._map(self._count(argument), depth)
            case 6:
                value = self._link(argument)
            case _:
                value = self._simple(short, argument)
        return value

    def _head(self) -> tuple[int, int, int]:
        """(major type, low five bits, argument)."""
        [first] = self._take(1)
        kind, short = first >> 5, first & 0x1F
        if short < 24:
            return kind, short, short
        if short > 27:
            raise BlockError("DAG-CBOR says how long everything is")
        argument = int.from_bytes(self._take(1 << (short - 24)), "big")
        if kind < 7 and argument < (24 if short == 24 else 1 << (4 << (short - 24))):
            raise BlockError("a DAG-CBOR number is longer than it need be")
        return kind, short, argument

    def _take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self._block):
            raise BlockError("a DAG-CBOR block is cut off")
        taken = self._block[self.at : end]
        self.at = end
        return taken

    def _count(self, argument: int) -> int:
        if argument > len(self._block) - self.at:
            raise BlockError("a DAG-CBOR block is cut off")
        return argument

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise BlockError("DAG-CBOR text is UTF-8") from None

    def _map(self, count: int, depth: int) -> Value:
        found: dict[str, Value] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in found:
                raise BlockError("keys of a DAG-CBOR map are text and differ")
            found[key] = self.value(depth + 1)
        return found

    def _link(self, tag: int) -> Cid:
        if tag != _LINK_TAG:
            raise BlockError(f"DAG-CBOR has no tag {tag}")
        kind, _, size = self._head()
        raw = self._take(size) if kind == _BYTES else b""
        if raw[:1] != b"\x00":
            raise BlockError("a DAG-CBOR link is a byte string that starts with 0")
        try:
            return Cid.from_bytes(raw[1:])
        except InvalidCid as error:
            raise BlockError(f"a link: {error}") from None

    def _simple(self, short: int, argument: int) -> Value:
        if short in _FLOATS:
            width = 1 << (short - 24)
            [number] = struct.unpack(_FLOATS[short], argument.to_bytes(width, "big"))
            if math.isfinite(number):
                return float(number)
        if short not in (20, 21, 22):
            raise BlockError("DAG-CBOR knows false, true, null and finite floats")
        return {20: False, 21: True, 22: None}[short]


def encode(value: Value) -> bytes:
    """The canonical block. Raises BlockError for what DAG-CBOR cannot say."""
    return b"".join(_parts(value, 0))


def _parts(value: Value, depth: int) -> Iterator[bytes]:
    if depth > DEPTH_MAX:
        raise BlockError("a value is too deep")
    if isinstance(value, list):
        yield _head(_LIST, len(value))
        for item in value:
            yield from _parts(item, depth + 1)
    elif isinstance(value, dict):
        yield _head(_MAP, len(value))
        keys = sorted((len(raw), raw, key) for key in value for raw in [utf8(key)])
        for size, raw, key in keys:
            yield _head(_TEXT, size) + raw
            yield from _parts(value[key], depth + 1)
    else:
        yield _scalar(value)


def _scalar(value: bool | int | float | str | bytes | Cid | None) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if isinstance(value, int):
        return _head(_UINT, value) if value >= 0 else _head(_NINT, -1 - value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BlockError("floats of DAG-CBOR are finite")
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, Cid):
        return _head(_TAG, _LINK_TAG) + _head(_BYTES, len(value.raw) + 1) + b"\x00" + value.raw
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    text = utf8(value)
    return _head(_TEXT, len(text)) + text


def _head(kind: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([kind << 5 | argument])
    for width in (1, 2, 4, 8):
        if argument < 1 << (8 * width):
            short = 23 + width.bit_length()
            return bytes([kind << 5 | short]) + argument.to_bytes(width, "big")
    raise BlockError("integers of IPLD have 64 bits")


def utf8(text: str) -> bytes:
    """The bytes of a text. Raises BlockError for one that has none."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise BlockError("text is UTF-8") from None
