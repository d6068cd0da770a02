"""Tokens of the API port: who shows one may write to its bucket. docs/specs/ipfs-api.md.

A token is 32 random bytes; the catalog holds their SHA-256, so whoever reads it has no token.
"""

import base64
import hashlib
from dataclasses import dataclass

import msgspec

from chain.clock import Clock, Entropy
from gateway.catalog.interface import Batch, Catalog, Conflict, Delete, Equals, Put, Space
from gateway.ipfs.index import rows
from gateway.model import Bucket
from gateway.records import BucketRow, CorruptRecord, decode

PREFIX = b"\x07"
# Where what is added goes without a token that names a bucket.
API_BUCKET = "ipfs-api"
TOKENS_MAX = 10_000
_MARK = "cumulus_"
_TEXT_MAX = 128
_ID_BYTES = 8


class NoSuchToken(Exception):
    """No token has this id."""


class TokenRow(msgspec.Struct, frozen=True, array_like=True):
    """Row 07 ‖ SHA-256 of the token's text."""

    bucket: str  # "": the default one of the API
    bucket_id: bytes
    created_ns: int


@dataclass(frozen=True, slots=True)
class Token:
    """A token as lists show it."""

    id: str  # the hash's first 8 bytes, hexadecimal
    bucket: str
    created_ns: int


class Tokens:
    """The tokens of one network."""

    def __init__(self, catalog: Catalog, clock: Clock, entropy: Entropy) -> None:
        self._catalog = catalog
        self._clock = clock
        self._entropy = entropy

    async def create(self, bucket: Bucket | None) -> tuple[Token, str]:
        """A new token, and its text: the only time that it is known. None: for the default bucket.

        Raises CatalogUnavailable.
        """
        text = _MARK + base64.b32encode(self._entropy(32)).decode().rstrip("=").lower()
        key = _key(text.encode())
        row = TokenRow(
            bucket.name if bucket else "", bucket.id if bucket else b"", self._clock.now_ns()
        )
        put = Put(Space.BLOCKS, key, rows.FORMAT + msgspec.msgpack.encode(row))
        await self._catalog.commit(Batch([Equals(Space.BLOCKS, key, None)], [put]))
        return _token(key, row), text

    def all(self) -> list[Token]:
        """All tokens, oldest first."""
        with self._catalog.read() as reader:
            found = reader.scan(Space.BLOCKS, PREFIX, rows.after(PREFIX), TOKENS_MAX)
        tokens = [_token(key, _decode(value)) for key, value in found]
        return sorted(tokens, key=lambda token: (token.created_ns, token.id))

    async def revoke(self, id: str) -> None:
        """End a token. Raises NoSuchToken, CatalogUnavailable."""
        try:
            prefix = PREFIX + bytes.fromhex(id)
        except ValueError:
            raise NoSuchToken(id) from None
        with self._catalog.read() as reader:
            found = reader.scan(Space.BLOCKS, prefix, rows.after(prefix), 2)
        if len(prefix) != 1 + _ID_BYTES or not found:
            raise NoSuchToken(id)
        [(key, value)] = found
        try:
            change = Delete(Space.BLOCKS, key)
            await self._catalog.commit(Batch([Equals(Space.BLOCKS, key, value)], [change]))
        except Conflict:
            raise NoSuchToken(id) from None

    def bucket_of(self, text: bytes) -> str | None:
        """The bucket that a token writes to, "" for the default one; None if it is not valid.

        One look-up by the hash: how long it takes tells nothing of other tokens. A bucket that was
        deleted, also when another has its name now, ends the token.
        """
        if not 0 < len(text) <= _TEXT_MAX:
            return None
        with self._catalog.read() as reader:
            value = reader.get(Space.BLOCKS, _key(text))
            if value is None:
                return None
            row = _decode(value)
            if not row.bucket:
                return ""
            bucket = reader.get(Space.BUCKETS, row.bucket.encode())
        if bucket is None or decode(BucketRow, bucket).id != row.bucket_id:
            return None
        return row.bucket


def _key(text: bytes) -> bytes:
    return PREFIX + hashlib.sha256(text).digest()


def _token(key: bytes, row: TokenRow) -> Token:
    return Token(key[1 : 1 + _ID_BYTES].hex(), row.bucket, row.created_ns)


def _decode(value: bytes) -> TokenRow:
    if value[:1] != rows.FORMAT:
        raise CorruptRecord(f"token of unknown format {value[:1].hex()}")
    try:
        return msgspec.msgpack.decode(memoryview(value)[1:], type=TokenRow)
    except msgspec.MsgspecError as error:
        raise CorruptRecord(f"token: {error}") from None
