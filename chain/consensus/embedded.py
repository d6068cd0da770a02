"""The embedded driver: one validator in the process.

A block is made when transactions wait (after `block_seconds`, so that they share it) and at each
epoch's end. Bid windows last whole epochs, so they need no empty blocks. Time is the clock's,
strictly increasing. A block, its results and the state are one durable commit: after a kill at any
moment the ledger stands at the last whole block, and there is nothing to replay.
"""

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING

import msgspec

from chain.application import LAST_BLOCK, Application, Finalized
from chain.clock import Clock
from chain.consensus.mempool import Mempool
from chain.errors import Rejected
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.ledger import block, records
from chain.ledger.block import Block, Header, Result
from chain.ledger.records import SINGLETON, u64
from chain.ledger.store import LedgerStore, Space, StoreFull
from chain.ledger.transactions import envelope
from chain.ledger.transactions.body import Body
from chain.proofs import merkle

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

BLOCK_SECONDS = 0.2
# How often the driver looks whether the epoch is over: wall time can jump, sleep cannot.
WATCH_SECONDS = 1.0


class Included(msgspec.Struct, frozen=True, array_like=True):
    """Where a transaction is and what became of it."""

    height: int
    index: int
    result: Result


def block_rows(
    height: int, made: Block, leaves: list[bytes]
) -> dict[tuple[Space, bytes], bytes | None]:
    """What is kept of a block beside the state; `leaves` are those under `Header.results`."""
    key = u64(height)
    rows: dict[tuple[Space, bytes], bytes | None] = {
        ("blocks", key): made.encoded(),
        ("results", key): msgspec.msgpack.encode(leaves),
        ("meta", LAST_BLOCK): msgspec.msgpack.encode(made.signed),
    }
    for index, raw in enumerate(made.transactions):
        rows["transactions", hashlib.sha256(raw).digest()] = key + u64(index)
    return rows


