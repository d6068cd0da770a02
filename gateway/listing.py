"""Listing keys: cost follows what is returned.

A delimiter seeks: once a common prefix was found, the scan goes on behind everything that starts
with it, so a prefix of a million keys costs one seek. Only the first fields of a row are decoded.
"""

from collections.abc import Callable
from functools import partial

from gateway.catalog.interface import Reader, Space
from gateway.model import CLASSED, FOREIGN, Attributes, Bucket, Listing, ObjectVersion
from gateway.records import ClassedRow, ListedRow, VersionRow, decode, decode_listed
from gateway.versions import attributes_of, text_key, to_checksum

# A scan under a delimiter may hit a common prefix at once: begin small, grow while keys come.
FIRST_SCAN = 16
_ATTRIBUTES = Attributes()
LIMIT_MAX = 1000


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key behind all that start with `prefix`; None if there is no such key."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def list_page(
    reader: Reader, bucket: Bucket, prefix: bytes, delimiter: bytes, start: bytes, limit: int
) -> Listing:
    """One page of latest versions with key >= start."""
    listing = Listing([], [], None)
    if limit <= 0:
        return listing
    end = after_prefix(bucket.id + prefix)
    at: bytes | None = bucket.id + max(start, prefix)
    left, step = limit, FIRST_SCAN if delimiter else limit + 1
    read = row_reader(bucket)
    while at is not None and (end is None or at < end):
        rows = reader.scan(Space.LIVE, at, end, min(step, left + 1))
        if not rows:
            break
        at = rows[-1][0] + b"\x00"
        for key, value in rows:
            name = key[16:]
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if left == 0:
                return Listing(listing.objects, listing.common_prefixes, name)
            left -= 1
            if cut >= 0:
                common = name[: cut + len(delimiter)]
                listing.common_prefixes.append(text_key(common))
                at = after_prefix(bucket.id + common)
                step = FIRST_SCAN
                break
            listing.objects.append(listed(bucket, name, read(value)))
        else:
            step = min(2 * step, LIMIT_MAX)
    return listing


def _attributes(row: ListedRow) -> Attributes:
    if isinstance(row, VersionRow):
        return attributes_of(row)
    return Attributes(headers=row.headers) if isinstance(row, ClassedRow) else _ATTRIBUTES


def row_reader(bucket: Bucket) -> Callable[[bytes], ListedRow]:
    """Reads what lists need of a row: as few fields as show what the bucket's objects have."""
    if FOREIGN in bucket.settings:
        return partial(decode, VersionRow)
    return partial(decode, ClassedRow) if CLASSED in bucket.settings else decode_listed


def listed(bucket: Bucket, key: bytes, row: ListedRow) -> ObjectVersion:
    """What lists show of a version."""
    attributes = _ATTRIBUTES if type(row) is ListedRow else _attributes(row)
    return ObjectVersion(
        bucket,
        key.decode("utf-8", "surrogateescape"),
        row.version,
        row.sequence,
        row.size,
        row.etag,
        row.modified_ns,
        attributes,
        b"",
        row.profile,
        to_checksum(row.checksum) if row.checksum else None,
        row.uid,
        (),
        row.cid if bucket.publishes else None,
    )
