"""Checksums of what only a client's key opens are closed with it: they would confirm a guess.

In rows they are wrapped (AES-KWP) under a key derived from the version key; listings show their
algorithm alone. A version as `head` gives it has none; `opened_version` puts them in.
See docs/specs/sealing.md.
"""

from collections.abc import Callable

from blake3 import blake3
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)
from msgspec.structs import replace

from gateway.keys import KeyMissing
from gateway.model import ObjectVersion
from gateway.protection import CustomerKey, unwrap_version_key
from gateway.records import PartRow, VersionRow
from gateway.store import Store
from gateway.versions import is_closed, part_summaries, to_checksum, version_row

_CONTEXT = "cumulus 2026 checksum key 1"


def _key(version_key: bytes) -> bytes:
    digest: bytes = blake3(version_key, derive_key_context=_CONTEXT).digest()
    return digest


def _opened(key: bytes, closed: bytes) -> bytes:
    try:
        return aes_key_unwrap_with_padding(key, closed)
    except (InvalidUnwrap, ValueError):
        raise KeyMissing("a checksum does not open") from None


def _with_digests(row: VersionRow, change: Callable[[bytes], bytes]) -> VersionRow:
    kept = row.checksum
    return replace(
        row,
        checksum=None if kept is None else replace(kept, digest=change(kept.digest)),
        parts=tuple(
            replace(part, digest=change(part.digest)) if part.digest else part for part in row.parts
        ),
    )


def closed_row(row: VersionRow, version_key: bytes) -> VersionRow:
    """The row as it is stored."""
    key = _key(version_key)
    return _with_digests(row, lambda digest: aes_key_wrap_with_padding(key, digest))


def opened_row(row: VersionRow, version_key: bytes) -> VersionRow:
    """The inverse of `closed_row`. Raises KeyMissing."""
    key = _key(version_key)
    return _with_digests(row, lambda closed: _opened(key, closed))


def closed_part(part: PartRow, version_key: bytes) -> PartRow:
    """The part of an upload as it is stored."""
    if not part.digest:
        return part
    return replace(part, digest=aes_key_wrap_with_padding(_key(version_key), part.digest))


def opened_part(part: PartRow, version_key: bytes | None) -> PartRow:
    """The inverse of `closed_part`; without the key, a part without a checksum."""
    if not part.digest:
        return part
    if version_key is None:
        return replace(part, digest=b"")
    return replace(part, digest=_opened(_key(version_key), part.digest))


def opened_version(
    store: Store, version: ObjectVersion, customer: CustomerKey | None
) -> ObjectVersion:
    """The version with its checksums, if it takes the client's key to see them.

    Raises CustomerKeyMissing, CustomerKeyWrong, CustomerKeyNotNeeded.
    """
    row = version_row(version)
    if customer is None and not is_closed(row):
        return version
    with store.catalog.read() as reader:
        version_key = unwrap_version_key(store, reader, version.bucket, row, customer)
    row = opened_row(row, version_key)
    checksum = to_checksum(row.checksum)
    return replace(version, checksum=checksum, parts=part_summaries(row, checksum))
