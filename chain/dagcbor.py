"""Canonical DAG-CBOR (https://ipld.io/specs/codecs/dag-cbor/spec/).

libipld writes any byte string that is a binary CID as a link (tag 42) and reads links back as
bytes, so a Python value has exactly one encoding. `decode` accepts only that one: whatever does
not encode back to itself is refused, so two byte strings never mean the same thing.
"""

from typing import Any

import libipld

DEPTH_MAX = 32


class NotCanonical(ValueError):
    """The bytes are not DAG-CBOR, or not the canonical form of their value."""


def encode(value: Any) -> bytes:
    """Return the canonical bytes of `value` (None, bool, int, str, bytes, list, dict)."""
    encoded: bytes = libipld.encode_dag_cbor(value)
    return encoded


def decode(data: bytes) -> Any:
    """Return the value of canonical `data`. Raises NotCanonical."""
    try:
        value = libipld.decode_dag_cbor(data)
        if _depth(value) > DEPTH_MAX or libipld.encode_dag_cbor(value) != data:
            raise NotCanonical("not canonical DAG-CBOR")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise NotCanonical(str(error)) from None
    return value


def _depth(value: Any) -> int:
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        deepest = max(deepest, depth)
        if depth > DEPTH_MAX:
            break
        if isinstance(item, dict):
            waiting.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            waiting.extend((child, depth + 1) for child in item)
    return deepest
