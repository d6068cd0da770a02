"""The versions of a key in order: what a write puts first, a delete hides, a removal brings back.

Rule 1: LIVE is the latest version; a key whose latest version is a delete marker has no LIVE row.
Rule 2: everything else of a key is in VERSIONS, newest first, and older than what LIVE has.
Rule 3: HEADS says what would take a search: where the null version is, and the marker in front.
Rule 4: whatever changes which version is the latest changes LIVE or HEADS. Who holds on both rows
        holds on the order of all versions.
In a bucket without versioning there is the LIVE row alone, and nothing else is read or written.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gateway.catalog.interface import Reader, Space
from gateway.errors import (
    InvalidArgument,
    KeyDeleted,
    MarkerNamed,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
)
from gateway.events.noting import note
from gateway.events.rules import Change
from gateway.listing import after_prefix
from gateway.model import (
    ENABLED,
    Attributes,
    Bucket,
    Deletion,
    ObjectVersion,
    Standing,
    WriteCondition,
)
from gateway.records import (
    BucketRow,
    HeadRow,
    VersionRow,
    decode,
    decode_kept,
    decode_version,
    encode,
    live_key,
    sequence_of,
    version_id,
    version_key,
    versions_prefix,
)
from gateway.store import Store
from gateway.transaction import Transaction
from gateway.versions import (
    NULL,
    attributes_of,
    bucket_row,
    judge,
    live_row,
    object_key,
    publish,
    put_live,
    remove,
    report,
    stored_version,
    text_key,
    to_version,
    unpublish,
)

_NOTHING = HeadRow(0, 0)


class Found(NamedTuple):
    """A version where it lies; `row` is whole, also where `raw` is a LIVE row that is not."""

    space: Space
    place: bytes
    raw: bytes
    row: VersionRow


# ---------------------------------------------------------------- reading
def find(reader: Reader, bucket: Bucket, key: str, version: str | None) -> ObjectVersion:
    """The latest or the named version.

    Raises NoSuchKey, KeyDeleted, NoSuchVersion, MarkerNamed, InvalidArgument.
    """
    found = _visible(reader, bucket, object_key(key), version)
    return stored_version(bucket, key, found.raw, found.row)


def _visible(reader: Reader, bucket: Bucket, key: bytes, version: str | None) -> Found:
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
        head = _head(reader.get(Space.HEADS, live_key(bucket.id, key)))
        marker = head.marker and _kept(reader, bucket, key, head.marker)
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
        sequence = _head(reader.get(Space.HEADS, live_key(bucket.id, key))).null
    found = _kept(reader, bucket, key, sequence) if sequence else None
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


def _kept(reader: Reader, bucket: Bucket, key: bytes, sequence: int) -> Found | None:
    """What VERSIONS has under a sequence."""
    place = version_key(bucket.id, key, sequence)
    raw = reader.get(Space.VERSIONS, place)
    return None if raw is None else Found(Space.VERSIONS, place, raw, decode_version(raw))


def _head(raw: bytes | None) -> HeadRow:
    return _NOTHING if raw is None else decode(HeadRow, raw)


# ---------------------------------------------------------------- writing
class History:
    """One key's versions in a transaction's snapshot, and the one step that it makes with them."""

    def __init__(self, store: Store, transaction: Transaction, bucket: Bucket, key: bytes) -> None:
        """Holds on the bucket's row and on the order of the key's versions. Raises NoSuchBucket."""
        reader = transaction.reader
        held = bucket_row(reader, bucket)
        transaction.expect(Space.BUCKETS, bucket.name.encode(), held)
        self._store, self._transaction, self._bucket, self._key = store, transaction, bucket, key
        self._state = decode_kept(BucketRow, held).versioning
        self._place = live_key(bucket.id, key)
        self.raw, self.live = live_row(reader, bucket, key)
        transaction.expect(Space.LIVE, self._place, self.raw)
        self._head = _NOTHING
        self._head_raw: bytes | None = None
        if self._state:
            self._head_raw = reader.get(Space.HEADS, self._place)
            transaction.expect(Space.HEADS, self._place, self._head_raw)
            self._head = _head(self._head_raw)

    def push(self, row: VersionRow, receipts: tuple[bytes, ...]) -> ObjectVersion:
        """Make `row` the latest version, under a name and a sequence of its own."""
        null, _ = self._make_way()
        row = self._tell(self._next(row), Change.CREATED)
        self._settle(null, 0)
        whole = put_live(self._transaction, self._bucket, self._key, row)
        report(self._store, self._transaction, self._bucket, row, "put", receipts)
        return to_version(self._bucket, text_key(self._key), row, whole)

    def hide(self) -> Deletion | None:
        """Delete the key: without versioning what there is goes, else a delete marker comes."""
        if not self._state:
            if self.raw is None or self.live is None:
                return None
            removed = self._seen(self.raw, self.live)
            self._transaction.delete(Space.LIVE, self._place)
            self._remove(self.live)
            self._tell(self.live, Change.REMOVED)
            return Deletion(removed)
        null, removed_null = self._make_way()
        if self.raw is not None:
            self._transaction.delete(Space.LIVE, self._place)
        row = self._next(_marker(self._store))
        raw = encode(row)
        place = version_key(self._bucket.id, self._key, row.sequence)
        self._transaction.put(Space.VERSIONS, place, raw)
        self._settle(row.sequence if row.version == NULL else null, row.sequence)
        self._tell(row, Change.MARKED)
        return Deletion(removed_null, self._seen(raw, row))

    def erase(self, found: Found, *, bypass: bool = False) -> Deletion:
        """Remove a version for good; what was before it is the latest again if it was the latest.

        Raises AccessDenied while it is locked.
        """
        row = found.row
        seen = self._seen(found.raw, row)
        null = 0 if row.version == NULL else self._head.null
        if found.space is Space.LIVE:
            self._transaction.delete(Space.LIVE, self._place)
        else:
            self._transaction.expect(found.space, found.place, found.raw)
        self._remove(row, bypass=bypass)
        marker = self._head.marker
        if self._state and row.sequence == (self.live.sequence if self.live else marker):
            null, marker = self._bring_back(row.sequence, null)
        self._settle(null, marker)
        self._tell(row, Change.REMOVED)
        return Deletion(removed=seen)

    def named(self, version: str) -> Found | None:
        """The version of this name, delete markers too. Raises InvalidArgument."""
        return named(self._transaction.reader, self._bucket, self._key, version)

    @property
    def hidden(self) -> bool:
        """Whether the latest version is a delete marker."""
        return bool(self._head.marker)

    def stands(self, row: VersionRow, standing: Standing) -> bool:
        """Whether a version of this key is this among them."""
        latest = row.sequence == (self.live.sequence if self.live else self._head.marker)
        if standing is Standing.ALONE:
            return latest and not self._older(row.sequence)
        return latest is (standing is Standing.LATEST)

    # ------------------------------------------------------------ the parts of a step
    def _next(self, row: VersionRow) -> VersionRow:
        """With the sequence behind all others, and the name that belongs to it."""
        latest = self.live.sequence if self.live else self._head.marker
        sequence = max(self._store.clock.now_ns(), latest + 1 if latest else 0)
        name = version_id(sequence, row.uid) if self._state == ENABLED else NULL
        return msgspec.structs.replace(row, sequence=sequence, version=name)

    def _make_way(self) -> tuple[int, ObjectVersion | None]:
        """What is the latest stays behind as a version, or goes if a null one takes its place.

        The sequence of the null version then, and the version that went.
        """
        live, null = self.live, self._head.null
        replaces = self._state != ENABLED
        if live is not None and live.version == NULL and replaces:
            removed = self._seen(self.raw, live) if self._state and self.raw else None
            self._remove(live)
            return 0, removed
        if live is not None:
            self._shelve(live)
            null = live.sequence if live.version == NULL else null
        return self._drop(null) if null and replaces else (null, None)

    def _drop(self, null: int) -> tuple[int, ObjectVersion | None]:
        """The null version behind the latest goes: another one comes."""
        found = _kept(self._transaction.reader, self._bucket, self._key, null)
        assert found is not None, "HEADS names a version that is there"
        self._transaction.expect(found.space, found.place, found.raw)
        self._remove(found.row)
        return 0, None if found.row.deleted else self._seen(found.raw, found.row)

    def _shelve(self, row: VersionRow) -> None:
        """From LIVE to VERSIONS. What is not the latest is not on IPFS."""
        unpublish(self._store, self._transaction, self._bucket, self._key, row)
        place = version_key(self._bucket.id, self._key, row.sequence)
        kept = msgspec.structs.replace(row, cid=None)
        self._transaction.put(Space.VERSIONS, place, encode(kept))

    def _bring_back(self, below: int, null: int) -> tuple[int, int]:
        """Make the next older version the latest; (null, marker) for HEADS."""
        older = self._older(below)
        if not older:
            return null, 0
        place, raw = older[0]
        self._transaction.expect(Space.VERSIONS, place, raw)
        row = decode_version(raw)
        if row.deleted:
            return null, row.sequence
        self._transaction.delete(Space.VERSIONS, place)
        key = text_key(self._key)
        row = publish(self._store, self._transaction, self._bucket, key, row, None)
        put_live(self._transaction, self._bucket, self._key, row)
        return (0 if row.version == NULL else null), 0

    def _older(self, below: int) -> list[tuple[bytes, bytes]]:
        """The VERSIONS row of the next version with a smaller sequence, if there is one."""
        start = version_key(self._bucket.id, self._key, below) + b"\x00"
        end = after_prefix(versions_prefix(self._bucket.id, self._key))
        return self._transaction.reader.scan(Space.VERSIONS, start, end, 1)

    def _settle(self, null: int, marker: int) -> None:
        """Write HEADS if it has changed."""
        if (null, marker) == (self._head.null, self._head.marker):
            return
        if null or marker:
            self._transaction.put(Space.HEADS, self._place, encode(HeadRow(null, marker)))
        else:
            self._transaction.delete(Space.HEADS, self._place)

    def _remove(self, row: VersionRow, *, bypass: bool = False) -> None:
        remove(self._store, self._transaction, self._bucket, self._key, row, bypass=bypass)

    def _tell(self, row: VersionRow, change: Change) -> VersionRow:
        """The version as it is to be stored, once those who want to know of it are told."""
        if not self._bucket.watched:
            return row
        key = text_key(self._key)
        return note(self._store, self._transaction, self._bucket, key, row, change)

    def _seen(self, raw: bytes, row: VersionRow) -> ObjectVersion:
        return stored_version(self._bucket, text_key(self._key), raw, row)


def _marker(store: Store) -> VersionRow:
    """A delete marker: a version without an ETag and without content."""
    return VersionRow(
        version=NULL,
        sequence=0,
        size=0,
        stored_etag="",
        modified_ns=store.clock.now_ns(),
        profile="",
        checksum=None,
        uid=store.new_id(),
        cid=None,
        fid=b"",
        content_type="",
        headers={},
        metadata={},
        generation=0,
        key=b"",
        lease=b"",
        charged=0,
        complete=True,
        upload=b"",
        streams=(),
        parts=(),
    )


# ---------------------------------------------------------------- commits
def insert(  # noqa: PLR0917 - the order of a sentence
    store: Store,
    transaction: Transaction,
    bucket: Bucket,
    key: bytes,
    row: VersionRow,
    condition: WriteCondition,
    receipts: tuple[bytes, ...] = (),
) -> ObjectVersion:
    """Make `row` the key's latest version; the caller adds the row's own streams and charges.

    Raises NoSuchBucket, PreconditionFailed, NoSuchKey (see `judge`).
    """
    history = History(store, transaction, bucket, key)
    judge(condition, history.live)
    return history.push(row, receipts)


def delete(
    store: Store,
    transaction: Transaction,
    bucket: Bucket,
    key: bytes,
    version: str | None,
    condition: WriteCondition,
    *,
    bypass: bool,
) -> Deletion | None:
    """Delete a key, or a version of it for good; None if there was nothing to do.

    A condition on a key that was never there holds: there is nothing to lose. On one that a marker
    hides it does not. Raises PreconditionFailed, AccessDenied (locked), InvalidArgument.
    """
    history = History(store, transaction, bucket, key)
    if history.live is not None:
        judge(condition, history.live)
    elif condition.if_match is not None and history.hidden:
        raise PreconditionFailed
    if version is None:
        return history.hide()
    found = history.named(version)
    return None if found is None else history.erase(found, bypass=bypass)


def expire(
    store: Store, transaction: Transaction, version: ObjectVersion, standing: Standing
) -> Deletion | None:
    """See ObjectService.expire."""
    history = History(store, transaction, version.bucket, object_key(version.key))
    found = history.named(version.version_id)
    if found is None or found.row.uid != version.uid or not history.stands(found.row, standing):
        return None
    if standing is Standing.LATEST:
        return None if found.row.deleted else history.hide()
    return history.erase(found)


def amend(
    store: Store,
    transaction: Transaction,
    bucket: Bucket,
    key: bytes,
    version: str | None,
    change: Callable[[Attributes], Attributes],
) -> ObjectVersion:
    """Give a version other tags or extras. Raises as `find` does."""

    def changed(row: VersionRow) -> VersionRow:
        wanted = change(attributes_of(row))
        return msgspec.structs.replace(row, tags=dict(wanted.tags), extra=wanted.extra)

    return rewrite(store, transaction, bucket, key, version, changed)


def rewrite(
    store: Store,
    transaction: Transaction,
    bucket: Bucket,
    key: bytes,
    version: str | None,
    change: Callable[[VersionRow], VersionRow],
) -> ObjectVersion:
    """Put what `change` makes of a version's row in its place: the same version, the same bytes.

    Raises as `find` does.
    """
    found = _visible(transaction.reader, bucket, key, version)
    transaction.expect(found.space, found.place, found.raw)
    row = change(found.row)
    if row.cid and attributes_of(row).hidden:
        unpublish(store, transaction, bucket, key, row)
        row = msgspec.structs.replace(row, cid=None)
    if bucket.watched:
        row = note(store, transaction, bucket, text_key(key), row, Change.AMENDED)
    if found.space is Space.LIVE:
        whole = put_live(transaction, bucket, key, row)
    else:
        whole = encode(row)
        transaction.put(found.space, found.place, whole)
    return to_version(bucket, text_key(key), row, whole)
