"""The ledger as one deterministic application with the shape of ABCI 2.0.

info, init_chain, check_tx, prepare_proposal, process_proposal, finalize_block, commit, queries.
The state after a block depends on the state before and the block alone: integers only, no clock,
no chance, no I/O besides the store that is handed in. `finalize_block` stages everything in memory;
`commit` makes state, height and app hash durable in one transaction, with whatever rows the driver
adds (its block). Queries read the last committed snapshot meanwhile.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from chain.economy.epochs import run_due_epochs
from chain.errors import OK, Rejected, WrongGenesis
from chain.genesis import Genesis
from chain.ids import AccountId, account_id
from chain.ledger import records, tree
from chain.ledger.block import Event, Result, app_hash
from chain.ledger.execution import OPERATOR_LEASE, Execution
from chain.ledger.records import SINGLETON, Account, Lease, Market, Table, Totals, u64
from chain.ledger.state import State
from chain.ledger.store import Changes, LedgerStore, Space, View
from chain.ledger.transactions.envelope import Transaction, parse
from chain.ledger.transactions.registry import REGISTRY

# Signatures verified by check_tx are not verified again by finalize_block: 43 µs each.
_VERIFIED_MAX = 100_000
HEIGHT, APP_HASH, GENESIS, LAST_BLOCK = b"height", b"app_hash", b"genesis", b"last_block"


@dataclass(frozen=True, slots=True)
class Info:
    """The last committed block; height 0 is the genesis state."""

    height: int
    app_hash: bytes


@dataclass(frozen=True, slots=True)
class Finalized:
    """A block's outcome, staged and not yet durable."""

    results: list[Result]
    events: list[Event]
    app_hash: bytes


