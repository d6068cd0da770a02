"""The catalog as every driver offers it: conditional batches and ordered scans.

Rules:
1. One writer judges every batch: conditions and changes are one atomic step.
2. A committed batch is on stable storage before `commit` returns.
3. Readers see all of a batch or nothing, and a reader that starts after `commit` returned sees it.
4. Keys are 1..2048 bytes in byte order.
See docs/specs/catalog.md for what lies in each keyspace.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from enum import IntEnum
from typing import Protocol

import msgspec

from miner.records import RecordsUnavailable

KEY_MAX = 2048


class Space(IntEnum):
    """Keyspaces; the number is part of the log format and never reused."""

    META = 0
    ACCOUNTS = 1  # account id -> account record
    ACCESS_KEYS = 2  # access key -> account id, secret
    BUCKETS = 3  # bucket name -> bucket record
    OWNED = 4  # account id ‖ bucket name -> empty
    LIVE = 5  # bucket id ‖ key -> latest version that is not deleted
    VERSIONS = 6  # bucket id ‖ escaped key ‖ 00 00 ‖ inverted sequence -> version record
    HEADS = 7  # bucket id ‖ key -> which version is called null, is a delete marker the latest
    UPLOADS = 8  # bucket id ‖ escaped key ‖ 00 00 ‖ upload id -> upload record
    PARTS = 9  # upload id ‖ part number (u16) -> part record
    BODIES = 10  # stream id -> sealed bytes of a small object (stored once, in the log)
    STREAMS = 11  # stream id -> reference count and segments
    PLACEMENT = 12
    REPAIRS = 13
    RELEASES = 14
    OUTBOX = 15  # sequence -> record for the next object batch
    BATCHES = 16  # batch number -> leaves
    LEAVES = 17  # version id -> batch number, index
    BLOCKS = 18  # IPFS: multihash ‖ version id ‖ leaf -> where the block's bytes are
    JOBS = 19  # durable background jobs
    COUNTERS = 20  # name -> signed 64-bit integer
    RELEASED = 21  # miner -> bytes that it deleted and the ledger was not told of yet


# Structs, as they travel to the writer: dataclasses took 40 µs of a PUT in both processes, to be
# made, turned into messages and back. The tags are part of the protocol (docs/specs/catalog.md).
class Equals(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The row holds exactly `value`; None means that there is no such row."""

    space: Space
    key: bytes
    value: bytes | None


class Exists(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """There is such a row, whatever it holds."""

    space: Space
    key: bytes


class Empty(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """No row of the keyspace has a key that starts with `prefix`."""

    space: Space
    prefix: bytes


Condition = Equals | Exists | Empty


class Put(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """Set a row. In Space.BODIES the value lies in the log alone and the index holds its place."""

    space: Space
    key: bytes
    value: bytes


class Delete(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Remove a row; no error if there is none."""

    space: Space
    key: bytes


class Add(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Add to a counter (absent is 0). Fails as a condition does if the result is out of bounds."""

    key: bytes
    delta: int
    floor: int | None = None
    ceiling: int | None = None


class Append(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Put `value` under `prefix` ‖ the commit's sequence number (u64 big-endian) ‖ index (u16)."""

    space: Space
    prefix: bytes
    value: bytes


Change = Put | Delete | Add | Append


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What `commit` takes: all conditions hold and all changes are made, or nothing is."""

    conditions: Sequence[Condition] = ()
    changes: Sequence[Change] = ()


class Conflict(Exception):
    """A condition (or a counter's bound) did not hold; nothing was changed."""

    def __init__(self, failed: Condition | Add) -> None:
        super().__init__(f"condition failed: {failed}")
        self.failed = failed


class CatalogUnavailable(RecordsUnavailable):
    """The writer is gone, restarting, or its disk is full. Retry later (S3: 503)."""


class CatalogFull(CatalogUnavailable):
    """There is no room where the catalog is kept: nothing was made, reading goes on."""


class CommitUncertain(CatalogUnavailable):
    """The answer to a commit was lost: it may or may not have been made.

    Whoever must know re-reads, once the catalog is back, a row that only this commit writes (its
    version id or stream id). Until then nothing that the batch refers to may be released.
    """


class CatalogDamaged(Exception):
    """Stored bytes fail their checksum, or a part of the log is missing; says which."""


class BadBatch(ValueError):
    """A batch that no catalog takes: a key of 0 or over 2,048 bytes, over 16 MiB, …"""


class Reader(Protocol):
    """One snapshot. Keep it for one page of work, never across an await."""

    def get(self, space: Space, key: bytes) -> bytes | None:
        """The row's value, or None. BODIES are read from the log.

        A body that was removed and compacted away since the snapshot began is None too.
        Raises CatalogDamaged.
        """
        ...

    def counter(self, key: bytes) -> int:
        """A counter's value; 0 if it was never added to."""
        ...

    def scan(
        self, space: Space, start: bytes, end: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows with start <= key < end (None: no end), in (reverse) byte order."""
        ...


class Catalog(Protocol):
    """One network's catalog as a gateway process holds it."""

    def read(self) -> AbstractContextManager[Reader]:
        """A snapshot of what is committed now."""
        ...

    async def commit(self, batch: Batch) -> int:
        """Apply `batch` durably; return its sequence number (grows by 1 each commit).

        Raises Conflict, CatalogUnavailable.
        """
        ...

    async def close(self) -> None:
        """Release files and connections."""
        ...
