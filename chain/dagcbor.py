"""Canonical DAG-CBOR (https://ipld.io/specs/codecs/dag-cbor/spec/).

libipld writes any byte string that is a binary CID as a link (tag 42) and reads links back as
bytes, so a Python value has exactly one encoding. `decode` accepts only that one: whatever does
not encode back to itself is refused, so two byte strings never mean the same thing.
"""

from typing import Any

import libipld

DEPTH_MAX = 32
_NESTED = (dict, list)


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
        if _is_too_deep(value) or libipld.encode_dag_cbor(value) != data:
            raise NotCanonical("not canonical DAG-CBOR")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise NotCanonical(str(error)) from None
    return value


def _is_too_deep(value: Any) -> bool:
    """Whether anything lies more than DEPTH_MAX levels deep; the value itself is the first."""
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            child
            for item in level
            if isinstance(item, _NESTED)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
