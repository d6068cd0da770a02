"""KMS keys of accounts: made, found, switched off. Bytes of 32 that wrap version keys, one an id.

A key is wrapped under its account's key-encryption key and lies in META. It is made when it is
first asked for, unless `[s3] kms_auto_create` is off. See docs/specs/sealing.md.
"""

import re
from collections.abc import Callable
from uuid import UUID

import msgspec
from blake3 import blake3

from gateway.catalog.interface import Reader, Space
from gateway.errors import KmsKeyDisabled, KmsKeyNotFound
from gateway.listing import after_prefix
from gateway.model import Account, Bucket, Encryption
from gateway.records import KmsKeyRow, decode, encode, kms_prefix
from gateway.store import Store, account_keys
from gateway.transaction import Transaction, commit

KEYS_MAX = 10_000  # listed at once
_WRAPPING = "cumulus 2026 kms wrapping key 1"
_DEFAULT = "cumulus 2026 kms default key id 1"
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile("[!-~]{1,256}")
_ARN = re.compile("arn:aws[a-z-]*:kms:[a-z0-9-]*:([^:]*):(?:key/(.+)|(alias/.+))")


class KmsKey(msgspec.Struct, frozen=True):
    """One of an account's keys, without its bytes."""

    id: str
    created_ns: int
    disabled: bool


def default_id(account: str) -> str:
    """The id of the key that stands for `aws/s3`: a UUID of the account's own."""
    digest = blake3(account.encode(), derive_key_context=_DEFAULT).digest(16)
    return str(UUID(bytes=digest, version=4))


def key_arn(bucket: Bucket, key_id: str) -> str:
    """What S3 calls a key by. A name that AWS's KMS could not have given is shown as it is."""
    if not _UUID.fullmatch(key_id):
        return key_id
    return f"arn:aws:kms:{bucket.region or 'us-east-1'}:{bucket.owner.id}:key/{key_id}"


def arn_account(name: str) -> str | None:
    """The account of a key's ARN; None for what is no ARN of a key."""
    match = _ARN.fullmatch(name)
    return None if match is None else match[1]


def canonical_id(name: str, account: str) -> str:
    """The id a client means: a name, an ARN of the account's own, or "" for the default.

    Raises KmsKeyNotFound.
    """
    if name in ("", "alias/aws/s3"):
        return default_id(account)
    match = _ARN.fullmatch(name)
    if match is not None and match[1] == account:
        name = match[2] or match[3]
    if not _NAME.fullmatch(name) or name.startswith("aws/") or (
        name.startswith("arn:") and match is None
    ):  # fmt: skip
        raise KmsKeyNotFound(f"Invalid keyId {name!r:.300}")
    return name


def kms_wrapping_key(store: Store, reader: Reader, bucket: Bucket, encryption: Encryption) -> bytes:
    """What the key wraps version keys of this encryption context with.

    Raises KmsKeyNotFound, KmsKeyDisabled.
    """
    account = bucket.owner.id
    raw = reader.get(Space.META, kms_prefix(account) + encryption.key.encode())
    if raw is None:
        raise _not_found(bucket, encryption.key)
    row = _enabled(bucket, encryption.key, raw)
    key = store.keys.unwrap_for(account_keys(reader, account), row.generation, row.key)
    mixed = blake3(key, derive_key_context=_WRAPPING)
    wrapping: bytes = mixed.update(encryption.context.encode()).digest()
    return wrapping


def _enabled(bucket: Bucket, key_id: str, raw: bytes) -> KmsKeyRow:
    row = decode(KmsKeyRow, raw)
    if row.disabled:
        raise KmsKeyDisabled(f"{key_arn(bucket, key_id)} is disabled.")
    return row


def _not_found(bucket: Bucket, key_id: str) -> KmsKeyNotFound:
    arn = key_arn(bucket, key_id)
    if arn == key_id and not key_id.startswith("arn:"):
        return KmsKeyNotFound(f"Invalid keyId '{key_id}'")
    return KmsKeyNotFound(f"Key '{arn}' does not exist")


class KmsKeys:
    """Rows `kms/` in META."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def usable(self, bucket: Bucket, name: str) -> str:
        """The id of the key that `name` means, ready to encrypt with.

        Raises KmsKeyNotFound, KmsKeyDisabled.
        """
        account = bucket.owner
        key_id = canonical_id(name, account.id)
        place = kms_prefix(account.id) + key_id.encode()
        with self._store.catalog.read() as reader:
            raw = reader.get(Space.META, place)
        if raw is not None:
            _enabled(bucket, key_id, raw)
            return key_id
        if not self._store.settings.kms_auto_create and key_id != default_id(account.id):
            raise _not_found(bucket, key_id)
        await self.create(account, key_id)
        return key_id

    async def create(self, account: Account, key_id: str) -> None:
        """Make the key unless it is there."""
        secret = self._store.keys.new_key()

        def make(transaction: Transaction, raw: bytes | None) -> bytes | None:
            if raw is not None:
                return None
            keys = account_keys(transaction.reader, account.id)
            generation, wrapped = self._store.keys.wrap_for(keys, secret)
            return encode(KmsKeyRow(self._store.clock.now_ns(), generation, wrapped))

        await self._change(account, key_id, make)

    async def switch(self, account: Account, key_id: str, *, disabled: bool) -> None:
        """Switch a key off or on. Raises KmsKeyNotFound."""

        def changed(_: Transaction, raw: bytes | None) -> bytes:
            if raw is None:
                raise KmsKeyNotFound(f"Invalid keyId '{key_id}'")
            return encode(msgspec.structs.replace(decode(KmsKeyRow, raw), disabled=disabled))

        await self._change(account, key_id, changed)

    async def _change(
        self,
        account: Account,
        key_id: str,
        make: Callable[[Transaction, bytes | None], bytes | None],
    ) -> None:
        place = kms_prefix(account.id) + key_id.encode()

        def build(transaction: Transaction) -> None:
            raw = transaction.reader.get(Space.META, place)
            row = make(transaction, raw)
            if row is not None:
                transaction.expect(Space.META, place, raw)
                transaction.put(Space.META, place, row)

        await commit(self._store.catalog, self._store.pool, build)

    def all(self, account: Account) -> list[KmsKey]:
        """An account's keys by id."""
        prefix = kms_prefix(account.id)
        with self._store.catalog.read() as reader:
            found = reader.scan(Space.META, prefix, after_prefix(prefix), KEYS_MAX)
        rows = ((key[len(prefix) :].decode(), decode(KmsKeyRow, raw)) for key, raw in found)
        return [KmsKey(key_id, row.created_ns, row.disabled) for key_id, row in rows]
