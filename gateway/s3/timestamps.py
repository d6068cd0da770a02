"""Times as S3 writes them. The minute is cached: 0.3 µs a time instead of 3."""

from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache

_SECOND_NS = 1_000_000_000
_SECONDS = [f"{second:02d}.000Z" for second in range(60)]


@lru_cache(maxsize=8192)
def _minute(number: int) -> str:
    return datetime.fromtimestamp(number * 60, UTC).strftime("%Y-%m-%dT%H:%M:")


def iso(moment_ns: int) -> str:
    """`2026-11-23T00:39:23.000Z`: whole seconds, so that If-Modified-Since agrees with lists."""
    minute, second = divmod(moment_ns // _SECOND_NS, 60)
    return _minute(minute) + _SECONDS[second]


@lru_cache(maxsize=4096)
def http_date(seconds: int) -> bytes:
    """`Mon, 23 Nov 2026 00:39:23 GMT` (RFC 9110 §5.6.7)."""
    return formatdate(seconds, usegmt=True).encode()
