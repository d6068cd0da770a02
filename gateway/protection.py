"""The second key around a version key: a client's (SSE-C) or one of KMS (SSE-KMS).

Rule 1: without the second key nobody opens the version, whoever has catalog, keystore and volumes.
Rule 2: of a client's key nothing is kept; that a version key unwraps tells the right one.
Rule 3: streams are shared only between versions that the same client's key opens, else a later copy
under our own keys alone would open what the first was promised to be safe from.
See docs/specs/sealing.md.
"""

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Callable

from blake3 import blake3
from msgspec.structs import replace

from gateway.catalog.interface import Reader
from gateway.errors import CustomerKeyMissing, CustomerKeyNotNeeded, CustomerKeyWrong
from gateway.keys import OtherSecondKey
from gateway.kms import kms_wrapping_key
from gateway.model import Bucket, Encryption, Extra
from gateway.records import UploadRow, VersionRow
from gateway.seal import KEY_BYTES
from gateway.store import Store, account_keys

# What a version's encryption is to be, of what it is. Raises to refuse.
EncryptionChange = Callable[[Encryption | None], Encryption | None]

_CUSTOMER = "cumulus 2026 customer key 1"


def key_md5(secret: bytes) -> str:
    """What S3 calls a client's key by: its MD5, base64."""
    return b64encode(hashlib.md5(secret, usedforsecurity=False).digest()).decode()


class CustomerKey:
    """A key that comes with each request and is never kept: no text of it, not even in a repr."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        assert len(secret) == KEY_BYTES
        self._secret = secret

    def __repr__(self) -> str:
        return "CustomerKey(…)"

    def __reduce__(self) -> str:
        raise TypeError("a client's key stays where it came in")

    def same(self, other: "CustomerKey | None") -> bool:
        """Whether it is the same key."""
        return other is not None and hmac.compare_digest(self._secret, other._secret)

    @property
    def md5(self) -> str:
        """Its name: see `key_md5`."""
        return key_md5(self._secret)

    def wrapping_key(self) -> bytes:
        """What it wraps version keys with."""
        digest: bytes = blake3(self._secret, derive_key_context=_CUSTOMER).digest()
        return digest


def _second_key(
    store: Store,
    reader: Reader,
    bucket: Bucket,
    encryption: Encryption | None,
    customer: CustomerKey | None,
) -> bytes | None:
    needs = encryption is not None and encryption.customer
    if customer is not None:
        if not needs:
            raise CustomerKeyNotNeeded
        return customer.wrapping_key()
    if needs:
        raise CustomerKeyMissing
    if encryption is None or not encryption.second:
        return None
    return kms_wrapping_key(store, reader, bucket, encryption)


def wrap_version_key(
    store: Store,
    reader: Reader,
    bucket: Bucket,
    version_key: bytes,
    extra: Extra | None,
    customer: CustomerKey | None,
) -> tuple[int, bytes]:
    """(generation, wrapped) for a row with these extras. Raises KmsKeyNotFound, KmsKeyDisabled."""
    keys = account_keys(reader, bucket.owner.id)
    if extra is None and customer is None:
        return store.keys.wrap_for(keys, version_key)
    encryption = None if extra is None else extra.encryption
    second = _second_key(store, reader, bucket, encryption, customer)
    return store.keys.wrap_for(keys, version_key, second)


def unwrap_version_key(
    store: Store,
    reader: Reader,
    bucket: Bucket,
    row: VersionRow | UploadRow,
    customer: CustomerKey | None,
) -> bytes:
    """The version key of a row.

    Raises CustomerKeyMissing, CustomerKeyWrong, CustomerKeyNotNeeded, KmsKeyNotFound,
    KmsKeyDisabled; KeyMissing for a row that our own keys do not open.
    """
    keys = account_keys(reader, bucket.owner.id)
    if row.extra is None and customer is None:
        return store.keys.unwrap_for(keys, row.generation, row.key)
    encryption = None if row.extra is None else row.extra.encryption
    second = _second_key(store, reader, bucket, encryption, customer)
    try:
        return store.keys.unwrap_for(keys, row.generation, row.key, second)
    except OtherSecondKey:
        if customer is None:
            raise
        raise CustomerKeyWrong from None


def rewrapped(
    store: Store, reader: Reader, bucket: Bucket, row: VersionRow, change: EncryptionChange
) -> VersionRow:
    """The row with its version key wrapped as `change` wants it. Raises as the two above do."""
    extra = row.extra or Extra()
    extra = replace(extra, encryption=change(extra.encryption))
    version_key = unwrap_version_key(store, reader, bucket, row, None)
    generation, wrapped = wrap_version_key(store, reader, bucket, version_key, extra, None)
    return replace(row, generation=generation, key=wrapped, extra=extra)


def shares_streams(
    source: Encryption | None,
    source_key: CustomerKey | None,
    target: Encryption | None,
    target_key: CustomerKey | None,
) -> bool:
    """Whether a copy may use the very streams of its source (rule 3)."""
    old = source is not None and source.customer
    new = target is not None and target.customer
    if not old and not new:
        return True
    return old and new and source_key is not None and source_key.same(target_key)
