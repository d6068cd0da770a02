"""Finding a version of a key by its name: one look, or two for the one called null."""

from typing import NamedTuple

from gateway.catalog.interface import Reader, Space
from gateway.errors import InvalidArgument, KeyDeleted, MarkerNamed, NoSuchKey, NoSuchVersion
from gateway.model import Bucket, ObjectVersion
from gateway.records import (
    HeadRow,
    VersionRow,
    decode,
    decode_version,
    live_key,
    sequence_of,
    version_key,
)
from gateway.versions import NULL, live_row, object_key, stored_version, text_key

NOTHING = HeadRow(0, 0)


class Found(NamedTuple):
    """A version where it lies; `row` is whole, also where `raw` is a LIVE row that is not."""

    space: Space
    place: bytes
    raw: bytes
    row: VersionRow


def find(reader: Reader, bucket: Bucket, key: str, version: str | None) -> ObjectVersion:
    """The latest or the named version.

    Raises NoSuchKey, KeyDeleted, NoSuchVersion, MarkerNamed, InvalidArgument.
    """
    found = visible(reader, bucket, object_key(key), version)
    return stored_version(bucket, key, found.raw, found.row)


def visible(reader: Reader, bucket: Bucket, key: bytes, version: str | None) -> Found:
    """What `find` finds."""
    if version is not None:
        found = named(reader, bucket, key, version)
        if found is None:
            raise NoSuchVersion(Key=text_key(key), VersionId=version)
        if found.row.deleted:
            raise MarkerNamed(found.row.version, found.row.modified_ns)
        return found
    raw, row = live_row(reader, bucket, key)
    if raw is not None and row is not None:
        return Found(Space.LIVE, live_key(bucket.id, key), raw, row)
    if bucket.versioning:
        head = head_of(reader.get(Space.HEADS, live_key(bucket.id, key)))
        marker = head.marker and kept(reader, bucket, key, head.marker)
        if marker:
            raise KeyDeleted(marker.row.version, marker.row.modified_ns)
    raise NoSuchKey


def named(reader: Reader, bucket: Bucket, key: bytes, version: str) -> Found | None:
    """The version of this name, delete markers too. Raises InvalidArgument."""
    sequence = _sequence(version)
    raw, row = live_row(reader, bucket, key)
    if raw is not None and row is not None and row.version == version:
        return Found(Space.LIVE, live_key(bucket.id, key), raw, row)
    if version == NULL:
        sequence = head_of(reader.get(Space.HEADS, live_key(bucket.id, key))).null
    found = kept(reader, bucket, key, sequence) if sequence else None
    return found if found is not None and found.row.version == version else None


def _sequence(version: str) -> int:
    """Raises InvalidArgument for what can be no version's name."""
    sequence = 0 if version == NULL else sequence_of(version)
    if sequence is None:
        text = "Invalid version id specified" if version else (
            "Version id cannot be the empty string"
        )  # fmt: skip
        raise InvalidArgument(text, ArgumentName="versionId", ArgumentValue=version)
    return sequence


def kept(reader: Reader, bucket: Bucket, key: bytes, sequence: int) -> Found | None:
    """What VERSIONS has under a sequence."""
    place = version_key(bucket.id, key, sequence)
    raw = reader.get(Space.VERSIONS, place)
    return None if raw is None else Found(Space.VERSIONS, place, raw, decode_version(raw))


def head_of(raw: bytes | None) -> HeadRow:
    return NOTHING if raw is None else decode(HeadRow, raw)
