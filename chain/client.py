"""The ledger as upper layers see it: typed questions and signed transactions over one peer."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from chain import certificate, protocol
from chain.errors import InvalidBlock, InvalidProof, LedgerError
from chain.genesis import GIB, Genesis
from chain.genesis import parse as parse_genesis
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.ledger import records, tree
from chain.ledger.block import (
    Block,
    Header,
    SignedHeader,
    app_hash,
    open_header,
    parse_block,
    transactions_root,
)
from chain.ledger.execution import OPERATOR_LEASE
from chain.ledger.records import (
    SINGLETON,
    Account,
    Authorisation,
    Batch,
    Bid,
    Endpoint,
    Lease,
    Market,
    Miner,
    Table,
    Totals,
    u64,
)
from chain.ledger.transactions import envelope
from chain.ledger.transactions.body import Body
from chain.ledger.transactions.leases import BuyLease, instant_price
from chain.ledger.transactions.market import ClaimLease, CommitBid, RevealBid, bid_id, commitment
from chain.ledger.transactions.objects import Leaf
from chain.net.transport import Peer, RemoteError, Unreachable
from chain.protocol import LedgerStatus, TransactionResult

R = TypeVar("R", bound=msgspec.Struct)
# A transaction is good for this many blocks.
EXPIRY_BLOCKS = 1_000
_PAGE = protocol.ROWS_MAX
_AGAIN_SECONDS = 0.2
# Another process may use the same identity: nonces are asked for again.
_NONCE_TRIES = 5
_SALT_DOMAIN = b"cumulus/bid-salt/1"


class TransactionFailed(LedgerError):
    """The transaction is in a block, or was refused before, with a code other than "ok"."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class MinerRecord:
    """A registered miner."""

    id: AccountId
    owner: AccountId
    address: str
    domain: str
    pledged_bytes: int
    stored_bytes: int
    state: str  # active, draining, lost
    min_price: int
    stake: int


@dataclass(frozen=True, slots=True)
class Prices:
    """Units per GiB-month: what the last clearing found, and what an instant lease costs."""

    current: int
    instant: int
    reserve: int
    epoch: int
    epoch_end_ns: int


@dataclass(frozen=True, slots=True)
class ObjectProof:
    """A batch's record in the state of a signed block: what a certificate needs of the ledger."""

    gateway: AccountId
    number: int
    batch: bytes
    proof: tree.Proof
    signed: SignedHeader
    parameters: bytes

    def certificate(self, leaf: Leaf, hashes: Sequence[bytes], index: int) -> bytes:
        """The certificate of `leaf`, number `index` of the leaves that have these hashes."""
        return certificate.build(
            leaf,
            hashes,
            index,
            gateway=self.gateway,
            number=self.number,
            batch=self.batch,
            proof=self.proof,
            parameters=self.parameters,
            signed=self.signed,
        )


