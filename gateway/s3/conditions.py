"""If-* headers: on reads in the order of RFC 9110 §13.2.2, on writes and on copy sources. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

from gateway.errors import InvalidArgument, NotImplementedHere, PreconditionFailed
from gateway.model import WriteCondition

ANY = WriteCondition()
_SIZE, _TIME = "x-amz-if-match-size", "x-amz-if-match-last-modified-time"
_READ_NAMES = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")


@lru_cache(maxsize=1024)
def http_seconds(text: str) -> int | None:
    """Seconds of an HTTP date, None if it is none (the header is then ignored)."""
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


def names_etag(value: str, etag: str) -> bool:
    """Whether a list of entity tags (quoted, weak or bare, or `*`) names `etag`."""
    return any(
        tag == "*" or tag.removeprefix("W/").strip('"') == etag
        for tag in (part.strip() for part in value.split(","))
    )


def failed(name: str) -> PreconditionFailed:
    """The 412 that names its header as AWS does."""
    return PreconditionFailed(Condition=name)


def check_read(headers: Mapping[str, str], etag: str, modified: int, prefix: str = "") -> bool:
    """Judge a read of a version; `modified` in seconds.

    True: go on. False: answer 304. Raises PreconditionFailed. `prefix` "x-amz-copy-source-" judges
    a copy's source: the caller turns False into 412.
    """
    match = headers.get(f"{prefix}if-match")
    if match is not None:
        if not names_etag(match, etag):
            raise failed(f"{prefix}If-Match")
    elif (since := headers.get(f"{prefix}if-unmodified-since")) is not None:
        limit = http_seconds(since)
        if limit is not None and modified > limit:
            raise failed(f"{prefix}If-Unmodified-Since")
    none_match = headers.get(f"{prefix}if-none-match")
    if none_match is not None:
        return not names_etag(none_match, etag)
    if (since := headers.get(f"{prefix}if-modified-since")) is not None:
        limit = http_seconds(since)
        return limit is None or modified > limit
    return True


def check_copy_source(headers: Mapping[str, str], etag: str, modified: int) -> None:
    """x-amz-copy-source-if-*. Raises PreconditionFailed."""
    prefix = "x-amz-copy-source-"
    if not check_read(headers, etag, modified, prefix):
        raise failed(f"{prefix}If-None-Match")


def range_applies(headers: Mapping[str, str], etag: str, modified: int) -> bool:
    """If-Range: whether the Range header still counts."""
    value = headers.get("if-range")
    if value is None:
        return True
    if value.startswith('"'):
        return value.strip('"') == etag
    return http_seconds(value) == modified


def is_conditional(headers: Mapping[str, str]) -> bool:
    """Whether a read has any If-* header."""
    return any(name in headers for name in _READ_NAMES)


def delete_condition(headers: Mapping[str, str]) -> WriteCondition:
    """`write_condition` of a DELETE, which may also say a size and a time.

    Raises NotImplementedHere, InvalidArgument.
    """
    condition = write_condition(headers)
    size, time = headers.get(_SIZE), headers.get(_TIME)
    if size is None and time is None:
        return condition
    return of_one(condition.if_match, size, time)


def of_one(etag: str | None, size: str | None, time: str | None) -> WriteCondition:
    """What a deletion says of its object, as text. Raises InvalidArgument."""
    if size is not None and not (size.isascii() and size.isdigit() and len(size) <= 18):
        raise InvalidArgument(ArgumentName=_SIZE, ArgumentValue=size)
    seconds = None
    if time is not None:
        seconds = http_seconds(time)
        if seconds is None:
            seconds = _iso_seconds(time)
        if seconds is None:
            raise InvalidArgument(ArgumentName=_TIME, ArgumentValue=time)
    return WriteCondition(
        if_match=None if etag is None else etag.strip().strip('"'),
        size=None if size is None else int(size),
        modified=seconds,
    )


def _iso_seconds(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def write_condition(headers: Mapping[str, str]) -> WriteCondition:
    """If-Match and If-None-Match of a write: one entity tag, or `*`.

    AWS takes only `*` of If-None-Match; a tag means what RFC 9110 says: the latest version has
    another one, or there is none. Raises NotImplementedHere for lists of tags.
    """
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is None and none_match is None:
        return ANY
    if none_match is not None and "," in none_match:
        raise NotImplementedHere(Header="If-None-Match")
    return WriteCondition(
        if_match=None if match is None else match.strip().strip('"'),
        if_none_match=None if none_match is None else none_match.strip().strip('"'),
    )
