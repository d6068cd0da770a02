"""This network's own IPNS keys: made, named, published under, renewed. docs/specs/ipns.md.

A key belongs to a bucket: who may write to the bucket (a token of the API) may use it. Its secret
lies sealed in the catalog under a key of the keystore. `self` is the key that a bucket has anyway.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chain.clock import Clock, Entropy
from gateway.catalog.interface import (
    Batch,
    Catalog,
    Change,
    Condition,
    Conflict,
    Delete,
    Equals,
    Put,
    Space,
)
from gateway.ipfs.index import rows
from gateway.ipfs.ipns import keys, record, store
from gateway.ipfs.ipns.keys import InvalidKey, PrivateKey
from gateway.ipfs.ipns.name import InvalidName, IpnsName
from gateway.ipfs.ipns.record import IpnsRecord
from gateway.ipfs.ipns.store import IpnsRecords
from gateway.model import Bucket
from gateway.records import BucketRow, CorruptRecord, decode_kept

PREFIX = b"\x05"
SELF = "self"
NAME_BYTES_MAX = 100
KEYS_MAX = 10_000  # of one bucket
_SEALING = b"cumulus ipns key 1"
_NONCE_BYTES = 12
_ATTEMPTS = 16


# BUCKET/PREFIX -> the path of the directory as of now; None where there is none.
Roots = Callable[[str], str | None]


class KeyBookError(Exception):
    """A key cannot be used so; the message is for whoever asked."""


class Publication(msgspec.Struct, frozen=True, array_like=True):
    """What is published under a key, and how its records are renewed."""

    value: str
    lifetime_ns: int
    ttl_ns: int
    # BUCKET/PREFIX: the value is the directory's path, and follows it; "" for a path that stays.
    follows: str = ""


class KeyRow(msgspec.Struct, frozen=True, array_like=True):
    """Row 05 ‖ bucket id ‖ name of the key."""

    multihash: bytes  # of the IPNS name
    sealed: bytes
    bucket: str
    created_ns: int
    published: Publication | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret."""

    name: str
    id: IpnsName
    published: Publication | None = None


