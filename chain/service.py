"""The ledger node's answers: a table of handlers over the driver and the last committed state."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from chain import dagcbor, protocol
from chain.application import Snapshot
from chain.cids import DAG_CBOR, SHA2_256, Cid, InvalidCid
from chain.consensus.embedded import EmbeddedDriver
from chain.errors import OK, Rejected
from chain.ids import AccountId
from chain.ledger import records
from chain.ledger.block import Result, SignedHeader, parse_block
from chain.ledger.records import SINGLETON, u64
from chain.ledger.store import LedgerStore, Space, StoreFull, View
from chain.ledger.transactions.market import RevealBid
from chain.net.transport import Caller, Handlers, RemoteError

log = logging.getLogger(__name__)

_REVEAL = b"reveal/"
REVEALS_MAX = 10_000
# Of a transport's 256 handlers, and of one client's 128 credits.
AWAITING_MAX = 64


class LedgerService:
    """Handlers for chain/protocol.py."""

    def __init__(self, driver: EmbeddedDriver, store: LedgerStore) -> None:
        self._driver = driver
        self._store = store
        self._awaiting = 0
        self._sent: dict[bytes, int] = {}  # bid -> the epoch in which its reveal was sent
        driver.after_block.append(self.send_due_reveals)
        self.send_due_reveals()

    def handlers(self) -> Handlers:
        """The table to serve."""
        return (
            Handlers()
            .on(protocol.SubmitTransaction, self.submit)
            .on(protocol.AwaitTransaction, self.wait)
            .on(protocol.FindTransaction, self.find)
            .on(protocol.NextNonce, self.next_nonce)
            .on(protocol.Query, self.query)
            .on(protocol.GetBlocks, self.blocks)
            .on(protocol.GetHeader, self.header)
            .on(protocol.GetEvents, self.events)
            .on(protocol.GetStatus, self.status)
            .on(protocol.GetGenesis, self.genesis)
            .on(protocol.EntrustReveal, self.entrust)
        )

    # ------------------------------------------------------------ transactions

    async def submit(
        self, message: protocol.SubmitTransaction, _: Caller
    ) -> protocol.TransactionResult:
        """Refusals before a block are RemoteErrors with the ledger's codes."""
        try:
            digest = self._driver.accept(message.transaction)
            key = Cid.of(DAG_CBOR, SHA2_256, digest).raw
            if not message.wait:
                return protocol.TransactionResult(key, 0, 0, Result(OK, "", []))
        except Rejected as error:
            raise RemoteError(error.code, error.reason) from None
        return await self._receipt(key, digest)

    async def wait(
        self, message: protocol.AwaitTransaction, caller: Caller
    ) -> protocol.TransactionResult:
        """The receipt of a transaction in a block, or of one that waits."""
        digest = _digest(message.id)
        if self._driver.is_waiting(digest):
            return await self._receipt(message.id, digest)
        return await self.find(protocol.FindTransaction(message.id), caller)

    async def _receipt(self, key: bytes, digest: bytes) -> protocol.TransactionResult:
        """Of a waiting transaction. Height 0 after a while, or when too many wait for theirs.

        Handlers are few: those that wait leave most of them to everybody else.
        """
        if self._awaiting >= AWAITING_MAX:
            return protocol.TransactionResult(key, 0, 0, Result(OK, "", []))
        self._awaiting += 1
        try:
            async with asyncio.timeout(protocol.AWAIT_SECONDS):
                included = await self._driver.included(digest)
        except TimeoutError:
            return protocol.TransactionResult(key, 0, 0, Result(OK, "", []))
        except Rejected as error:
            raise RemoteError(error.code, error.reason) from None
        finally:
            self._awaiting -= 1
        return protocol.TransactionResult(key, included.height, included.index, included.result)

    async def next_nonce(self, message: protocol.NextNonce, _: Caller) -> protocol.Nonce:
        application = self._driver.application
        return protocol.Nonce(application.next_nonce(AccountId(message.account)))

    async def find(
        self, message: protocol.FindTransaction, _: Caller
    ) -> protocol.TransactionResult:
        digest = _digest(message.id)
        with self._store.read() as view:
            place = view.get("transactions", digest)
            if place is None:
                raise RemoteError("not_found", "no such transaction in a block")
            height, index = int.from_bytes(place[:8], "big"), int.from_bytes(place[8:], "big")
            leaf = _leaves(view.get("results", place[:8]))[index]
        result = msgspec.convert(dagcbor.decode(leaf), Result)
        return protocol.TransactionResult(message.id, height, index, result)

    # ------------------------------------------------------------ state

    async def query(self, message: protocol.Query, _: Caller) -> protocol.Rows:
        table = records.TABLES.get(message.path)
        if table is None:
            raise RemoteError("not_found", f"tables: {', '.join(sorted(records.TABLES))}")
        with Snapshot(self._store) as snapshot:
            if message.prove or not message.limit:
                answer = snapshot.record(table, message.data, prove=message.prove)
            else:
                answer = snapshot.rows(table, message.data, message.start, message.limit)
            signed = None
            if message.prove and answer.height:
                signed = _block_header(snapshot.view, answer.height)
        proof = answer.proof
        fields = (
            None
            if proof is None
            else protocol.ProofFields(
                proof.depth,
                proof.present,
                list(proof.siblings),
                None if proof.other is None else list(proof.other),
            )
        )
        rows = [protocol.Row(key, value) for key, value in answer.rows]
        return protocol.Rows(answer.height, rows, fields, signed)

    async def status(self, _: protocol.GetStatus, __: Caller) -> protocol.LedgerStatus:
        application = self._driver.application
        genesis, info, last = application.genesis, application.info(), self._driver.last
        market = application.get(records.MARKET, SINGLETON)
        assert market is not None
        return protocol.LedgerStatus(
            chain_id=genesis.chain_id,
            genesis=genesis.digest(),
            height=info.height,
            app_hash=info.app_hash,
            time_ns=genesis.time_ns if last is None else last.time_ns,
            epoch=market.epoch,
            epoch_end_ns=market.end_ns,
            price=market.price,
            fee_min=genesis.parameters.fee_min,
            operator=genesis.operator_id,
            mempool=self._driver.waiting,
        )

    async def genesis(self, _: protocol.GetGenesis, __: Caller) -> protocol.Genesis:
        return protocol.Genesis(self._driver.application.genesis.to_json())

    # ------------------------------------------------------------ blocks

    async def header(self, message: protocol.GetHeader, _: Caller) -> SignedHeader:
        height = message.height or self._driver.application.info().height
        with self._store.read() as view:
            signed = _block_header(view, height)
        if signed is None:
            raise RemoteError("not_found", f"no block at height {height}")
        return signed

    async def blocks(self, message: protocol.GetBlocks, _: Caller) -> protocol.BlockList:
        found = self._from_height("blocks", message.start, message.limit)
        return protocol.BlockList([raw for _, raw in found])

    async def events(self, message: protocol.GetEvents, _: Caller) -> protocol.EventList:
        found = self._from_height("results", message.start, message.limit)
        return protocol.EventList(
            [protocol.BlockEvents(height, _leaves(raw)) for height, raw in found]
        )

    def _from_height(self, space: Space, start: int, limit: int) -> Iterator[tuple[int, bytes]]:
        """Rows from a height on, together within the reply's bound (but at least one)."""
        room = protocol.REPLY_BYTES_MAX
        with self._store.read() as view:
            for number, (key, raw) in enumerate(view.scan(space, u64(start), None)):
                room -= len(raw)
                if number >= limit or (number and room < 0):
                    return
                yield int.from_bytes(key, "big"), raw

    # ------------------------------------------------------------ reveals

    async def entrust(self, message: protocol.EntrustReveal, _: Caller) -> protocol.Entrusted:
        fields = {name: getattr(message, name) for name in RevealBid.__struct_fields__}
        try:
            body = msgspec.convert(fields, RevealBid)
        except msgspec.ValidationError as error:
            raise RemoteError("malformed", str(error)) from None
        bid = self._driver.application.get(records.BIDS, body.bid)
        if bid is None or bid.state != "committed":
            raise RemoteError("not_found", "commit the bid first")
        if not body.opens(bid):
            # else anybody could put wrong terms in the place of the bidder's
            raise RemoteError("wrong_opening", "these are not the committed terms")
        if len(self._reveals()) >= REVEALS_MAX:
            raise RemoteError("limit", "too many reveals are entrusted to this node")
        try:
            self._store.commit({("meta", _REVEAL + body.bid): msgspec.msgpack.encode(body)})
        except StoreFull as error:
            raise RemoteError("no_space", str(error)) from None
        return protocol.Entrusted()

    def send_due_reveals(self) -> None:
        """Put reveals whose epoch has come in the mempool; forget those that are done."""
        application = self._driver.application
        market = application.get(records.MARKET, SINGLETON)
        assert market is not None
        for key, raw in self._reveals():
            body = msgspec.msgpack.decode(raw, type=RevealBid)
            bid = application.get(records.BIDS, body.bid)
            if bid is None or bid.state != "committed":
                self._sent.pop(body.bid, None)
                with suppress(StoreFull):  # it goes behind the next block
                    self._store.commit({("meta", key): None})
            elif market.epoch == bid.epoch + 1 and self._sent.get(body.bid) != market.epoch:
                self._sent[body.bid] = market.epoch
                try:
                    self._driver.accept(self._driver.sign(body))
                except Rejected as error:
                    log.warning("a reveal was refused: %s", error)

    def _reveals(self) -> list[tuple[bytes, bytes]]:
        with self._store.read() as view:
            return list(view.scan("meta", _REVEAL, _REVEAL[:-1] + b"0"))


def _digest(raw: bytes) -> bytes:
    try:
        return Cid.from_bytes(raw).digest
    except InvalidCid as error:
        raise RemoteError("malformed", str(error)) from None


def _block_header(view: View, height: int) -> SignedHeader | None:
    raw = view.get("blocks", u64(height))
    return None if raw is None else parse_block(raw).signed


def _leaves(raw: bytes | None) -> list[bytes]:
    assert raw is not None, "results are committed with their block"
    return msgspec.msgpack.decode(raw, type=list[bytes])
