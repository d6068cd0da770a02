"""Storage providers: registration, space, price vote, stake, drain, exit."""

from typing import ClassVar, Literal

from msgspec.structs import replace

from chain.errors import Rejected
from chain.genesis import TIB
from chain.ids import AccountId
from chain.ledger import records
from chain.ledger.execution import Execution
from chain.ledger.records import Miner
from chain.ledger.transactions.body import Address, Body, Bytes, Domain, Id, Price, Units


class RegisterMiner(Body, frozen=True):
    """The signer is a miner; rewards go to `owner` and `stake` comes from the signer."""

    name: ClassVar[str] = "register_miner"
    owner: Id
    address: Address
    domain: Domain
    pledged_bytes: Bytes
    min_price: Price
    stake: Units = 0

    def apply(self, run: Execution) -> None:
        if run.state.get(records.MINERS, run.signer) is not None:
            raise Rejected("exists", "this miner is registered: update it")
        run.debit(run.signer, self.stake)
        run.move("collateral", self.stake)
        miner = Miner(
            owner=AccountId(self.owner),
            address=self.address,
            domain=self.domain,
            pledged_bytes=self.pledged_bytes,
            stored_bytes=0,
            min_price=self.min_price,
            stake=self.stake,
            state="active",
        )
        _check_collateral(run, miner)
        run.state.put(records.MINERS, run.signer, miner)
        run.change_pledge(self.pledged_bytes)
        run.emit("miner_registered", miner=run.signer, pledged=self.pledged_bytes)


class UpdateMiner(Body, frozen=True):
    """New address, domain, space, vote, or state of the signing miner."""

    name: ClassVar[str] = "update_miner"
    address: Address
    domain: Domain
    pledged_bytes: Bytes
    min_price: Price
    # draining: takes nothing new, keeps serving
    state: Literal["active", "draining"] = "active"

    def apply(self, run: Execution) -> None:
        before = _miner(run, run.signer)
        after = replace(
            before,
            address=self.address,
            domain=self.domain,
            pledged_bytes=self.pledged_bytes,
            min_price=self.min_price,
            state=self.state,
        )
        if after.pledged_bytes > before.pledged_bytes:
            _check_collateral(run, after)
        run.state.put(records.MINERS, run.signer, after)
        run.change_pledge(active_bytes(after) - active_bytes(before))
        run.emit("miner_updated", miner=run.signer, pledged=after.pledged_bytes, state=after.state)


class AddStake(Body, frozen=True):
    """Put tokens of the signer behind a miner."""

    name: ClassVar[str] = "add_stake"
    miner: Id
    amount: Units

    def apply(self, run: Execution) -> None:
        miner = _miner(run, AccountId(self.miner))
        run.debit(run.signer, self.amount)
        run.move("collateral", self.amount)
        after = replace(miner, stake=miner.stake + self.amount)
        run.state.put(records.MINERS, self.miner, after)
        run.emit("stake_added", miner=self.miner, amount=self.amount, stake=after.stake)


class WithdrawStake(Body, frozen=True):
    """Take stake that the signing miner's pledge does not need, to its owner."""

    name: ClassVar[str] = "withdraw_stake"
    amount: Units

    def apply(self, run: Execution) -> None:
        miner = _miner(run, run.signer)
        if self.amount > miner.stake:
            raise Rejected("insufficient_funds", f"the stake is {miner.stake} units")
        after = replace(miner, stake=miner.stake - self.amount)
        _check_collateral(run, after)
        run.state.put(records.MINERS, run.signer, after)
        run.move("collateral", -self.amount)
        run.credit(miner.owner, self.amount)
        run.emit("stake_withdrawn", miner=run.signer, amount=self.amount, stake=after.stake)


class ExitMiner(Body, frozen=True):
    """Leave, once drained of every stored byte; the stake goes to the owner."""

    name: ClassVar[str] = "exit_miner"

    def apply(self, run: Execution) -> None:
        miner = _miner(run, run.signer)
        if miner.stored_bytes:
            raise Rejected("in_use", f"{miner.stored_bytes} bytes are stored here: drain first")
        run.state.put(records.MINERS, run.signer, None)
        run.change_pledge(-active_bytes(miner))
        run.move("collateral", -miner.stake)
        run.credit(miner.owner, miner.stake)
        run.emit("miner_exited", miner=run.signer, stake=miner.stake)


class DeclareLost(Body, frozen=True):
    """The miner's data is gone: said by itself, its owner, or the network's operator."""

    name: ClassVar[str] = "declare_lost"
    miner: Id

    def apply(self, run: Execution) -> None:
        miner = _miner(run, AccountId(self.miner))
        if run.signer not in {self.miner, miner.owner, run.genesis.operator_id}:
            raise Rejected("not_owner", "neither the miner, its owner nor the operator")
        after = replace(miner, state="lost", stored_bytes=0)
        run.state.put(records.MINERS, self.miner, after)
        for key, _ in list(run.state.scan(records.HOLDINGS, within=self.miner)):
            run.state.put(records.HOLDINGS, key, None)
        run.change_pledge(-active_bytes(miner))
        run.emit("miner_lost", miner=self.miner, stored=miner.stored_bytes)


def active_bytes(miner: Miner) -> int:
    """Pledged bytes that count as capacity."""
    return miner.pledged_bytes if miner.state == "active" else 0


def _miner(run: Execution, miner: AccountId) -> Miner:
    record = run.state.get(records.MINERS, miner)
    if record is None:
        raise Rejected("not_found", f"no miner {miner.hex()}")
    return record


def _check_collateral(run: Execution, miner: Miner) -> None:
    needed = -(-miner.pledged_bytes * run.parameters.collateral_per_tib // TIB)
    if miner.stake < needed:
        raise Rejected(
            "insufficient_collateral",
            f"{miner.pledged_bytes} bytes need a stake of {needed} units, there are {miner.stake}",
        )