class EmbeddedDriver:
    """Makes, signs and commits blocks. For one event loop."""

    def __init__(
        self,
        application: Application,
        store: LedgerStore,
        validator: Identity,
        clock: Clock,
        *,
        block_seconds: float = BLOCK_SECONDS,
        watch_seconds: float = WATCH_SECONDS,
        mempool: Mempool | None = None,
    ) -> None:
        self.application = application
        self._store = store
        self._validator = validator
        self._clock = clock
        self._block_seconds = block_seconds
        self._watch_seconds = watch_seconds
        self._mempool = Mempool() if mempool is None else mempool
        self._waiters: dict[bytes, list[asyncio.Future[Included]]] = {}
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self.after_block: list[Callable[[], None]] = []
        if application.is_new:
            application.init_chain()
        self.full = ""  # why no block can be stored now
        self.last = self._read_last()

    def _read_last(self) -> Header | None:
        with self._store.read() as view:
            raw = view.get("meta", LAST_BLOCK)
        if raw is None:
            return None
        genesis = self.application.genesis
        signed = msgspec.msgpack.decode(raw, type=block.SignedHeader)
        return block.open_header(signed, genesis.chain_id, genesis.validator_ids())

    @property
    def waiting(self) -> int:
        """Transactions that wait for a block."""
        return len(self._mempool)

    # ------------------------------------------------------------ transactions

    def accept(self, raw: bytes) -> bytes:
        """Check a transaction and let it wait; its digest. Raises Rejected."""
        if self.full:
            raise Rejected("no_space", self.full)
        digest = hashlib.sha256(raw).digest()
        if digest in self._mempool:
            return digest
        self._mempool.check_room(raw)
        checked = self.application.check_tx(raw)
        if not checked.ok:
            raise Rejected(checked.code, checked.reason)
        self._mempool.add(raw)
        self._wanted.set()
        return digest

    def is_waiting(self, digest: bytes) -> bool:
        """Whether the transaction is in the mempool."""
        return digest in self._mempool

    async def included(self, digest: bytes) -> Included:
        """Wait until a waiting transaction is in a block. Raises Rejected when it never will be."""
        waiter: asyncio.Future[Included] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(digest, [])
        waiters.append(waiter)
        try:
            return await waiter
        finally:
            waiters.remove(waiter)
            if not waiters and self._waiters.get(digest) is waiters:
                del self._waiters[digest]

    def sign(self, body: Body) -> bytes:
        """A transaction of the validator's own, behind those of its that wait."""
        application = self.application
        return envelope.sign(
            self._validator,
            body,
            chain=application.genesis.chain_id,
            nonce=application.next_nonce(AccountId(self._validator.id)),
            fee=application.genesis.parameters.fee_min,
            expiry=application.info().height + 100,
        )

    # ------------------------------------------------------------ blocks

    async def run(self) -> None:
        """Make blocks until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._make_when_wanted())
            group.create_task(self._make_at_epoch_ends())

    async def _make_when_wanted(self) -> None:
        while True:
            await self._wanted.wait()
            await self._clock.sleep(self._watch_seconds if self.full else self._block_seconds)
            if len(self._mempool):
                self._try_block()

    async def _make_at_epoch_ends(self) -> None:
        while True:
            remaining = self.epoch_end_ns() - self._clock.now_ns()
            if remaining <= 0:
                self._try_block()
            if self.full:
                remaining = round(self._watch_seconds * 1e9)
            # A slow disk can take longer for a block than a short epoch lasts: others come between.
            await self._clock.sleep(min(self._watch_seconds, max(0.0, remaining / 1e9)))

    def epoch_end_ns(self) -> int:
        """When the running epoch is over."""
        market = self.application.get(records.MARKET, SINGLETON)
        assert market is not None
        return market.end_ns

    async def next_block(self) -> None:
        """Wait until the next block is committed."""
        await self._changed.wait()

    def _try_block(self) -> None:
        """A block, if there is room for it: else everything waits, and is read, as it is."""
        try:
            self.make_block()
        except StoreFull as error:
            if not self.full:
                log.error("no blocks until there is room: %s", error)
            self.full = str(error)
        else:
            if self.full:
                log.info("there is room for blocks again")
            self.full = ""

    def make_block(self) -> Header:
        """Put what waits into a block, and make it durable. Raises StoreFull."""
        application, genesis = self.application, self.application.genesis
        height = application.info().height + 1
        after_ns = genesis.time_ns if self.last is None else self.last.time_ns
        previous = genesis.digest() if self.last is None else self.last.hash()
        time_ns = max(self._clock.now_ns(), after_ns + 1)
        transactions = application.prepare_proposal(self._mempool.waiting())
        outcome = application.finalize_block(height, time_ns, previous, transactions)
        leaves = block.results_bytes(outcome.results, outcome.events)
        header = Header(
            chain=genesis.chain_id,
            height=height,
            time_ns=time_ns,
            previous=previous,
            app_hash=outcome.app_hash,
            transactions=block.transactions_root(transactions),
            results=merkle.root([merkle.leaf_hash(leaf) for leaf in leaves]),
            proposer=self._validator.id,
        )
        self._commit(header, transactions, leaves)
        self.last = header
        self._tell(height, transactions, outcome)
        return header

    def _commit(self, header: Header, transactions: list[bytes], leaves: list[bytes]) -> None:
        signed = block.sign(self._validator, header)
        self.application.commit(block_rows(header.height, Block(signed, transactions), leaves))

    def _tell(self, height: int, transactions: list[bytes], outcome: Finalized) -> None:
        """Answer whoever waits, and check anew what did not fit."""
        digests = [hashlib.sha256(raw).digest() for raw in transactions]
        self._mempool.remove(digests)
        for index, (digest, result) in enumerate(zip(digests, outcome.results, strict=True)):
            self._answer(digest, Included(height, index, result))
        self.application.forget_pending()
        for raw in self._mempool.waiting():
            checked = self.application.check_tx(raw)
            if not checked.ok:
                digest = hashlib.sha256(raw).digest()
                self._mempool.remove([digest])
                self._answer(digest, Rejected(checked.code, checked.reason))
        if not len(self._mempool):
            self._wanted.clear()
        for hook in self.after_block:
            hook()
        self._changed.set()
        self._changed.clear()
        log.debug("block %d: %d transactions", height, len(transactions))

    def _answer(self, digest: bytes, answer: Included | Rejected) -> None:
        for waiter in self._waiters.pop(digest, []):
            if waiter.done():
                continue
            if isinstance(answer, Rejected):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)
