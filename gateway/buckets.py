"""Buckets: their names, rows and owners."""

import re
from collections.abc import Callable, Mapping

import msgspec

from gateway.catalog.interface import Empty, Reader, Space
from gateway.errors import (
    AccessDenied,
    BucketAlreadyExists,
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    InvalidBucketName,
    InvalidBucketState,
    InvalidRequest,
    NoSuchBucket,
    TooManyBuckets,
)
from gateway.events.noting import note_test
from gateway.events.rules import kept_rules
from gateway.limits import account_limits_key, bytes_counter
from gateway.listing import after_prefix
from gateway.model import (
    ACCOUNT_LIMITS,
    ENABLED,
    NOTIFICATION,
    OBJECT_LOCK,
    REPLICATION,
    Account,
    Bucket,
)
from gateway.records import (
    BucketRow,
    SettingsRow,
    decode,
    decode_kept,
    encode,
    owned_prefix,
    settings_key,
)
from gateway.store import Store, bucket_of
from gateway.transaction import Transaction, commit
from gateway.versions import bucket_row

BUCKETS_MAX = 10_000  # of one account; AWS's default limit
ID_BYTES = 16
# Paths of the IPFS gateway under the same host.
RESERVED = frozenset({"ipfs", "ipns"})
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PAIRS = ("..", ".-", "-.")  # each label is one of the DNS
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_name(name: str) -> None:
    """AWS's rules for general purpose buckets. Raises InvalidBucketName."""
    if (
        not _NAME.fullmatch(name)
        or any(pair in name for pair in _PAIRS)
        or _ADDRESS.fullmatch(name)
        or name.startswith(_PREFIXES)
        or name.endswith(_SUFFIXES)
        or name in RESERVED
    ):
        raise InvalidBucketName


