"""Conditional and range headers (RFC 9110 §13, §14). Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes [start, end) of `size`."""

    start: int
    end: int
    size: int


class Unsatisfiable(Exception):
    """416: the range starts behind the end."""


def parse_range(header: bytes, size: int) -> ByteRange | None:
    """The one range of a Range header; None where the whole is to be sent (RFC 9110 §14.2).

    Several ranges at once are answered by the whole, as §14.2 allows. Raises Unsatisfiable.
    """
    match = re.fullmatch(rb"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*", header)
    if match is None or (not match[1] and not match[2]):
        return None
    if not match[1]:
        length = int(match[2])
        if length == 0 or size == 0:
            raise Unsatisfiable
        return ByteRange(max(0, size - length), size, size)
    start = int(match[1])
    end = int(match[2]) + 1 if match[2] else max(size, start + 1)
    if end <= start:
        return None
    if start >= size:
        raise Unsatisfiable
    return ByteRange(start, min(end, size), size)


def etag_matches(header: bytes, etags: Sequence[str]) -> bool:
    """If-None-Match, weak comparison (RFC 9110 §13.1.2)."""
    if not header:
        return False
    for item in header.decode("latin-1").split(",")[:64]:
        tag = item.strip()
        if tag == "*" or tag.removeprefix("W/") in {t.removeprefix("W/") for t in etags}:
            return True
    return False
