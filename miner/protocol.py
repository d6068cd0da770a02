"""What is said to miners, and what miners say to the pool's owner. Bodies as docs/specs/wire.md.

Error codes: `bad_request`, `wrong_fragment`, `no_such_fragment`, `full`, `busy`, `failed`,
`not_allowed`.
"""

import msgspec

from chain.net.transport import Message, Payload
from chain.receipts import StorageReceipt

BAD_REQUEST = "bad_request"
WRONG_FRAGMENT = "wrong_fragment"
NO_SUCH_FRAGMENT = "no_such_fragment"
FULL = "full"
BUSY = "busy"
FAILED = "failed"
NOT_ALLOWED = "not_allowed"

# Most keys in one message, and most entries of an inventory page.
KEYS_MAX = 1024
# Most fragments of one StoreFragments: each has a payload frame (chain/net/wire.py PAYLOADS_MAX).
STORE_MAX = 64
# Most bytes of one ReadFragment; longer reads are asked in pieces.
READ_MAX = 16 * 1024**2
# From here on the reader lends memory for what it reads (on one machine).
LENT_MIN = 256 * 1024

COMMITTED, NEVER, UNKNOWN = "committed", "never", "unknown"


class NewFragment(msgspec.Struct, frozen=True, array_like=True):
    """Fragment `index` of a segment; the payload must hash to `fragments[index]`.

    The fields are those of docs/specs/fragment.md.
    """

    profile: str
    k: int
    m: int
    length: int
    fragments: tuple[bytes, ...]
    index: int
    payload: Payload


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one fragment: with a `code` it is not stored.

    Else it is on stable storage: leaf `index`, with its path, under `receipts[receipt]`'s root.
    """

    receipt: int = 0
    index: int = 0
    path: tuple[bytes, ...] = ()
    code: str = ""
    reason: str = ""


class StoredFragments(msgspec.Struct, frozen=True, array_like=True):
    """An outcome for each fragment that was asked, in order; one receipt for each group commit."""

    receipts: tuple[StorageReceipt, ...]
    outcomes: tuple[Outcome, ...]


class StoreFragments(Message[StoredFragments], frozen=True):
    """Store fragments of any segments, 1..STORE_MAX. Storing one again is no error."""

    # What is long is checked after it was written (miner/store/journal.py).
    in_place = True

    fragments: tuple[NewFragment, ...]


class FragmentBytes(msgspec.Struct, frozen=True, array_like=True):
    """The bytes that were asked for, unchecked."""

    payload: Payload


class ReadFragment(Message[FragmentBytes], frozen=True):
    """Bytes [start, end) of a fragment, at most READ_MAX."""

    segment: bytes
    index: int
    start: int
    end: int

    def reply_bytes(self) -> int:
        """See Message.reply_bytes: shorter ones go through the socket."""
        size = self.end - self.start
        return size if size >= LENT_MIN else 0


class Checked(msgspec.Struct, frozen=True, array_like=True):
    """Whether the fragment is there and whole. A damaged one was dropped."""

    present: bool
    whole: bool


class CheckFragment(Message[Checked], frozen=True):
    """Read a fragment from disk and hash it."""

    segment: bytes
    index: int


class Dropped(msgspec.Struct, frozen=True, array_like=True):
    """How many of them were there; all are gone."""

    count: int


class DropFragments(Message[Dropped], frozen=True):
    """Forget fragments by key (segment id ‖ index), at most KEYS_MAX."""

    keys: tuple[bytes, ...]


class Held(msgspec.Struct, frozen=True, array_like=True):
    """One fragment of an inventory; `record` as in docs/specs/fragment.md."""

    key: bytes
    record: bytes
    time_ns: int
    confirmed: bool


class InventoryPage(msgspec.Struct, frozen=True, array_like=True):
    """Fragments in key order; ask on with the last key. An empty page ends it."""

    held: tuple[Held, ...]


class Inventory(Message[InventoryPage], frozen=True):
    """Fragments with key > `after`, at most `limit` (1..KEYS_MAX)."""

    after: bytes
    limit: int


class Listed(msgspec.Struct, frozen=True, array_like=True):
    """A fragment as the miner's index knows it: nothing was read from its volumes."""

    key: bytes
    size: int
    time_ns: int
    confirmed: bool


class FragmentList(msgspec.Struct, frozen=True, array_like=True):
    """Fragments in key order; a full page is asked on with its last key."""

    listed: tuple[Listed, ...]


class ListFragments(Message[FragmentList], frozen=True):
    """Fragments with `after` < key <= `until`, at most `limit` (1..KEYS_MAX). No disk is touched.

    `until` empty: to the end. What other accounts stored is listed too.
    """

    after: bytes
    until: bytes
    limit: int


class SpaceFigures(msgspec.Struct, frozen=True, array_like=True):
    """Who answers; bytes, and the number of fragments; what the scrub found."""

    miner: bytes
    pledged: int
    used: int
    free: int
    reserved: int
    fragments: int
    scrubbed_ns: int = 0  # when everything had been checked once more; 0: not yet
    damaged: int = 0  # fragments that the scrub found damaged, ever


class SpaceReport(Message[SpaceFigures], frozen=True):
    """How full the miner is. Answered without touching the disk: also the liveness probe."""


class Answers(msgspec.Struct, frozen=True, array_like=True):
    """One of COMMITTED, NEVER, UNKNOWN per key that was asked."""

    states: tuple[str, ...]


class AskCommitted(Message[Answers], frozen=True):
    """Miner to owner: do these staged fragments (by key) belong to anything?

    `never` is the only answer on which a miner deletes.
    """

    miner: bytes
    keys: tuple[bytes, ...]


class Noted(msgspec.Struct, frozen=True, array_like=True):
    """How many repairs were queued by it."""

    queued: int


class Missing(msgspec.Struct, frozen=True, array_like=True):
    """Fragment `index` is not readable at `miner`."""

    segment: bytes
    index: int
    miner: bytes


class ReportMissing(Message[Noted], frozen=True):
    """Reader to owner: these fragments are lost or wrong where the placement map puts them."""

    missing: tuple[Missing, ...]