class KeyBook:
    """The keys of one network. `secret` (32 bytes) seals them."""

    def __init__(self, catalog: Catalog, secret: bytes, clock: Clock, entropy: Entropy) -> None:
        self._catalog = catalog
        self.records = IpnsRecords(catalog, clock)
        self._seal = AESGCM(secret)
        self._clock = clock
        self._entropy = entropy

    # ------------------------------------------------------------------ keys
    async def generate(
        self, bucket: Bucket, name: str, kind: str = "ed25519", bits: int = 2048
    ) -> Key:
        """A new key. Raises KeyBookError, InvalidKey, CatalogUnavailable."""
        if name == SELF:
            raise KeyBookError("cannot create key with name 'self'")
        return await self._add(bucket, name, keys.generate(kind, bits, self._entropy))

    async def add(self, bucket: Bucket, name: str, key: PrivateKey) -> Key:
        """Keep a key that was made elsewhere. Raises KeyBookError, CatalogUnavailable."""
        if name == SELF:
            raise KeyBookError("cannot import key with name 'self'")
        return await self._add(bucket, name, key)

    async def all(self, bucket: Bucket) -> list[Key]:
        """The bucket's keys, `self` first (made if need be), the others by name."""
        found = self._rows(bucket)
        if SELF not in found:
            await self.find(bucket, SELF)
            found = self._rows(bucket)
        names = sorted(found, key=lambda name: (name != SELF, name))
        return [_key(name, found[name]) for name in names]

    async def find(self, bucket: Bucket, name: str) -> Key:
        """A key by its name, or by the IPNS name it speaks for. Raises KeyBookError."""
        name, row = await self._find(bucket, name)
        return _key(name, row)

    async def secret(self, bucket: Bucket, name: str) -> PrivateKey:
        """The key itself. Raises KeyBookError."""
        _, row = await self._find(bucket, name)
        return self._opened(row)

    async def rename(
        self, bucket: Bucket, old: str, new: str, *, force: bool = False
    ) -> tuple[Key, bool]:
        """(the key under its new name, whether another one made room). Raises KeyBookError."""
        if SELF in (old, new):
            raise KeyBookError("cannot rename key with name 'self'")
        _check_name(new)
        for _ in range(_ATTEMPTS):
            found = self._rows(bucket)
            if old not in found:
                raise KeyBookError(f"no key named {old} was found")
            if new == old:
                return _key(old, found[old]), False
            if new in found and not force:
                raise KeyBookError(f"key by that name already exists, refusing to overwrite {new}")
            conditions: list[Condition] = [
                _holds(bucket, old, found[old]),
                _holds(bucket, new, found.get(new)),
            ]
            changes: list[Change] = [
                Delete(Space.BLOCKS, _place(bucket, old)),
                _put(bucket, new, found[old]),
            ]
            if await self._commit(conditions, changes):
                return _key(new, found[old]), new in found
        raise KeyBookError("the keys are being changed by somebody else")

    async def remove(self, bucket: Bucket, name: str) -> Key:
        """Forget a key for ever; its last record lives on. Raises KeyBookError."""
        if name == SELF:
            raise KeyBookError("cannot remove key with name 'self'")
        for _ in range(_ATTEMPTS):
            row = self._rows(bucket).get(name)
            if row is None:
                raise KeyBookError(f"no key named {name} was found")
            gone = Delete(Space.BLOCKS, _place(bucket, name))
            if await self._commit([_holds(bucket, name, row)], [gone]):
                return _key(name, row)
        raise KeyBookError("the keys are being changed by somebody else")

    # ------------------------------------------------------------------ records
    async def publish(
        self,
        bucket: Bucket,
        name: str,
        publication: Publication,
        *,
        sequence: int | None = None,
        v1: bool = True,
    ) -> IpnsRecord:
        """Let a key's name lead to a path, from now on. Raises KeyBookError.

        The sequence grows when the path changes; one that is given must be above the present one.
        """
        for _ in range(_ATTEMPTS):
            name, row = await self._find(bucket, name)
            place = _place(bucket, name)
            made = await self._sign(place, row, publication, sequence, v1=v1)
            if made is not None:
                return made
        raise KeyBookError("the key is being published under by somebody else")

    async def renew(
        self, after: bytes, limit: int, roots: Roots, *, followers_only: bool = False
    ) -> tuple[bytes, int]:
        """Sign anew what has less than half of its life left or follows a directory that changed,
        among `limit` keys behind `after`.

        (where to go on, or empty at the end; how many were signed). Keys of buckets that are gone
        are removed. `followers_only`: look at no others.
        """
        with self._catalog.read() as reader:
            page = reader.scan(
                Space.BLOCKS, after + b"\x00" if after else PREFIX, rows.after(PREFIX), limit
            )
        signed = 0
        for place, value in page:
            row = _row(value)
            if followers_only and not (row.published and row.published.follows):
                continue
            signed += await self._renew(place, row, value, roots)
        return page[-1][0] if len(page) == limit else b"", signed

    async def _renew(self, place: bytes, row: KeyRow, value: bytes, roots: Roots) -> bool:
        bucket_id = place[1 : 1 + rows.ID_BYTES]
        id = IpnsName(row.multihash)
        with self._catalog.read() as reader:
            bucket = reader.get(Space.BUCKETS, row.bucket.encode())
            _, kept = store.current(reader, id)
        if bucket is None or decode_kept(BucketRow, bucket).id != bucket_id:
            gone = Delete(Space.BLOCKS, place)
            await self._commit([Equals(Space.BLOCKS, place, value)], [gone])
            return False
        published = row.published
        if published is None:
            return False
        left = 0 if kept is None else kept.eol_ns - self._clock.now_ns()
        path = roots(published.follows) if published.follows else published.value
        if path is None:  # the directory is not there for now
            path = published.value
        if left >= published.lifetime_ns // 2 and path == published.value:
            return False
        if kept is not None and kept.value != published.value:
            return False  # somebody else with this key published something newer
        fresh = msgspec.structs.replace(published, value=path)
        return await self._sign(place, row, fresh, None, v1=True) is not None

    async def _sign(
        self,
        place: bytes,
        row: KeyRow,
        publication: Publication,
        sequence: int | None,
        *,
        v1: bool,
    ) -> IpnsRecord | None:
        """A new record, kept with its publication; None if a row changed meanwhile."""
        id, now = IpnsName(row.multihash), self._clock.now_ns()
        with self._catalog.read() as reader:
            before, kept = store.current(reader, id)
        eol_ns = now + publication.lifetime_ns
        made = record.make(
            self._opened(row),
            publication.value,
            _sequence(kept, publication.value, eol_ns, sequence),
            eol_ns,
            publication.ttl_ns,
            v1=v1,
        )
        fresh = msgspec.structs.replace(row, published=publication)
        conditions: list[Condition] = [
            Equals(Space.BLOCKS, place, _packed(row)),
            store.unchanged(id, before),
        ]
        changes: list[Change] = [
            Put(Space.BLOCKS, place, _packed(fresh)),
            store.put_row(id, made, now),
        ]
        return made if await self._commit(conditions, changes) else None

    # ------------------------------------------------------------------ rows
    async def _add(self, bucket: Bucket, name: str, key: PrivateKey) -> Key:
        _check_name(name)
        id = keys.name_of(key)
        nonce = self._entropy(_NONCE_BYTES)
        sealed = nonce + self._seal.encrypt(nonce, key.serialised(), _SEALING + id.multihash)
        row = KeyRow(id.multihash, sealed, bucket.name, self._clock.now_ns())
        if len(self._rows(bucket)) >= KEYS_MAX:
            raise KeyBookError(f"bucket {bucket.name} has {KEYS_MAX} keys")
        if not await self._commit([_holds(bucket, name, None)], [_put(bucket, name, row)]):
            raise KeyBookError(f"key with name {name!r} already exists")
        return _key(name, row)

    async def _find(self, bucket: Bucket, text: str) -> tuple[str, KeyRow]:
        if 0 < len(text.encode()) <= NAME_BYTES_MAX:
            with self._catalog.read() as reader:
                value = reader.get(Space.BLOCKS, _place(bucket, text))
            if value is not None:
                return text, _row(value)
        if text == SELF:
            with suppress(KeyBookError):  # made by somebody else a moment ago
                await self._add(bucket, SELF, keys.generate("ed25519", 0, self._entropy))
            return SELF, self._rows(bucket)[SELF]
        try:
            id = IpnsName.parse(text).multihash
        except InvalidName:
            id = b""
        for name, row in self._rows(bucket).items():
            if row.multihash == id:
                return name, row
        raise KeyBookError(f"no key by the given name or PeerID was found: {text[:80]!r}")

    def _rows(self, bucket: Bucket) -> dict[str, KeyRow]:
        prefix = PREFIX + bucket.id
        with self._catalog.read() as reader:
            found = reader.scan(Space.BLOCKS, prefix, rows.after(prefix), KEYS_MAX + 1)
        return {place[len(prefix) :].decode(): _row(value) for place, value in found}

    def _opened(self, row: KeyRow) -> PrivateKey:
        nonce, sealed = row.sealed[:_NONCE_BYTES], row.sealed[_NONCE_BYTES:]
        try:
            return keys.private_key(self._seal.decrypt(nonce, sealed, _SEALING + row.multihash))
        except (InvalidTag, InvalidKey):
            raise KeyBookError("the key was sealed under another keystore's secret") from None

    async def _commit(self, conditions: list[Condition], changes: list[Change]) -> bool:
        try:
            await self._catalog.commit(Batch(conditions, changes))
        except Conflict:
            return False
        return True


