"""A miner's fragments on stable storage: what every store offers.

Rules:
1. `put` returns after its batch is on stable storage; everything in one batch shares a `Batch`.
2. A fragment that is already there is read back: if it is whole it is not written again, but is a
   member of the new batch; if not it is written anew.
3. What `drop` returned from is gone for good, whatever happens to the process.
4. A full or failing disk refuses writes; reads and drops go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from chain.ids import AccountId, FragmentId
from chain.net.transport import Buffer
from miner.fragment import FragmentRecord

if TYPE_CHECKING:
    import asyncio


class StoreError(Exception):
    """The store cannot do what was asked; the message is for people."""


class StoreFull(StoreError):
    """The pledge is used up or the disk is full."""


class StoreBusy(StoreError):
    """Too many bytes wait to be written; try again."""


class StoreFailed(StoreError):
    """The disk refused a write; nothing of the batch counts as stored."""


class NoSuchFragment(StoreError):
    """The store does not hold that fragment."""


class WrongFragment(StoreError):
    """The bytes are not the fragment that its record names."""


class Entry(NamedTuple):
    """What is known of a stored fragment without reading it."""

    id: FragmentId
    size: int
    time_ns: int  # when it was staged, by the miner's clock
    confirmed: bool


class Batch(NamedTuple):
    """Fragments that one group commit made durable, in order; numbers grow."""

    number: int
    time_ns: int
    fragments: tuple[tuple[FragmentId, int], ...]  # id and size


class Stored(NamedTuple):
    """A fragment's place in its batch."""

    batch: Batch
    position: int


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes. `free` is what can still be stored; `reserved` waits to be written."""

    pledged: int
    used: int
    free: int
    reserved: int
    fragments: int


class FragmentStore(Protocol):
    """Fragments by key (segment id ‖ index). Used from one event loop."""

    def put(
        self, record: FragmentRecord, payload: Buffer, owner: AccountId | None = None
    ) -> "asyncio.Future[Stored]":
        """Store durably, as staged now. The payload must not change until the answer.

        What is put in one turn of the event loop can share a batch.

        `owner` is the account that stores it (None: a process of this machine); of a fragment
        that is there already the first one stays.
        Raises WrongFragment, StoreFull, StoreBusy, StoreFailed.
        """
        ...

    def find(self, key: bytes) -> Entry | None:
        """The entry of a stored fragment, or None."""
        ...

    async def read(
        self, key: bytes, start: int, end: int, room: memoryview | None = None
    ) -> Buffer:
        """Bytes [start, end), 0 <= start <= end <= size. Raises NoSuchFragment, StoreError.

        `room`: page-aligned memory in which they may be put; then a view of it is returned.
        """
        ...

    async def record(self, key: bytes) -> FragmentRecord:
        """The fragment's own record. Raises NoSuchFragment, StoreError if it is damaged."""
        ...

    async def owner(self, key: bytes) -> AccountId | None:
        """Who stored the fragment. Raises NoSuchFragment, StoreError if its record is damaged."""
        ...

    async def verify(self, key: bytes) -> bool:
        """Whether record and bytes on the disk, past every cache, are right still.

        An unreadable fragment is not. Raises NoSuchFragment.
        """
        ...

    async def damaged(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those of them that are here and do not verify."""
        ...

    async def drop_damaged(self, keys: Sequence[bytes]) -> int:
        """Verify once more, with no write in between, and drop what is not whole.

        What was stored anew since it was found damaged stays. Returns how many were dropped.
        """
        ...

    async def drop(self, keys: Sequence[bytes]) -> int:
        """Forget these durably and give their space back; absent ones are no error.

        Returns how many were there.
        """
        ...

    async def confirm(self, keys: Sequence[bytes]) -> None:
        """Mark as belonging to a committed object. May be lost; then it is asked again."""
        ...

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, Entry]]:
        """Up to `limit` entries with key > `after`, in byte order."""
        ...

    def staged(self, before_ns: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """(cursor, key) of unconfirmed fragments staged before `before_ns`, oldest first.

        Starts behind the cursor `after`; empty bytes for the start.
        """
        ...

    def space(self) -> Space:
        """How full the store is."""
        ...

    async def close(self) -> None:
        """Finish what waits and release the files."""
        ...