class LedgerClient:
    """For one event loop. Methods raise RemoteError and Unreachable besides what they name.

    With a `genesis` every proven answer is checked against it; without one the client takes the
    node's own (`genesis()`), which is right on a machine-local channel only.
    """

    def __init__(self, peer: Peer, genesis: Genesis | None = None) -> None:
        self._peer = peer
        self._genesis = genesis
        self._nonces: dict[AccountId, int] = {}
        self._locks: dict[AccountId, asyncio.Lock] = {}

    # ------------------------------------------------------------ state

    async def status(self) -> LedgerStatus:
        """Height, epoch, price."""
        return await self._peer.ask(protocol.GetStatus())

    async def genesis(self) -> Genesis:
        """The pinned genesis, or the node's."""
        if self._genesis is None:
            self._genesis = parse_genesis((await self._peer.ask(protocol.GetGenesis())).json)
        return self._genesis

    async def account(self, account: AccountId) -> Account:
        """Balance and nonce; an unknown account is empty."""
        return await self._record("accounts", records.ACCOUNTS, account) or Account(0, 0)

    async def totals(self) -> Totals:
        """Where the tokens are that no account has."""
        totals = await self._record("totals", records.TOTALS, SINGLETON)
        assert totals is not None
        return totals

    async def market(self) -> Market:
        """The market's record."""
        market = await self._record("market", records.MARKET, SINGLETON)
        assert market is not None
        return market

    async def price(self) -> Prices:
        """Current prices."""
        market, genesis = await self.market(), await self.genesis()
        instant = instant_price(market.price, genesis.parameters.premium_permille)
        return Prices(market.price, instant, market.reserve, market.epoch, market.end_ns)

    async def miners(self) -> list[MinerRecord]:
        """All miners by id."""
        found = await self._rows("miners", records.MINERS)
        return [_miner(key, record) for key, record in found]

    async def miner(self, miner: AccountId) -> MinerRecord | None:
        """One miner, or None."""
        record = await self._record("miners", records.MINERS, miner)
        return None if record is None else _miner(miner, record)

    async def edges(self) -> dict[AccountId, Endpoint]:
        """All edges."""
        found = await self._rows("edges", records.EDGES)
        return {AccountId(key): record for key, record in found}

    async def gateways(self) -> dict[AccountId, Endpoint]:
        """All gateways."""
        found = await self._rows("gateways", records.GATEWAYS)
        return {AccountId(key): record for key, record in found}

    async def gateway(self, gateway: AccountId) -> Endpoint | None:
        """A gateway; `batches` is the number that its next batch must have."""
        return await self._record("gateways", records.GATEWAYS, gateway)

    async def lease(self, lease: bytes) -> Lease | None:
        """One lease, or None."""
        return await self._record("leases", records.LEASES, lease)

    async def leases(self, owner: AccountId) -> dict[bytes, Lease]:
        """An account's leases by id."""
        index = await self._rows("lease_owners", records.LEASES_BY_OWNER, within=owner)
        found = [(key[32:], await self.lease(key[32:])) for key, _ in index]
        return {key: lease for key, lease in found if lease is not None}

    async def authorisation(self, lease: bytes, gateway: AccountId) -> Authorisation | None:
        """What a gateway may use of a lease, or None."""
        return await self._record("authorisations", records.AUTHORISATIONS, lease + gateway)

    async def bids(self, owner: AccountId | None = None) -> dict[bytes, Bid]:
        """Bids that wait or are to be claimed, of one account or of all."""
        found = await self._rows("bids", records.BIDS)
        return {key: bid for key, bid in found if owner is None or bid.owner == owner}

    async def batch(self, gateway: AccountId, number: int) -> Batch | None:
        """An object batch, or None."""
        return await self._record("batches", records.BATCHES, gateway + u64(number))

    async def object_proof(self, gateway: AccountId, number: int) -> ObjectProof:
        """The proven record of a batch. Raises InvalidProof."""
        key = gateway + u64(number)
        header, rows = await self._proven("batches", records.BATCHES, key)
        if not rows.rows:
            raise InvalidProof(f"no batch {number} of {gateway.hex()} at height {header.height}")
        assert rows.proof is not None
        assert rows.signed is not None
        parameters = (await self.genesis()).parameters.digest()
        proof = _proof(rows.proof)
        return ObjectProof(gateway, number, rows.rows[0].value, proof, rows.signed, parameters)

    async def proven(self, path: str, key: bytes) -> tuple[Header, msgspec.Struct | None]:
        """A record that follows from a signed block, or its proven absence. Raises InvalidProof."""
        table = records.TABLES[path]
        header, rows = await self._proven(path, table, key)
        return header, records.decode(table, rows.rows[0].value) if rows.rows else None

    # ------------------------------------------------------------ blocks

    async def header(self, height: int = 0) -> Header:
        """A block's header, the last one by default, its signature checked. Raises InvalidBlock."""
        header = await self._open(await self._peer.ask(protocol.GetHeader(height)))
        if height and header.height != height:
            raise InvalidBlock(f"a header of height {header.height}, not {height}")
        return header

    async def blocks(self, start: int, limit: int = protocol.BLOCKS_MAX) -> list[Block]:
        """Blocks from a height on, perhaps fewer than asked for. Raises InvalidBlock."""
        reply = await self._peer.ask(protocol.GetBlocks(start, limit))
        blocks = [parse_block(raw) for raw in reply.blocks]
        for height, block in enumerate(blocks, max(start, 1)):
            header = await self._open(block.signed)
            if header.height != height:
                raise InvalidBlock(f"a block of height {header.height}, not {height}")
            if transactions_root(block.transactions) != header.transactions:
                raise InvalidBlock("the transactions are not the block's")
        return blocks

    async def events(
        self, start: int, limit: int = protocol.BLOCKS_MAX
    ) -> list[protocol.BlockEvents]:
        """Results and events from a height on, as leaves under `Header.results`."""
        return (await self._peer.ask(protocol.GetEvents(start, limit))).blocks

    # ------------------------------------------------------------ transactions

    async def submit(
        self, identity: Identity, body: Body, *, wait: bool = True
    ) -> TransactionResult:
        """Sign, send and (with `wait`) return after inclusion. Raises TransactionFailed.

        Transactions of one identity through one client keep their order.
        """
        genesis = await self.genesis()
        lock = self._locks.setdefault(identity.id, asyncio.Lock())
        async with lock:
            checked = await self._send(identity, body, genesis)
        if not wait:
            return checked
        try:
            async with asyncio.timeout(protocol.INCLUSION_SECONDS):
                receipt = await self._receipt(checked.id)
        except TimeoutError:
            raise Unreachable("the transaction waits; its block was not seen in time") from None
        if not receipt.result.ok:
            raise TransactionFailed(receipt.result.code, receipt.result.reason)
        return receipt

    async def _receipt(self, key: bytes) -> TransactionResult:
        while True:
            receipt = await self._peer.ask(protocol.AwaitTransaction(key))
            if receipt.height:
                return receipt
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _send(self, identity: Identity, body: Body, genesis: Genesis) -> TransactionResult:
        for attempt in range(_NONCE_TRIES):
            status = await self.status()
            nonce = self._nonces.get(identity.id)
            if nonce is None or attempt:
                nonce = (await self._peer.ask(protocol.NextNonce(identity.id))).nonce
            raw = envelope.sign(
                identity,
                body,
                chain=genesis.chain_id,
                nonce=nonce,
                fee=genesis.parameters.fee_min,
                expiry=status.height + EXPIRY_BLOCKS,
            )
            try:
                checked = await self._peer.ask(protocol.SubmitTransaction(raw, wait=False))
            except RemoteError as error:
                self._nonces.pop(identity.id, None)
                if error.code == "bad_nonce":
                    continue
                raise TransactionFailed(error.code, error.reason) from None
            except BaseException:
                self._nonces.pop(identity.id, None)  # nobody knows whether it arrived
                raise
            self._nonces[identity.id] = nonce + 1
            return checked
        raise TransactionFailed("bad_nonce", "others send for this account at the same time")

    # ------------------------------------------------------------ market

    async def bid(
        self,
        identity: Identity,
        *,
        price: int,
        size: int,
        months: int = 1,
        epochs: int = 24,
        entrust: bool = True,
    ) -> RevealBid:
        """Commit a bid of at most `price` units per GiB-month for `size` bytes (whole MiB).

        With `entrust` the node reveals it in the next epoch by itself (and so learns its terms);
        else keep the answer and `submit` it then. Raises TransactionFailed.
        """
        number = (await self._peer.ask(protocol.NextNonce(identity.id))).nonce
        terms = f"{price}/{size}/{months}/{epochs}/{number}".encode()
        salt = hashlib.sha256(identity.sign(_SALT_DOMAIN, terms)).digest()
        committed = commitment(
            identity.id, price=price, size=size, months=months, epochs=epochs, salt=salt
        )
        key = bid_id(identity.id, committed)
        reveal = RevealBid(bid=key, price=price, size=size, months=months, epochs=epochs, salt=salt)
        msgspec.convert(reveal.to_fields(), RevealBid)  # bounds, before a deposit is at stake
        await self.submit(identity, CommitBid(commitment=committed))
        if entrust:
            fields: dict[str, Any] = msgspec.structs.asdict(reveal)
            await self._peer.ask(protocol.EntrustReveal(**fields))
        return reveal

    async def claim_all(self, identity: Identity) -> list[bytes]:
        """Turn every bid that won into its lease; their ids (a lease has its bid's id)."""
        won = [key for key, bid in (await self.bids(identity.id)).items() if bid.state == "won"]
        for key in won:
            await self.submit(identity, ClaimLease(bid=key))
        return won

    async def buy_lease(
        self, identity: Identity, *, size: int, months: int = 1, max_price: int | None = None
    ) -> bytes:
        """Lease at once at the instant price; the lease's id. Raises TransactionFailed."""
        limit = (await self.price()).instant if max_price is None else max_price
        body = BuyLease(size=size, months=months, max_price=limit)
        receipt = await self.submit(identity, body)
        opened = next(e for e in receipt.result.events if e.type == "lease_opened")
        lease = opened.attributes["lease"]
        assert isinstance(lease, bytes)
        return lease

    @staticmethod
    def operator_lease() -> bytes:
        """The id of a single-operator network's own lease."""
        return OPERATOR_LEASE

    @staticmethod
    def cost(price: int, size: int, months: int) -> int:
        """Units for `size` bytes over `months` at `price`, before rounding to epochs."""
        return -(-price * size * months // GIB)

    # ------------------------------------------------------------ reading

    async def _record(self, path: str, table: Table[R], key: bytes) -> R | None:
        reply = await self._peer.ask(protocol.Query(path, key))
        return records.decode(table, reply.rows[0].value) if reply.rows else None

    async def _rows(self, path: str, table: Table[R], within: bytes = b"") -> list[tuple[bytes, R]]:
        """All rows, page by page."""
        found: list[tuple[bytes, R]] = []
        start = within
        while True:
            page = await self._peer.ask(protocol.Query(path, within, start=start, limit=_PAGE))
            found += [(row.key, records.decode(table, row.value)) for row in page.rows]
            if len(page.rows) < _PAGE:
                return found
            start = page.rows[-1].key + b"\x00"

    async def _proven(
        self, path: str, table: Table[Any], key: bytes
    ) -> tuple[Header, protocol.Rows]:
        """An answer that follows from a signed block. Raises InvalidProof."""
        rows = await self._peer.ask(protocol.Query(path, key, prove=True))
        if rows.proof is None or rows.signed is None:
            raise InvalidProof("the node gave no proof; before the first block there is none")
        if len(rows.rows) > 1:
            raise InvalidProof("a key has one value")
        header = await self._open(rows.signed)
        value = rows.rows[0].value if rows.rows else None
        root = tree.root_from(_proof(rows.proof), table.prefix + key, value)
        parameters = (await self.genesis()).parameters.digest()
        if root is None or app_hash(root, parameters) != header.app_hash:
            raise InvalidProof("the answer does not follow from the block")
        return header, rows

    async def _open(self, signed: SignedHeader) -> Header:
        genesis = await self.genesis()
        return open_header(signed, genesis.chain_id, genesis.validator_ids())


def _proof(fields: protocol.ProofFields) -> tree.Proof:
    other = fields.other
    if other is not None and len(other) != 2:
        raise InvalidProof("another leaf is a path and a value hash")
    pair = None if other is None else (other[0], other[1])
    return tree.Proof(fields.depth, fields.present, tuple(fields.siblings), pair)


def _miner(key: bytes, record: Miner) -> MinerRecord:
    return MinerRecord(
        id=AccountId(key),
        owner=record.owner,
        address=record.address,
        domain=record.domain,
        pledged_bytes=record.pledged_bytes,
        stored_bytes=record.stored_bytes,
        state=record.state,
        min_price=record.min_price,
        stake=record.stake,
    )