def _sequence(kept: IpnsRecord | None, value: str, eol_ns: int, wanted: int | None) -> int:
    """The number of the next record, so that it counts more than `kept`. Raises KeyBookError."""
    if wanted is not None:
        if kept is not None and wanted <= kept.sequence:
            raise KeyBookError(f"sequence number {wanted}: the present record has {kept.sequence}")
        return wanted
    if kept is None:
        return 0
    return kept.sequence + (kept.value != value or eol_ns <= kept.eol_ns)


def _check_name(name: str) -> None:
    if not 0 < len(name.encode()) <= NAME_BYTES_MAX or "/" in name or not name.isprintable():
        raise KeyBookError(f"key name {name[:40]!r}: 1 to {NAME_BYTES_MAX} bytes of text without /")


def _place(bucket: Bucket, name: str) -> bytes:
    return PREFIX + bucket.id + name.encode()


def _holds(bucket: Bucket, name: str, row: KeyRow | None) -> Equals:
    return Equals(Space.BLOCKS, _place(bucket, name), None if row is None else _packed(row))


def _put(bucket: Bucket, name: str, row: KeyRow) -> Put:
    return Put(Space.BLOCKS, _place(bucket, name), _packed(row))


def _packed(row: KeyRow) -> bytes:
    return rows.FORMAT + msgspec.msgpack.encode(row)


def _row(value: bytes) -> KeyRow:
    if value[:1] != rows.FORMAT:
        raise CorruptRecord(f"IPNS key of unknown format {value[:1].hex()}")
    try:
        return msgspec.msgpack.decode(memoryview(value)[1:], type=KeyRow)
    except msgspec.MsgspecError as error:
        raise CorruptRecord(f"IPNS key: {error}") from None


def _key(name: str, row: KeyRow) -> Key:
    return Key(name, IpnsName(row.multihash), row.published)
