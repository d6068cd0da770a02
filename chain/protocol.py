"""What one may ask a ledger node. Every field is bounded; replies are plain structs."""

from typing import Annotated

import msgspec
from msgspec import Meta

from chain.ledger.block import Result, SignedHeader
from chain.net.transport import Message

ROWS_MAX = 1_000
BLOCKS_MAX = 100
REPLY_BYTES_MAX = 4 << 20
# How long a client waits for a block that holds its transaction, and a node in one answer.
INCLUSION_SECONDS = 60.0
AWAIT_SECONDS = 10.0

Key = Annotated[bytes, Meta(max_length=256)]
Limit = Annotated[int, Meta(ge=1, le=ROWS_MAX)]
Height = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class TransactionResult(msgspec.Struct, frozen=True, array_like=True):
    """The receipt: where the transaction is and what became of it. Height 0: it waits."""

    id: bytes  # binary CID
    height: int
    index: int
    result: Result


class SubmitTransaction(Message[TransactionResult], frozen=True):
    """Put a transaction in a block. With `wait` the answer is that of AwaitTransaction."""

    transaction: Annotated[bytes, Meta(max_length=1 << 20)]
    wait: bool = True


class AwaitTransaction(Message[TransactionResult], frozen=True):
    """The receipt, once the transaction is in a block. RemoteError when it never will be.

    Height 0 when it waits for longer than AWAIT_SECONDS, or many ask: ask again.
    """

    id: Key


class Nonce(msgspec.Struct, frozen=True, array_like=True):
    """A nonce."""

    nonce: int


class NextNonce(Message[Nonce], frozen=True):
    """The nonce behind an account's transactions that wait."""

    account: Annotated[bytes, Meta(min_length=32, max_length=32)]


class FindTransaction(Message[TransactionResult], frozen=True):
    """The receipt of a transaction in a block. RemoteError "not_found"."""

    id: Key


class ProofFields(msgspec.Struct, frozen=True, array_like=True):
    """chain/ledger/tree.py's Proof."""

    depth: int
    present: bytes
    siblings: list[bytes]
    other: list[bytes] | None


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A record's key, without the table's prefix, and its canonical bytes."""

    key: bytes
    value: bytes


class Rows(msgspec.Struct, frozen=True, array_like=True):
    """Rows of the state after block `height`; proven answers carry that block's header."""

    height: int
    rows: list[Row]
    proof: ProofFields | None = None
    signed: SignedHeader | None = None


class Query(Message[Rows], frozen=True):
    """Records of a table: accounts, miners, edges, gateways, bids, leases, lease_owners,
    authorisations, batches, holdings, market, totals.

    With `prove` (or a `limit` of 0) `data` is one key, else it is a key prefix; `start` pages on.
    """

    path: Annotated[str, Meta(max_length=40)]
    data: Key = b""
    prove: bool = False
    start: Key = b""
    limit: Annotated[int, Meta(ge=0, le=ROWS_MAX)] = 0


class BlockList(msgspec.Struct, frozen=True, array_like=True):
    """Encoded blocks in order; fewer than asked for at the end or when they are large."""

    blocks: list[bytes]


class GetBlocks(Message[BlockList], frozen=True):
    """Blocks from height `start` on."""

    start: Height
    limit: Annotated[int, Meta(ge=1, le=BLOCKS_MAX)] = BLOCKS_MAX


class GetHeader(Message[SignedHeader], frozen=True):
    """The signed header of a block; height 0 asks for the last one."""

    height: Height = 0


class BlockEvents(msgspec.Struct, frozen=True, array_like=True):
    """The leaves under a header's `results`: one per transaction, the block's events last."""

    height: int
    leaves: list[bytes]


class EventList(msgspec.Struct, frozen=True, array_like=True):
    """Results of blocks in order."""

    blocks: list[BlockEvents]


class GetEvents(Message[EventList], frozen=True):
    """Results and events of the blocks from height `start` on."""

    start: Height
    limit: Annotated[int, Meta(ge=1, le=BLOCKS_MAX)] = BLOCKS_MAX


class LedgerStatus(msgspec.Struct, frozen=True, array_like=True):
    """Where the ledger stands."""

    chain_id: str
    genesis: bytes  # digest
    height: int
    app_hash: bytes
    time_ns: int  # of the last block; the genesis time at height 0
    epoch: int
    epoch_end_ns: int
    price: int  # units per GiB-month
    fee_min: int
    operator: bytes | None
    mempool: int


class GetStatus(Message[LedgerStatus], frozen=True):
    """Ask for the status."""


class Genesis(msgspec.Struct, frozen=True, array_like=True):
    """The genesis file's bytes."""

    json: bytes


class GetGenesis(Message[Genesis], frozen=True):
    """Ask for the genesis. Trust it only on a machine-local channel."""


class Entrusted(msgspec.Struct, frozen=True, array_like=True):
    """The reveal is on stable storage."""


class EntrustReveal(Message[Entrusted], frozen=True):
    """Let the node reveal a committed bid in its epoch. The node learns the bid's terms."""

    bid: Annotated[bytes, Meta(min_length=32, max_length=32)]
    price: int
    size: int
    months: int
    epochs: int
    salt: Annotated[bytes, Meta(min_length=32, max_length=32)]
