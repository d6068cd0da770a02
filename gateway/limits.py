"""Limits of buckets and accounts: how many bytes they may hold, how often they may be asked.

A bucket that has one has it among its settings, and so has every bucket of an account that has one:
other buckets are counted nowhere and cost nothing. Bytes are those of versions and of parts of
uploads as clients sent them, kept in a counter that each commit changes; setting a limit counts
what is there. docs/adr/186-limits.md
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from functools import lru_cache

import msgspec

from gateway.catalog.interface import Add, Batch, Reader, Space
from gateway.errors import NoSuchBucket
from gateway.listing import after_prefix
from gateway.model import ACCOUNT_LIMITS, BUCKET_LIMITS, LIMITING, Account, Bucket
from gateway.records import (
    BucketRow,
    SettingsRow,
    VersionRow,
    decode,
    decode_kept,
    decode_listed,
    live_key,
    settings_key,
    unescape,
)
from gateway.store import Store
from gateway.transaction import BYTES_COUNTER, Transaction, commit
from gateway.upload_rows import PARTS_MAX, UPLOAD_ID_BYTES, parts_of
from gateway.versions import LIVE_STREAMS, bucket_row

_COUNTED_AT_ONCE = 1000
_BEHIND_KEY = 10  # 00 00 and the sequence, in a key of VERSIONS


class Limits(msgspec.Struct, frozen=True, array_like=True):
    """0: no limit."""

    bytes: int = 0
    requests: int = 0  # a second


class Usage(msgspec.Struct, frozen=True):
    """What is allowed, and the bytes that are there; None where nothing is counted."""

    limits: Limits
    used: int | None


# A bucket, a setting's name, what becomes of its value: ObjectService.change_setting.
Change = Callable[[bytes | None], bytes | None]


@lru_cache(maxsize=1024)
def kept_limits(raw: bytes) -> Limits:
    """A stored value."""
    return msgspec.msgpack.decode(raw, type=Limits)


def bytes_counter(holder: bytes) -> bytes:
    """COUNTERS: the bytes of a bucket (its id) or of an account (its id's text)."""
    return BYTES_COUNTER + holder


def account_limits_key(account: str) -> bytes:
    """META: an account's limits, for buckets that are still to be made."""
    return b"limits/" + account.encode()


def weigh(transaction: Transaction, row: BucketRow, size: int) -> None:
    """Count bytes that come (or go, when negative) in a bucket; the commit holds on its `row`."""
    if LIMITING.isdisjoint(row.settings) or not size:
        return
    raw = transaction.reader.get(Space.META, settings_key(row.id))
    values = {} if raw is None else decode_kept(SettingsRow, raw).values
    for name, holder in ((BUCKET_LIMITS, row.id), (ACCOUNT_LIMITS, row.owner.encode())):
        if name in values:
            ceiling = kept_limits(values[name]).bytes or None
            transaction.count(bytes_counter(holder), size, ceiling)


def weigh_parts(transaction: Transaction, bucket: Bucket, size: int) -> None:
    """`weigh` for what does not hold on the bucket's row yet. Raises NoSuchBucket."""
    held = bucket_row(transaction.reader, bucket)
    row = decode_kept(BucketRow, held)
    transaction.expect(Space.BUCKETS, bucket.name.encode(), held)
    weigh(transaction, row, size)


class LimitBook:
    """Sets limits. One process does: its lock keeps two counts from being added."""

    def __init__(
        self,
        store: Store,
        owned: Callable[[Account], list[Bucket]],
        change: Callable[[Bucket, str, Change], Awaitable[None]],
    ) -> None:
        self._store = store
        self._owned = owned
        self._change = change
        self._lock = asyncio.Lock()

    async def set_bucket(self, bucket: Bucket, limits: Limits) -> None:
        """Set a bucket's limits; none at all ends the counting."""
        async with self._lock:
            await self._change(bucket, BUCKET_LIMITS, lambda _: _packed(limits))
            await self._calibrate(bytes_counter(bucket.id), [bucket], limits)

    async def set_account(self, account: Account, limits: Limits) -> None:
        """Set an account's, for the buckets that it has and those that it will have."""

        def build(transaction: Transaction) -> None:
            key, value = account_limits_key(account.id), _packed(limits)
            if value is not None:
                transaction.put(Space.META, key, value)
            elif transaction.reader.get(Space.META, key) is not None:
                transaction.delete(Space.META, key)

        async with self._lock:
            await commit(self._store.catalog, self._store.pool, build)
            buckets = []
            for bucket in self._owned(account):
                with suppress(NoSuchBucket):  # deleted meanwhile: it has nothing to count
                    await self._change(bucket, ACCOUNT_LIMITS, lambda _: _packed(limits))
                    buckets.append(bucket)
            await self._calibrate(bytes_counter(account.id.encode()), buckets, limits)

    def bucket(self, bucket: Bucket) -> Usage:
        """A bucket's limits and use."""
        with self._store.catalog.read() as reader:
            raw = reader.get(Space.META, settings_key(bucket.id))
            values = {} if raw is None else decode(SettingsRow, raw).values
            return _usage(reader, values.get(BUCKET_LIMITS), bucket.id)

    def account(self, account: Account) -> Usage:
        """An account's."""
        with self._store.catalog.read() as reader:
            raw = reader.get(Space.META, account_limits_key(account.id))
            return _usage(reader, raw, account.id.encode())

    async def _calibrate(self, counter: bytes, buckets: list[Bucket], limits: Limits) -> None:
        """Make the counter what is there. It counts already: what it lacks is added to it.

        Both are of one snapshot, so whatever is committed meanwhile stays counted.
        """
        with self._store.catalog.read() as reader:
            held = reader.counter(counter)
            total = 0
            if limits != Limits():
                for bucket in buckets:
                    total += await _bytes_of(reader, bucket)
        if total != held:
            await self._store.catalog.commit(Batch([], [Add(counter, total - held)]))


def _packed(limits: Limits) -> bytes | None:
    return None if limits == Limits() else msgspec.msgpack.encode(limits)


def _usage(reader: Reader, raw: bytes | None, holder: bytes) -> Usage:
    if raw is None:
        return Usage(Limits(), None)
    return Usage(kept_limits(raw), reader.counter(bytes_counter(holder)))


async def _bytes_of(reader: Reader, bucket: Bucket) -> int:
    """What a bucket holds: latest versions, the others, parts of uploads."""
    total = 0
    async for _, value in _rows(reader, Space.LIVE, bucket.id):
        total += decode_listed(value).size
    async for key, value in _rows(reader, Space.VERSIONS, bucket.id):
        row = decode(VersionRow, value)
        # The whole row of a latest version that is too long for LIVE was seen there.
        if len(row.streams) <= LIVE_STREAMS or not _is_latest(reader, bucket, key, row):
            total += row.size
    async for key, _ in _rows(reader, Space.UPLOADS, bucket.id):
        parts = parts_of(reader, key[-UPLOAD_ID_BYTES:], 0, PARTS_MAX)
        total += sum(part.size for _, part in parts)
    return total


def _is_latest(reader: Reader, bucket: Bucket, place: bytes, row: VersionRow) -> bool:
    key = unescape(place[len(bucket.id) : -_BEHIND_KEY])
    live = reader.get(Space.LIVE, live_key(bucket.id, key))
    return live is not None and decode_listed(live).sequence == row.sequence


async def _rows(
    reader: Reader, space: Space, prefix: bytes
) -> AsyncGenerator[tuple[bytes, bytes], None]:
    """All rows below a prefix; other work has its turn between pages."""
    at, end = prefix, after_prefix(prefix)
    while page := reader.scan(space, at, end, _COUNTED_AT_ONCE):
        for key, value in page:
            yield key, value
        at = page[-1][0] + b"\x00"
        await asyncio.sleep(0)