class Application:
    """One ledger over one store. Not for several threads."""

    def __init__(self, store: LedgerStore, genesis: Genesis) -> None:
        """Raises WrongGenesis when the store was begun with another genesis."""
        self._store = store
        self.genesis = genesis
        self._parameters_digest = genesis.parameters.digest()
        self._staged: dict[tuple[Space, bytes], bytes | None] | None = None
        self._staged_info = Info(0, b"")
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        # What the transactions that wait will have used: signer -> (next nonce, fees).
        self._pending: dict[bytes, tuple[int, int]] = {}
        with store.read() as view:
            found = view.get("meta", GENESIS)
            self._info = _read_info(view)
        if found is not None and found != genesis.digest():
            raise WrongGenesis("the ledger in this directory belongs to another genesis")
        self.is_new = found is None

    def info(self) -> Info:
        """Where the ledger stands."""
        return self._info

    # ------------------------------------------------------------ genesis

    def init_chain(self) -> bytes:
        """Make the genesis state durable; the app hash."""
        assert self.is_new
        with self._store.read() as view:
            state = State(view)
            self._write_genesis(state)
            root, rows = state.changes()
        self._staged = dict(rows)
        self._staged["meta", GENESIS] = self.genesis.digest()
        self._staged_info = Info(0, app_hash(root, self._parameters_digest))
        self.commit({})
        self.is_new = False
        return self._info.app_hash

    def _write_genesis(self, state: State) -> None:
        genesis, parameters = self.genesis, self.genesis.parameters
        for entry in genesis.accounts:
            account = Account(entry.balance, 0)
            state.put(records.ACCOUNTS, account_id(entry.account), account)
        supply = sum(entry.balance for entry in genesis.accounts)
        state.put(records.TOTALS, SINGLETON, Totals(supply, 0, 0, 0, 0, 0))
        price = parameters.initial_price
        market = Market(
            epoch=0,
            start_ns=genesis.time_ns,
            end_ns=genesis.time_ns + parameters.epoch_seconds * 10**9,
            price=price,
            reserve=price,
            flow=0,
            pledged=0,
            leased=0,
            bids=0,
            mix=bytes(32),
        )
        state.put(records.MARKET, SINGLETON, market)
        operator = genesis.operator_id
        if operator is not None:
            lease = Lease(operator, 0, 0, 0, end=0, reserved=0, used=0, state="active")
            run = Execution(state, genesis, 0, genesis.time_ns)
            run.open_lease(OPERATOR_LEASE, lease)

    # ------------------------------------------------------------ mempool

    def check_tx(self, raw: bytes) -> Result:
        """Whether it may wait for a block, behind those that were checked before it."""
        try:
            transaction = parse(raw, REGISTRY)
            self._check_static(transaction, self._info.height + 1)
            signer = transaction.signer
            with self._store.read() as view:
                account = _read_account(view, signer)
            nonce, fees = self._pending.get(signer, (account.nonce if account else 0, 0))
            self._check_account(transaction, account, nonce, fees)
        except Rejected as error:
            return Result(error.code, error.reason, [])
        self._pending[signer] = (nonce + 1, fees + transaction.fee)
        return Result(OK, "", [])

    def next_nonce(self, account: AccountId) -> int:
        """The nonce behind the account's waiting transactions."""
        if account in self._pending:
            return self._pending[account][0]
        record = self.get(records.ACCOUNTS, account)
        return record.nonce if record else 0

    def forget_pending(self) -> None:
        """Begin the mempool's bookkeeping anew: after a commit, before checking what waits."""
        self._pending.clear()

    def prepare_proposal(self, waiting: Iterable[bytes]) -> list[bytes]:
        """The first of the waiting transactions that fit in a block."""
        parameters = self.genesis.parameters
        chosen: list[bytes] = []
        room = parameters.block_bytes_max
        for raw in waiting:
            if len(chosen) >= parameters.block_transactions_max or len(raw) > room:
                break
            chosen.append(raw)
            room -= len(raw)
        return chosen

    def process_proposal(self, transactions: Sequence[bytes]) -> bool:
        """Whether a proposer's block is within bounds and every transaction parses."""
        parameters = self.genesis.parameters
        if len(transactions) > parameters.block_transactions_max:
            return False
        if sum(map(len, transactions)) > parameters.block_bytes_max:
            return False
        try:
            for raw in transactions:
                parse(raw, REGISTRY)
        except Rejected:
            return False
        return True

    # ------------------------------------------------------------ blocks

    def finalize_block(
        self, height: int, time_ns: int, previous: bytes, transactions: Sequence[bytes]
    ) -> Finalized:
        """Apply a block and stage it. `previous` is the last block's hash (the beacon's source).

        Epochs that are over at `time_ns` end first. Calling it again replaces what was staged.
        """
        assert height == self._info.height + 1, (height, self._info.height)
        with self._store.read() as view:
            state = State(view)
            run = Execution(state, self.genesis, height, time_ns)
            run_due_epochs(run, previous)
            events, run.events = run.events, []
            results = [self._execute(run, raw) for raw in transactions]
            root, rows = state.changes()
        self._staged = dict(rows)
        self._staged_info = Info(height, app_hash(root, self._parameters_digest))
        return Finalized(results, events, self._staged_info.app_hash)

    def commit(self, extra: Changes) -> None:
        """Make the staged block durable together with the driver's own rows."""
        assert self._staged is not None, "finalize_block comes first"
        info = self._staged_info
        self._staged["meta", HEIGHT] = u64(info.height)
        self._staged["meta", APP_HASH] = info.app_hash
        self._staged.update(extra)
        self._store.commit(self._staged)
        self._staged, self._info = None, info

    def _execute(self, run: Execution, raw: bytes) -> Result:
        """One transaction: the envelope costs nothing when it is wrong, the body its fee."""
        try:
            transaction = parse(raw, REGISTRY)
            self._check_static(transaction, run.height)
            account = run.state.get(records.ACCOUNTS, transaction.signer)
            self._check_account(transaction, account, account.nonce if account else 0, 0)
        except Rejected as error:
            return Result(error.code, error.reason, [])
        run.signer, run.digest, run.events = transaction.signer, transaction.digest, []
        run.debit(transaction.signer, transaction.fee)
        if transaction.fee:
            run.move("treasury", transaction.fee)
        charged = run.account(transaction.signer)
        run.state.put(
            records.ACCOUNTS, transaction.signer, replace(charged, nonce=charged.nonce + 1)
        )
        mark = run.state.mark()
        try:
            transaction.body.apply(run)
        except Rejected as error:
            run.state.rollback(mark)
            return Result(error.code, error.reason, [])
        return Result(OK, "", run.events)

    def _check_static(self, transaction: Transaction, height: int) -> None:
        """What does not depend on the signer's account. Raises Rejected."""
        if len(transaction.raw) > self.genesis.parameters.block_bytes_max:
            raise Rejected("too_large", "no block has room for it")
        if transaction.chain != self.genesis.chain_id:
            raise Rejected("wrong_chain", f"this chain is {self.genesis.chain_id}")
        if transaction.expiry < height:
            raise Rejected("expired", f"valid up to height {transaction.expiry}")
        if transaction.fee < self.genesis.parameters.fee_min:
            raise Rejected("fee_too_low", f"at least {self.genesis.parameters.fee_min} units")
        digest = transaction.digest
        if digest in self._verified:
            return
        if not transaction.is_signed():
            raise Rejected("bad_signature", "not signed by its signer")
        self._verified[digest] = None
        if len(self._verified) > _VERIFIED_MAX:
            self._verified.popitem(last=False)

    def _check_account(
        self, transaction: Transaction, account: Account | None, nonce: int, fees: int
    ) -> None:
        """Nonce and fee. Raises Rejected."""
        if account is None and self.genesis.parameters.fee_min:
            raise Rejected("unknown_account", "an account is opened by a transfer to it")
        if transaction.nonce != nonce:
            raise Rejected("bad_nonce", f"the next nonce is {nonce}")
        balance = account.balance if account else 0
        if balance < fees + transaction.fee:
            raise Rejected("insufficient_funds", "the fee is more than the balance")

    # ------------------------------------------------------------ queries

    def get(self, table: Table[records.R], key: bytes) -> records.R | None:
        """A committed record."""
        with self._store.read() as view:
            raw = view.get("state", table.prefix + key)
        return None if raw is None else records.decode(table, raw)

    def read(self) -> "Snapshot":
        """The last committed block, to ask several things of one height."""
        return Snapshot(self._store)


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of one height; `proof` belongs to the one row of a proven query."""

    height: int
    rows: list[tuple[bytes, bytes]]
    proof: tree.Proof | None = None


class Snapshot:
    """`with application.read() as snapshot:` answers queries from one committed height."""

    def __init__(self, store: LedgerStore) -> None:
        self._context = store.read()

    def __enter__(self) -> "Snapshot":
        self.view = self._context.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self._context.__exit__(None, None, None)

    def record(self, table: Table[records.R], key: bytes, *, prove: bool) -> Answer:
        """The row of one key (none when absent), with a proof of either if asked."""
        full = table.prefix + key
        raw = self.view.get("state", full)
        proof = tree.prove(lambda at: self.view.get("nodes", at), full) if prove else None
        rows = [] if raw is None else [(key, raw)]
        return Answer(_read_info(self.view).height, rows, proof)

    def rows(self, table: Table[records.R], within: bytes, start: bytes, limit: int) -> Answer:
        """Up to `limit` rows whose key begins with `within`, from key `start` on."""
        state = State(self.view)
        rows: list[tuple[bytes, bytes]] = []
        for key, record in state.scan(table, start=start, within=within):
            if len(rows) >= limit:
                break
            rows.append((key, records.encode(record)))
        return Answer(_read_info(self.view).height, rows)


def _read_info(view: View) -> Info:
    height, digest = view.get("meta", HEIGHT), view.get("meta", APP_HASH)
    return Info(int.from_bytes(height or b"", "big"), digest or b"")


def _read_account(view: View, account: bytes) -> Account | None:
    raw = view.get("state", records.ACCOUNTS.prefix + account)
    return None if raw is None else records.decode(records.ACCOUNTS, raw)
