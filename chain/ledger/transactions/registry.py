"""Every transaction type by its name on the wire."""

from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.body import Body
from chain.ledger.transactions.leases import (
    AuthoriseGateway,
    BuyLease,
    RenewLease,
    ReserveLease,
    TransferLease,
)
from chain.ledger.transactions.market import ClaimLease, CommitBid, RevealBid
from chain.ledger.transactions.miners import (
    AddStake,
    DeclareLost,
    ExitMiner,
    RegisterMiner,
    UpdateMiner,
    WithdrawStake,
)
from chain.ledger.transactions.nodes import RegisterEdge, RegisterGateway
from chain.ledger.transactions.objects import ObjectBatch

REGISTRY: dict[str, type[Body]] = {
    body.name: body
    for body in (
        AddStake,
        AuthoriseGateway,
        BuyLease,
        ClaimLease,
        CommitBid,
        DeclareLost,
        ExitMiner,
        ObjectBatch,
        RegisterEdge,
        RegisterGateway,
        RegisterMiner,
        RenewLease,
        ReserveLease,
        RevealBid,
        Transfer,
        TransferLease,
        UpdateMiner,
        WithdrawStake,
    )
}
