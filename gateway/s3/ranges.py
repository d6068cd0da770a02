"""The Range header as S3 reads it: one byte range, or the whole object. Pure (RFC 9110 §14)."""

import re

from gateway.errors import InvalidArgument, InvalidRange
from gateway.s3.errors import CopyRangeOutside

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.IGNORECASE)
_COPY_RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{1,19})")


def parse_range(value: str | None, size: int) -> tuple[int, int] | None:
    """[start, end) of an object of `size` bytes; None: answer with all of it.

    Several ranges, other units and bad syntax are ignored, as on AWS. Raises InvalidRange.
    """
    if value is None:
        return None
    match = _RANGE.fullmatch(value)
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise InvalidRange(RangeRequested=value, ActualObjectSize=str(size))
    return start, end


def parse_copy_range(value: str, size: int) -> tuple[int, int]:
    """x-amz-copy-source-range: both ends must be given and lie inside.

    Raises InvalidArgument, CopyRangeOutside.
    """
    match = _COPY_RANGE.fullmatch(value)
    if match is None or int(match.group(1)) > int(match.group(2)):
        raise InvalidArgument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=value,
        )
    start, end = int(match.group(1)), int(match.group(2)) + 1
    if end > size:
        raise CopyRangeOutside(
            f"Range specified is not valid for source object of size: {size}",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=value,
        )
    return start, end
