"""The records of the state and their tables. Specification: docs/specs/state-tree.md.

A record is a frozen struct; its bytes are a canonical DAG-CBOR list of its fields in order, so a
proof's value can be read without this code. A key is the table's prefix and an id.
"""

import struct
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from chain import dagcbor
from chain.ids import AccountId

R = TypeVar("R", bound=msgspec.Struct)


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Base of every record: flat fields of int, str, bytes."""


class Account(Record, frozen=True):
    """Tokens and the next nonce of an Ed25519 key. Key: the account."""

    balance: int
    nonce: int


class Totals(Record, frozen=True):
    """Where all tokens are that no account has. One record; key: empty.

    supply = balances + treasury + leases + bids + collateral + burned, always.
    """

    supply: int
    treasury: int
    leases: int  # paid, not yet earned
    bids: int  # deposits and escrows
    collateral: int
    burned: int


class Market(Record, frozen=True):
    """Price, space and the running epoch. One record; key: empty."""

    epoch: int
    start_ns: int
    end_ns: int
    price: int  # units per GiB-month, of the last clearing
    reserve: int
    flow: int  # lease fees per epoch
    pledged: int  # bytes of active miners
    leased: int  # bytes of leases and unclaimed awards
    bids: int  # bids that wait: committed or revealed
    mix: bytes  # hash over the salts revealed in this epoch


class Miner(Record, frozen=True):
    """A storage provider. Key: the miner's identity."""

    owner: AccountId
    address: str
    domain: str  # operator/host/disk
    pledged_bytes: int
    stored_bytes: int
    min_price: int  # its vote
    stake: int
    state: str  # active, draining, lost


class Endpoint(Record, frozen=True):
    """An edge or a gateway. Key: its identity."""

    address: str
    batches: int  # the number that its next object batch must have
    registered: int  # height


class Bid(Record, frozen=True):
    """A bid from commitment to claim. Key: SHA-256(owner ‖ commitment)."""

    owner: AccountId
    commitment: bytes
    state: str  # committed, revealed, won
    epoch: int  # of the commitment; once won, of the award
    deposit: int
    escrow: int  # tokens held, deposit included
    price: int = 0  # limit; once won, the clearing price
    size: int = 0  # bytes
    months: int = 0
    expires: int = 0  # the last epoch in which it may win


class Lease(Record, frozen=True):
    """Bytes over epochs. Key: lease id (32 bytes)."""

    owner: AccountId
    size: int
    price: int  # units per GiB-month
    start: int  # epoch
    end: int  # the first epoch after the term; 0: never ends
    reserved: int  # by gateways
    used: int
    state: str  # active, grace


class Authorisation(Record, frozen=True):
    """What a gateway may use of a lease. Key: lease ‖ gateway. used ≤ reserved ≤ cap."""

    cap: int
    reserved: int
    used: int


class Batch(Record, frozen=True):
    """One object batch of a gateway. Key: gateway ‖ number (8 bytes, big-endian)."""

    digest: bytes  # SHA-256 over the canonical body
    root: bytes  # Merkle root over the leaves
    count: int
    height: int


class Holding(Record, frozen=True):
    """Bytes at a miner that one gateway's receipts counted. Key: miner ‖ gateway.

    A miner's holdings add up to its `stored_bytes`; a gateway releases no more than its own.
    """

    size: int


class Flow(Record, frozen=True):
    """A change of the lease fees per epoch. Key: epoch (8 bytes, big-endian)."""

    add: int
    remove: int
    once: int  # fees of this epoch alone


class Mark(Record, frozen=True):
    """A row that only has to exist: an index entry, or a receipt that was counted."""

    height: int


class Table(NamedTuple, Generic[R]):
    """A table's prefix byte and the type of its records."""

    prefix: bytes
    type: type[R]


ACCOUNTS = Table(b"a", Account)
TOTALS = Table(b"T", Totals)
MARKET = Table(b"M", Market)
MINERS = Table(b"m", Miner)
EDGES = Table(b"e", Endpoint)
GATEWAYS = Table(b"g", Endpoint)
BIDS = Table(b"b", Bid)
LEASES = Table(b"l", Lease)
AUTHORISATIONS = Table(b"u", Authorisation)
BATCHES = Table(b"o", Batch)
FLOWS = Table(b"f", Flow)
HOLDINGS = Table(b"h", Holding)
# epoch ‖ lease: when a lease's term or grace ends
ENDS = Table(b"x", Mark)
# owner ‖ lease
LEASES_BY_OWNER = Table(b"L", Mark)
# receipt time (8 bytes) ‖ SHA-256 of the receipt's signed fields
RECEIPTS = Table(b"r", Mark)

# What may be asked for by name.
TABLES: dict[str, Table[Any]] = {
    "accounts": ACCOUNTS,
    "authorisations": AUTHORISATIONS,
    "batches": BATCHES,
    "bids": BIDS,
    "edges": EDGES,
    "gateways": GATEWAYS,
    "holdings": HOLDINGS,
    "lease_owners": LEASES_BY_OWNER,
    "leases": LEASES,
    "market": MARKET,
    "miners": MINERS,
    "totals": TOTALS,
}

SINGLETON = b""
_U64 = struct.Struct(">Q")


def u64(number: int) -> bytes:
    """8 bytes, big-endian: numbers that sort as keys."""
    return _U64.pack(number)


def encode(record: msgspec.Struct) -> bytes:
    """The record's canonical bytes."""
    return dagcbor.encode(list(msgspec.structs.astuple(record)))


def decode(table: Table[R], raw: bytes) -> R:
    """The record of bytes that this program or a verified proof gave. Raises ValueError."""
    fields: Any = dagcbor.decode(raw)
    return msgspec.convert(fields, table.type)
