"""The versions of a key in order: what a write puts first, a delete hides, a removal brings back.

Rule 1: LIVE is the latest version; a key whose latest version is a delete marker has no LIVE row.
Rule 2: everything else of a key is in VERSIONS, newest first, and older than what LIVE has.
Rule 3: HEADS says what would take a search: where the null version is, and the marker in front.
Rule 4: whatever changes which version is the latest changes LIVE or HEADS. Who holds on both rows
        holds on the order of all versions.
In a bucket without versioning there is the LIVE row alone, and nothing else is read or written.
"""

from collections.abc import Callable

import msgspec

from gateway.catalog.interface import Space
from gateway.errors import PreconditionFailed
from gateway.events.noting import note
from gateway.events.rules import Change
from gateway.finding import Found, head_of, kept, named, visible
from gateway.limits import weigh
from gateway.listing import after_prefix
from gateway.model import (
    ENABLED,
    OBJECT_LOCK,
    Attributes,
    Bucket,
    Deletion,
    Extra,
    ObjectVersion,
    Standing,
    WriteCondition,
)
from gateway.records import (
    BucketRow,
    HeadRow,
    SettingsRow,
    VersionRow,
    decode_kept,
    decode_version,
    encode,
    live_key,
    settings_key,
    version_id,
    version_key,
    versions_prefix,
)
from gateway.retention import default_lock, kept_setting
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
    publish_later,
    put_live,
    remove,
    report,
    stored_version,
    text_key,
    to_version,
    unpublish,
)

_ANY_VERSION = WriteCondition(if_match="*")


class History:
    """One key's versions in a transaction's snapshot, and the one step that it makes with them."""

    def __init__(self, store: Store, transaction: Transaction, bucket: Bucket, key: bytes) -> None:
        """Holds on the bucket's row. Raises NoSuchBucket."""
        reader = transaction.reader
        held = bucket_row(reader, bucket)
        transaction.expect(Space.BUCKETS, bucket.name.encode(), held)
        self._store, self._transaction, self._bucket, self._key = store, transaction, bucket, key
        self._row = decode_kept(BucketRow, held)
        self._state = self._row.versioning
        self._place = live_key(bucket.id, key)
        self.raw, self.live = live_row(reader, bucket, key)
        self._head_raw = reader.get(Space.HEADS, self._place) if self._state else None
        self._head = head_of(self._head_raw)

    def hold(self) -> None:
        """Hold on the order of the key's versions."""
        self._transaction.expect(Space.LIVE, self._place, self.raw)
        if self._state:
            self._transaction.expect(Space.HEADS, self._place, self._head_raw)

    def push(self, row: VersionRow, receipts: tuple[bytes, ...]) -> ObjectVersion:
        """Make `row` the latest version, under a name and a sequence of its own."""
        self.hold()
        null, _ = self._make_way()
        row = self._next(row)
        if OBJECT_LOCK in self._row.settings:
            row = self._locked(row)
        row = self._tell(row, Change.CREATED)
        if self._row.publishes and not self._bucket.publishes:  # switched on while the body came
            publish_later(self._transaction, self._bucket, text_key(self._key), row)
        self._settle(null, 0)
        weigh(self._transaction, self._row, row.size)
        whole = put_live(self._transaction, self._bucket, self._key, row)
        report(self._store, self._transaction, self._bucket, row, "put", receipts)
        return to_version(self._bucket, text_key(self._key), row, whole)

    def hide(self) -> Deletion | None:
        """Delete the key: without versioning what there is goes, else a delete marker comes."""
        self.hold()
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

        One behind the latest goes without holding on to the others. Raises AccessDenied while it is
        locked.
        """
        row = found.row
        seen = self._seen(found.raw, row)
        latest = row.sequence == self._latest
        if latest or row.version == NULL:
            self.hold()
        if found.space is Space.LIVE:
            self._transaction.delete(Space.LIVE, self._place)
        else:
            self._transaction.expect(found.space, found.place, found.raw)
        self._remove(row, bypass=bypass)
        null, marker = 0 if row.version == NULL else self._head.null, self._head.marker
        if latest and self._state:
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
        latest = row.sequence == self._latest
        if standing is Standing.ALONE:
            return latest and not self._older(row.sequence)
        return latest is (standing is Standing.LATEST)

    # ------------------------------------------------------------ the parts of a step
    @property
    def _latest(self) -> int:
        """The latest version's sequence; 0 if there is none."""
        return self.live.sequence if self.live else self._head.marker

    def _next(self, row: VersionRow) -> VersionRow:
        """With the sequence behind all others, and the name that belongs to it."""
        latest = self._latest
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
        found = kept(self._transaction.reader, self._bucket, self._key, null)
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
        weigh(self._transaction, self._row, -row.size)

    def _locked(self, row: VersionRow) -> VersionRow:
        """With the bucket's retention, if the version was not given one."""
        extra = row.extra or Extra()
        if extra.lock is not None and extra.lock.mode:
            return row
        raw = self._transaction.reader.get(Space.META, settings_key(self._bucket.id))
        stored = None if raw is None else decode_kept(SettingsRow, raw).values.get(OBJECT_LOCK)
        if stored is None:
            return row
        lock = default_lock(kept_setting(stored), row.modified_ns)
        if lock is None:
            return row
        if extra.lock is not None:
            lock = msgspec.structs.replace(lock, hold=extra.lock.hold)
        return msgspec.structs.replace(row, extra=msgspec.structs.replace(extra, lock=lock))

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
    hides it does not, but for If-Match: *, which any version meets.

    Raises PreconditionFailed, AccessDenied (locked), InvalidArgument.
    """
    history = History(store, transaction, bucket, key)
    if version is not None:
        found = history.named(version)
        if found is None:
            return None
        judge(condition, found.row)
        return history.erase(found, bypass=bypass)
    if condition.asks_for_one or condition.if_none_match is not None:
        history.hold()
        if history.live is not None:
            judge(condition, history.live)
        elif condition.asks_for_one and condition != _ANY_VERSION and history.hidden:
            raise PreconditionFailed
    return history.hide()


def expire(
    store: Store, transaction: Transaction, version: ObjectVersion, standing: Standing
) -> Deletion | None:
    """See ObjectService.expire."""
    history = History(store, transaction, version.bucket, object_key(version.key))
    history.hold()
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
    found = visible(transaction.reader, bucket, key, version)
    transaction.expect(found.space, found.place, found.raw)
    row = change(found.row)
    if row.cid and not attributes_of(row).published(bucket):
        unpublish(store, transaction, bucket, key, row)
        row = msgspec.structs.replace(row, cid=None)
    elif row.extra != found.row.extra and not row.cid and found.space is Space.LIVE:
        row = publish(store, transaction, bucket, text_key(key), row, None)
    if bucket.watched:
        row = note(store, transaction, bucket, text_key(key), row, Change.AMENDED)
    if found.space is Space.LIVE:
        whole = put_live(transaction, bucket, key, row)
    else:
        whole = encode(row)
        transaction.put(found.space, found.place, whole)
    return to_version(bucket, text_key(key), row, whole)