class Buckets:
    """Rows in BUCKETS and OWNED."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(
        self,
        account: Account,
        name: str,
        *,
        region: str,
        public: bool,
        settings: Mapping[str, bytes],
    ) -> Bucket:
        """See ObjectService.create_bucket."""
        check_name(name)
        row = BucketRow(
            id=self._store.entropy(ID_BYTES),
            owner=account.id,
            created_ns=self._store.clock.now_ns(),
            region=region,
            public=public,
            publishes=self._store.settings.publish_new_buckets,
            profile="",
            versioning=ENABLED if OBJECT_LOCK in settings else "",
        )

        def build(transaction: Transaction) -> None:
            reader = transaction.reader
            raw = reader.get(Space.BUCKETS, name.encode())
            if raw is not None:
                mine = decode(BucketRow, raw).owner == account.id
                raise BucketAlreadyOwnedByYou if mine else BucketAlreadyExists
            owner = reader.get(Space.ACCOUNTS, account.id.encode())
            if owner is None:
                raise AccessDenied
            prefix = owned_prefix(account.id)
            if (
                len(reader.scan(Space.OWNED, prefix, after_prefix(prefix), BUCKETS_MAX))
                >= BUCKETS_MAX
            ):
                raise TooManyBuckets
            transaction.expect(Space.BUCKETS, name.encode(), None)
            transaction.expect(Space.ACCOUNTS, account.id.encode(), owner)
            values = dict(settings)
            limits = reader.get(Space.META, account_limits_key(account.id))
            transaction.expect(Space.META, account_limits_key(account.id), limits)
            if limits is not None:
                values[ACCOUNT_LIMITS] = limits
            made = msgspec.structs.replace(row, settings=tuple(sorted(values)))
            transaction.put(Space.BUCKETS, name.encode(), encode(made))
            transaction.put(Space.OWNED, prefix + name.encode(), b"")
            if values:
                kept = encode(SettingsRow(values))
                transaction.put(Space.META, settings_key(row.id), kept)

        await commit(self._store.catalog, self._store.pool, build)
        return self.get(name)

    async def delete(self, bucket: Bucket) -> None:
        """Remove a bucket whose uploads were aborted. Raises BucketNotEmpty, NoSuchBucket."""

        def build(transaction: Transaction) -> None:
            raw = bucket_row(transaction.reader, bucket)
            for space in (Space.LIVE, Space.VERSIONS, Space.UPLOADS):
                if transaction.reader.scan(space, bucket.id, after_prefix(bucket.id), 1):
                    raise BucketNotEmpty
                transaction.require(Empty(space, bucket.id))
            settings = transaction.reader.get(Space.META, settings_key(bucket.id))
            transaction.expect(Space.META, settings_key(bucket.id), settings)
            if settings is not None:
                transaction.delete(Space.META, settings_key(bucket.id))
            if transaction.reader.get(Space.COUNTERS, bytes_counter(bucket.id)) is not None:
                transaction.delete(Space.COUNTERS, bytes_counter(bucket.id))  # also of a past limit
            transaction.expect(Space.BUCKETS, bucket.name.encode(), raw)
            transaction.delete(Space.BUCKETS, bucket.name.encode())
            transaction.delete(Space.OWNED, owned_prefix(bucket.owner.id) + bucket.name.encode())

        await commit(self._store.catalog, self._store.pool, build)

    def setting(self, bucket: Bucket, name: str) -> bytes | None:
        """See ObjectService.setting."""
        return self.settings(bucket).get(name) if name in bucket.settings else None

    def settings(self, bucket: Bucket) -> Mapping[str, bytes]:
        """See ObjectService.settings."""
        if not bucket.settings:
            return {}
        with self._store.catalog.read() as reader:
            raw = reader.get(Space.META, settings_key(bucket.id))
        return {} if raw is None else decode_kept(SettingsRow, raw).values

    async def change_setting(
        self, bucket: Bucket, name: str, change: Callable[[bytes | None], bytes | None]
    ) -> None:
        """See ObjectService.change_setting."""

        def build(transaction: Transaction) -> None:
            key = settings_key(bucket.id)
            raw = transaction.reader.get(Space.META, key)
            values = {} if raw is None else dict(decode(SettingsRow, raw).values)
            value = change(values.get(name))
            if value is None:
                values.pop(name, None)
            else:
                values[name] = value
            place, held = bucket.name.encode(), bucket_row(transaction.reader, bucket)
            transaction.expect(Space.BUCKETS, place, held)
            row, names = decode(BucketRow, held), tuple(sorted(values))
            if name == OBJECT_LOCK and row.versioning != ENABLED:
                raise InvalidBucketState(
                    "Versioning must be 'Enabled' on the bucket to apply a Object Lock "
                    "configuration"
                )
            if name == REPLICATION and value is not None and row.versioning != ENABLED:
                raise InvalidRequest(
                    "Versioning must be 'Enabled' on the bucket to apply a replication "
                    "configuration"
                )
            if row.settings != names:
                changed = msgspec.structs.replace(row, settings=names)
                transaction.put(Space.BUCKETS, place, encode(changed))
            if name == NOTIFICATION and value is not None:
                note_test(self._store, transaction, bucket, kept_rules(value))
            transaction.expect(Space.META, key, raw)
            if values:
                transaction.put(Space.META, key, encode(SettingsRow(values)))
            elif raw is not None:
                transaction.delete(Space.META, key)

        await commit(self._store.catalog, self._store.pool, build)

    def get(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""
        with self._store.catalog.read() as reader:
            return _read(reader, name)

    def owned(self, account: Account) -> list[Bucket]:
        """An account's buckets by name."""
        prefix = owned_prefix(account.id)
        with self._store.catalog.read() as reader:
            rows = reader.scan(Space.OWNED, prefix, after_prefix(prefix), BUCKETS_MAX)
            return [_read(reader, key[len(prefix) :].decode()) for key, _ in rows]

    async def configure(
        self, name: str, *, public: bool | None, publishes: bool | None, versioning: str | None
    ) -> Bucket:
        """See ObjectService.configure_bucket."""

        def build(transaction: Transaction) -> None:
            raw = transaction.reader.get(Space.BUCKETS, name.encode())
            if raw is None:
                raise NoSuchBucket
            row = decode(BucketRow, raw)
            if versioning not in {None, ENABLED} and OBJECT_LOCK in row.settings:
                raise InvalidBucketState(
                    "An Object Lock configuration is present on this bucket, so the versioning "
                    "state cannot be changed."
                )
            if versioning not in {None, ENABLED} and REPLICATION in row.settings:
                raise InvalidBucketState(
                    "A replication configuration is present on this bucket, so the versioning "
                    "state cannot be changed."
                )
            changed = msgspec.structs.replace(
                row,
                public=row.public if public is None else public,
                publishes=row.publishes if publishes is None else publishes,
                versioning=row.versioning if versioning is None else versioning,
            )
            transaction.expect(Space.BUCKETS, name.encode(), raw)
            transaction.put(Space.BUCKETS, name.encode(), encode(changed))
            if changed.publishes and not row.publishes and self._store.publisher:
                transaction.add(self._store.publisher.switched_on(row.id))

        await commit(self._store.catalog, self._store.pool, build)
        return self.get(name)


def _read(reader: Reader, name: str) -> Bucket:
    key = name.encode("utf-8", "surrogateescape")
    raw = reader.get(Space.BUCKETS, key) if 0 < len(key) <= 63 else None
    if raw is None:
        raise NoSuchBucket
    owner = reader.get(Space.ACCOUNTS, decode_kept(BucketRow, raw).owner.encode())
    assert owner is not None, "accounts with buckets are not deleted"
    return bucket_of(name, raw, owner)
