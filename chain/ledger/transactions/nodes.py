"""Edges and gateways: addresses under an identity."""

from typing import ClassVar

from msgspec.structs import replace

from chain.ledger import records
from chain.ledger.execution import Execution
from chain.ledger.records import Endpoint, Table
from chain.ledger.transactions.body import Address, Body


class RegisterEdge(Body, frozen=True):
    """The signer serves cached segments at `address`; again: a new address."""

    name: ClassVar[str] = "register_edge"
    address: Address

    def apply(self, run: Execution) -> None:
        _register(run, records.EDGES, "edge_registered", self.address)


class RegisterGateway(Body, frozen=True):
    """The signer sends object batches and is reached at `address`; again: a new address."""

    name: ClassVar[str] = "register_gateway"
    address: Address

    def apply(self, run: Execution) -> None:
        _register(run, records.GATEWAYS, "gateway_registered", self.address)


def _register(run: Execution, table: Table[Endpoint], event: str, address: str) -> None:
    before = run.state.get(table, run.signer)
    fresh = Endpoint(address, batches=1, registered=run.height)
    after = fresh if before is None else replace(before, address=address)
    run.state.put(table, run.signer, after)
    run.emit(event, identity=run.signer, address=address)
