"""DAG-JSON (https://ipld.io/specs/codecs/dag-json/spec/), and plain JSON as far as it is IPLD.

A link is {"/": "CID"}, bytes are {"/": {"bytes": "base64 without padding"}}; other maps whose key
"/" has such a value are reserved: neither read nor written. `encode` writes the one canonical
form (keys sorted by their bytes, no white space); `decode` takes white space and any order.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from chain.cids import Cid, InvalidCid
from gateway.ipfs.codecs.cbor import utf8
from gateway.ipfs.codecs.data_model import DEPTH_MAX, ITEMS_MAX, Value
from gateway.ipfs.errors import BlockError

_INTEGER_MIN, _INTEGER_MAX = -(1 << 64), (1 << 64) - 1
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
# A number of more digits is refused before it is computed.
_DIGITS_MAX = 400


def decode(block: bytes, *, links: bool = True) -> Value:
    """The value of a block; `links` false reads plain JSON. Raises BlockError."""
    try:
        value: Value = json.loads(
            block.decode("utf-8"),
            object_pairs_hook=_dag_map if links else _plain_map,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_no_constant,
        )
    except BlockError:
        raise
    except (ValueError, RecursionError):
        raise BlockError("a block is not JSON") from None
    _check(value)
    return value


def _check(value: Value) -> None:
    """Depth, number of items, and that texts are UTF-8. Raises BlockError."""
    count = 0
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        count += 1
        if depth > DEPTH_MAX or count > ITEMS_MAX:
            raise BlockError("a JSON block of too many or too deep items")
        if isinstance(item, str):
            utf8(item)
        elif isinstance(item, list):
            waiting += [(child, depth + 1) for child in item]
        elif isinstance(item, dict):
            for key in item:
                utf8(key)
            waiting += [(child, depth + 1) for child in item.values()]


def _plain_map(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BlockError("keys of a JSON map differ")
    return found


def _dag_map(pairs: list[tuple[str, Any]]) -> Any:
    found = _plain_map(pairs)
    if "/" not in found or not _is_reserved(found):
        return found
    inner = found["/"]
    if len(found) != 1 or (isinstance(inner, dict) and len(inner) != 1):
        raise BlockError('a map whose key "/" looks like a link or bytes has no other key')
    if isinstance(inner, str):
        try:
            return Cid.parse(inner)
        except InvalidCid as error:
            raise BlockError(f"a link: {error}") from None
    return _bytes(inner["bytes"])


def _is_reserved(value: dict[str, Any]) -> bool:
    """Whether a map with the key "/" can be nothing but a link or bytes."""
    inner = value["/"]
    return isinstance(inner, str) or (
        isinstance(inner, dict) and isinstance(inner.get("bytes"), str)
    )


def _bytes(text: str) -> bytes:
    try:
        if not _BASE64.fullmatch(text):
            raise BlockError("bytes in DAG-JSON are base64 without padding")
        found = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise BlockError("bytes in DAG-JSON are base64 without padding") from None
    return found


def _integer(text: str) -> int:
    number = int(text) if len(text) <= _DIGITS_MAX else 1 << 65
    if not _INTEGER_MIN <= number <= _INTEGER_MAX:
        raise BlockError("integers of IPLD have 64 bits")
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BlockError("floats of IPLD are finite")
    return number


def _no_constant(name: str) -> Value:
    raise BlockError(f"JSON has no {name}")


def encode(value: Value, *, links: bool = True) -> bytes:
    """The canonical block; `links` false: plain JSON. Raises BlockError for what it cannot say."""
    return "".join(_parts(value, 0, links)).encode("utf-8")


def _parts(value: Value, depth: int, links: bool) -> Iterator[str]:
    if depth > DEPTH_MAX:
        raise BlockError("a value is too deep")
    if isinstance(value, list):
        yield "["
        for number, item in enumerate(value):
            if number:
                yield ","
            yield from _parts(item, depth + 1, links)
        yield "]"
    elif isinstance(value, dict):
        if links and "/" in value and _is_reserved(value):
            raise BlockError('DAG-JSON keeps maps with the key "/" for links and bytes')
        mark = "{"
        for _, key in sorted((utf8(key), key) for key in value):
            yield f"{mark}{_text(key)}:"
            yield from _parts(value[key], depth + 1, links)
            mark = ","
        yield "}" if value else "{}"
    elif isinstance(value, bytes | Cid):
        if not links:
            raise BlockError("JSON has no links and no bytes")
        yield _extended(value)
    else:
        yield _text(value) if isinstance(value, str) else _literal(value)


def _literal(value: bool | int | float | None) -> str:
    if isinstance(value, int) and not _INTEGER_MIN <= value <= _INTEGER_MAX:
        raise BlockError("integers of IPLD have 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise BlockError("floats of IPLD are finite")
    return json.dumps(value)


def _extended(value: bytes | Cid) -> str:
    if isinstance(value, Cid):
        return f'{{"/":"{value}"}}'
    text = base64.b64encode(value).decode("ascii").rstrip("=")
    return f'{{"/":{{"bytes":"{text}"}}}}'


def _text(text: str) -> str:
    utf8(text)
    return json.dumps(text, ensure_ascii=False)
