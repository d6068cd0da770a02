"""What a bucket's inventory configurations say, as they are kept. Pure."""

from functools import lru_cache

import msgspec

FIELDS = (
    "Size", "LastModifiedDate", "StorageClass", "ETag", "IsMultipartUploaded",
    "ReplicationStatus", "EncryptionStatus", "ObjectLockRetainUntilDate", "ObjectLockMode",
    "ObjectLockLegalHoldStatus", "IntelligentTieringAccessTier", "BucketKeyStatus",
    "ChecksumAlgorithm", "ObjectAccessControlList", "ObjectOwner", "LifecycleExpirationDate",
)  # fmt: skip


class Inventory(msgspec.Struct, frozen=True, array_like=True):
    """One configuration of inventories."""

    id: str
    enabled: bool
    target: str  # bucket
    prefix: str  # of the inventory's own keys
    versions: bool  # all of them, or the current ones
    weekly: bool
    fields: tuple[str, ...]
    of_prefix: str  # of keys that are listed


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """A configuration of any kind: what is inside of its document, and what that means here."""

    document: str
    inventory: Inventory | None = None


_decode = msgspec.msgpack.Decoder(dict[str, Configuration]).decode


@lru_cache(maxsize=256)
def kept_configurations(stored: bytes) -> dict[str, Configuration]:
    """A bucket's configurations of one kind by their ids."""
    return _decode(stored)
