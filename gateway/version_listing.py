"""Listing versions and delete markers: LIVE and VERSIONS merged in the order of their keys.

Of each key the latest comes first. Cost follows what is returned: both keyspaces are read in steps
that begin small under a delimiter, and a common prefix is left behind with one seek in each.
"""

from collections.abc import Iterator

import msgspec

from gateway.catalog.interface import Reader, Space
from gateway.finding import named
from gateway.listing import FIRST_SCAN, LIMIT_MAX, after_prefix, listed, row_reader
from gateway.model import Bucket, Position, VersionListing
from gateway.records import (
    ListedRow,
    decode_listed,
    escape,
    live_key,
    parse_version_key,
    sequence_of,
    version_key,
    versions_prefix,
)
from gateway.versions import text_key


def list_versions_page(
    reader: Reader, bucket: Bucket, prefix: bytes, delimiter: bytes, start: Position, limit: int
) -> VersionListing:
    """One page of versions from `start` on."""
    page = VersionListing([], [], None)
    at: Position | None = start if start.key >= prefix else Position(prefix)
    while at is not None and limit > 0:
        at = _gather(_Merge(reader, bucket, prefix, at), page, delimiter, limit)
        if page.next_start is not None:
            break
    return page


def _gather(merge: "_Merge", page: VersionListing, delimiter: bytes, limit: int) -> Position | None:
    """Fill the page up to a common prefix; where to go on behind that, None when all is done."""
    # One more tells that there are more, and the merge looks one ahead.
    step = FIRST_SCAN if delimiter else limit + 2 - _count(page)
    for key, row, newer_ns in merge.rows(step):
        cut = key.find(delimiter, len(merge.prefix)) if delimiter else -1
        if _count(page) >= limit:
            here = Position(key, row.sequence + 1, newer_ns)
            page.next_start = here if newer_ns else Position(key)
            return None
        if cut >= 0:
            common = key[: cut + len(delimiter)]
            page.common_prefixes.append(text_key(common))
            behind = after_prefix(common)
            return None if behind is None else Position(behind)
        version = listed(merge.bucket, key, row)
        if newer_ns:
            version = msgspec.structs.replace(version, superseded_ns=newer_ns)
        page.versions.append(version)
    return None


def _count(page: VersionListing) -> int:
    return len(page.versions) + len(page.common_prefixes)


class _Merge:
    """The versions from a position on."""

    def __init__(self, reader: Reader, bucket: Bucket, prefix: bytes, start: Position) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._reader = reader
        self._read = row_reader(bucket)
        self._start = start

    def rows(self, step: int) -> Iterator[tuple[bytes, ListedRow, int]]:
        """(key, version, modified_ns of the next newer one or 0), by key, the newest first."""
        live, kept = self._live(step), self._kept(step)
        newest, older = next(live, None), next(kept, None)
        last, newer_ns = b"", 0
        if self._start.below is not None:
            last, newer_ns = self._start.key, self._newer()
        sequence = -1
        while newest is not None or older is not None:
            if older is None or (newest is not None and newest[0] <= older[0]):
                assert newest is not None
                (key, row), newest = newest, next(live, None)
            else:
                (key, row), older = older, next(kept, None)
                if key == last and row.sequence == sequence:
                    continue  # the whole row of the LIVE one
            if key != last:
                last, newer_ns = key, 0
            sequence = row.sequence
            yield key, row, newer_ns
            newer_ns = row.modified_ns

    def _live(self, step: int) -> Iterator[tuple[bytes, ListedRow]]:
        key, below = self._start.key, self._start.below
        end = after_prefix(self.bucket.id + self.prefix)
        for place, raw in self._scan(Space.LIVE, live_key(self.bucket.id, key), end, step):
            row = self._read(raw)
            if below is None or place[16:] != key or row.sequence < below:
                yield place[16:], row

    def _kept(self, step: int) -> Iterator[tuple[bytes, ListedRow]]:
        key, below = self._start.key, self._start.below
        if below is None:
            at = self.bucket.id + escape(key)
        else:
            at = version_key(self.bucket.id, key, below - 1)
        end = after_prefix(self.bucket.id + escape(self.prefix))
        for place, raw in self._scan(Space.VERSIONS, at, end, step):
            yield parse_version_key(place)[0], self._read(raw)

    def _scan(
        self, space: Space, start: bytes, end: bytes | None, step: int
    ) -> Iterator[tuple[bytes, bytes]]:
        step = max(2, min(step, LIMIT_MAX + 2))
        while end is None or start < end:
            rows = self._reader.scan(space, start, end, step)
            yield from rows
            if len(rows) < step:
                return
            start = rows[-1][0] + b"\x00"
            step = min(2 * step, LIMIT_MAX + 2)

    def _newer(self) -> int:
        """When the version in front of a position inside a key came."""
        start = self._start
        if start.superseded_ns or start.below is None:
            return start.superseded_ns
        first = versions_prefix(self.bucket.id, start.key)
        before = version_key(self.bucket.id, start.key, start.below - 1)
        found = self._reader.scan(Space.VERSIONS, first, before, 1, reverse=True)
        if found:
            return decode_listed(found[0][1]).modified_ns
        raw = self._reader.get(Space.LIVE, live_key(self.bucket.id, start.key))
        row = None if raw is None else decode_listed(raw)
        return row.modified_ns if row is not None and row.sequence >= start.below else 0


def position_behind(reader: Reader, bucket: Bucket, key: bytes, version: str | None) -> Position:
    """Behind a version of a key, whether or not it is still there; None: behind all of the key's.

    Where a version called null was that is not there now, the key begins again: nothing is left
    out. Raises InvalidArgument.
    """
    if version is None:
        return Position(key + b"\x00")
    found = named(reader, bucket, key, version)
    sequence = found.row.sequence if found is not None else sequence_of(version)
    if sequence is None:
        return Position(key)
    return Position(key, sequence) if sequence else Position(key + b"\x00")
