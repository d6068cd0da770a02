"""What the object path stands on: the parts it is given, and its settings."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from chain.clock import Clock, Entropy
from chain.ids import SegmentId
from chain.net.transport import Buffer
from gateway.buffers import BufferPool
from gateway.catalog.interface import Catalog, Change, Reader, Space
from gateway.errors import InvalidStorageClass, QuotaExceeded
from gateway.keys import AccountKeys, KeyRing
from gateway.model import (
    ACCESS_SETTINGS,
    LIMITING,
    LOGGING,
    WATCHING_SETTINGS,
    Account,
    Bucket,
    ObjectVersion,
)
from gateway.records import AccountRow, BucketRow, decode, ordered_id
from gateway.segments import Engine, SegmentSink
from miner.pool import Release
from miner.records import Row
from miner.segments import PROFILES, Profile, SegmentSource

MIB = 1 << 20
_POOL_SPACES = {
    "placement": Space.PLACEMENT,
    "repairs": Space.REPAIRS,
    "releases": Space.RELEASES,
    "released": Space.RELEASED,
}


class StoragePool(SegmentSink, Protocol):
    """Where segments go (miner/pool.py); they come back through the SegmentSource."""

    def release_rows(self, segment: SegmentId) -> Release:
        """What sets a segment's fragments free, for the commit that drops it."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """Space on the ledger that an account draws on: `ceiling` bytes are reserved for us."""

    id: bytes
    ceiling: int


class Leases(Protocol):
    """Who may store how much."""

    def lease(self, account: str) -> Lease | None:
        """The account's lease, None if it has none."""
        ...


class PackBody(Protocol):
    """A body that is a CAR: what reads it gets its bytes, and it gets to know its blocks."""

    def __aiter__(self) -> AsyncIterator[Buffer]: ...

    async def __anext__(self) -> Buffer: ...

    def rows(self, bucket: Bucket, key: str, uid: bytes, size: int) -> tuple[str, list[Change]]:
        """(CID text, rows to commit with the version), once the body was read to its end."""
        ...


class Publisher(Protocol):
    """IPFS rows of a publishing bucket's versions (gateway/ipfs/index/publish.py).

    `uid` is the version's 16-byte internal name; `leaves` are packed SHA-256 digests of each MiB.
    """

    def rows(
        self, bucket: Bucket, key: str, uid: bytes, size: int, leaves: bytes
    ) -> tuple[str, list[Change]]:
        """(CID text, rows to commit with the version)."""
        ...

    def pack(self, body: AsyncIterator[Buffer]) -> PackBody:
        """The same body, of an object that asks to be imported. Reading it raises InvalidCar."""
        ...

    def unpublish_rows(self, reader: Reader, version: ObjectVersion, uid: bytes) -> list[Change]:
        """The changes that take the version's blocks away; called when it has a `cid`."""
        ...

    def switched_on(self, bucket_id: bytes) -> list[Change]:
        """The changes that have a bucket looked through anew; with the one that switches it on."""
        ...


# Buffers of all workers together, and what one needs to serve at all: the rings of four transfers,
# a segment of any profile. 64 PUTs of 64 MiB at once, two workers: 0.77 GiB above idle. Frames hold
# the longest segments of four streams of each of two workers (docs/adr/225).
RINGS, FRAMES, READS = 192 * MIB, 544 * MIB, 256 * MIB
RINGS_MIN, FRAMES_MIN, READS_MIN = 12 * MIB, 64 * MIB, 32 * MIB


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """`[catalog]`, `[s3]` and memory settings of the object path."""

    inline_max: int = 16 << 10
    profile: str = "small"
    etag: str = "md5"  # or crc64nvme
    publish_new_buckets: bool = False  # `[ipfs] publish_new_buckets`
    kms_auto_create: bool = True  # a KMS key is made when it is first asked for
    # 1 MiB chunks being filled and hashed: 3 for each running transfer above 64 KiB.
    ring_bytes: int = RINGS // 2
    # Segments with parity being filled and stored: 12-24 MiB each at 4+2, up to 48 at 8+4.
    frame_bytes: int = FRAMES // 2
    read_bytes: int = READS // 2
    threads: int = 4
    queue_max: int = 100_000  # rows that wait for one target; 0.5 KB each
    # Chunks of a segment; None: by profile and by the memory that is left (segments.Cutting).
    segment_chunks: int | None = None

    def shared_by(self, workers: int) -> "StoreSettings":
        """The same with one of `workers` equal shares of the machine's buffers."""
        return replace(
            self,
            ring_bytes=max(RINGS_MIN, RINGS // workers),
            frame_bytes=max(FRAMES_MIN, FRAMES // workers),
            read_bytes=max(READS_MIN, READS // workers),
        )


@dataclass(frozen=True, slots=True)
class Store:
    """Shared by ObjectService's parts."""

    catalog: Catalog
    pool: StoragePool
    source: SegmentSource
    keys: KeyRing
    leases: Leases
    publisher: Publisher | None
    clock: Clock
    entropy: Entropy
    settings: StoreSettings
    engine: Engine
    reads: BufferPool

    def new_id(self) -> bytes:
        """The name of a new stream or version."""
        return ordered_id(self.clock.now_ns(), self.entropy)

    def profile(self, bucket: Bucket, name: str) -> Profile:
        """By name, else the bucket's, else the network's. Raises InvalidStorageClass."""
        try:
            return PROFILES[name or bucket.profile or self.settings.profile]
        except KeyError:
            raise InvalidStorageClass from None

    def lease(self, bucket: Bucket) -> Lease:
        """The bucket owner's lease. Raises QuotaExceeded."""
        lease = self.leases.lease(bucket.owner.id)
        if lease is None:
            raise QuotaExceeded
        return lease


def account_keys(reader: Reader, account: str) -> AccountKeys:
    """The keys of an account that exists."""
    raw = reader.get(Space.ACCOUNTS, account.encode())
    assert raw is not None, "a bucket's owner has an account"
    return _keys_of(raw)


@lru_cache(maxsize=1024)
def _keys_of(raw: bytes) -> AccountKeys:
    row = decode(AccountRow, raw)
    return AccountKeys(row.owner, row.capsules)


@lru_cache(maxsize=1024)
def account_of(raw: bytes) -> Account:
    """An account from its row."""
    row = decode(AccountRow, raw)
    return Account(row.id, row.name, row.email)


@lru_cache(maxsize=4096)
def bucket_of(name: str, raw: bytes, owner: bytes) -> Bucket:
    """A bucket from its row and its owner's row."""
    row = decode(BucketRow, raw)
    return Bucket(
        name=name,
        id=row.id,
        owner=account_of(owner),
        created_ns=row.created_ns,
        region=row.region,
        public=row.public,
        publishes=row.publishes,
        profile=row.profile,
        settings=frozenset(row.settings),
        guarded=not ACCESS_SETTINGS.isdisjoint(row.settings),
        watched=not WATCHING_SETTINGS.isdisjoint(row.settings),
        logged=LOGGING in row.settings,
        limited=not LIMITING.isdisjoint(row.settings),
        versioning=row.versioning,
    )


def pool_space(row: Row) -> Space:
    """The keyspace that hosts a pool's row."""
    return _POOL_SPACES[row.space]
