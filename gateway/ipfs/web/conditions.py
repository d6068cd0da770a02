"""Conditional and range headers (RFC 9110 §13, §14). Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

RANGES_MAX = 16
_RANGE = re.compile(rb"\s*([0-9]{0,19})-([0-9]{0,19})\s*")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes [start, end), not empty."""

    start: int
    end: int

    def content_range(self, size: int) -> str:
        """The Content-Range header of this part of `size` bytes."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


class Unsatisfiable(Exception):
    """416: every range starts behind the end."""


def parse_ranges(header: bytes, size: int) -> list[ByteRange]:
    """The ranges of a Range header, in order; none where the whole is to be sent.

    As RFC 9110 §14.2 allows, the whole answers what is malformed, more than RANGES_MAX ranges, and
    ranges that together are longer than the whole. Raises Unsatisfiable.
    """
    unit, _, text = header.partition(b"=")
    items = text.split(b",", RANGES_MAX)
    if unit.strip().lower() != b"bytes" or len(items) > RANGES_MAX:
        return []
    found: list[ByteRange] = []
    for item in items:
        match = _RANGE.fullmatch(item)
        if match is None or not (match[1] or match[2]):
            return []
        if match[1]:
            start = int(match[1])
            end = int(match[2]) + 1 if match[2] else size
            if match[2] and end <= start:
                return []
        else:
            start, end = max(0, size - int(match[2])), size
        if start < min(end, size):
            found.append(ByteRange(start, min(end, size)))
    if not found:
        raise Unsatisfiable
    is_long = len(found) > 1 and sum(part.end - part.start for part in found) > size
    return [] if is_long else found


def etag_matches(header: bytes, etags: Sequence[str]) -> bool:
    """If-None-Match, weak comparison (RFC 9110 §13.1.2)."""
    if not header:
        return False
    for item in header.decode("latin-1").split(",")[:64]:
        tag = item.strip()
        if tag == "*" or tag.removeprefix("W/") in {t.removeprefix("W/") for t in etags}:
            return True
    return False


def http_date(seconds: int) -> str | None:
    """Seconds since 1970 as a date of HTTP; None for what it cannot say."""
    try:
        return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)
    except (OverflowError, OSError, ValueError):
        return None


def is_unmodified(header: bytes, seconds: int) -> bool:
    """If-Modified-Since: whether what changed at `seconds` did not change since."""
    try:
        since = parsedate_to_datetime(header.decode("latin-1"))
        return seconds <= since.replace(tzinfo=since.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return False
