"""Tokens between accounts."""

from typing import ClassVar

from chain.errors import Rejected
from chain.ids import AccountId
from chain.ledger.execution import Execution
from chain.ledger.transactions.body import Body, Id, Units


class Transfer(Body, frozen=True):
    """Pay `amount` units to an account, which this opens."""

    name: ClassVar[str] = "transfer"
    to: Id
    amount: Units

    def apply(self, run: Execution) -> None:
        if self.amount == 0:
            raise Rejected("conflict", "a transfer moves at least one unit")
        run.debit(run.signer, self.amount)
        run.credit(AccountId(self.to), self.amount)
        run.emit("transfer", sender=run.signer, to=self.to, amount=self.amount)
