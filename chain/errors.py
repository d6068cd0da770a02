"""What the ledger refuses: codes for programs, reasons for people.

A transaction's code is one word of `CODES`; its number is what ABCI carries. New codes are added
at the end: a number never changes its meaning.
"""

OK = "ok"
CODES: dict[str, int] = {
    name: number
    for number, name in enumerate(
        (
            OK,
            # the envelope: nothing is charged, the nonce stays
            "malformed",
            "bad_signature",
            "wrong_chain",
            "bad_nonce",
            "expired",
            "fee_too_low",
            "unknown_account",
            # the body: the fee is charged, the nonce moves
            "insufficient_funds",
            "not_found",
            "not_owner",
            "exists",
            "conflict",
            "limit",
            "no_capacity",
            "price_above_limit",
            "window_closed",
            "wrong_opening",
            "frozen",
            "over_reservation",
            "insufficient_collateral",
            "in_use",
            "gap",
            # the node: nothing was put in a block
            "mempool_full",
            "too_large",
            "stopping",
            "no_space",
        )
    )
}


class LedgerError(Exception):
    """Anything that goes wrong with the ledger."""


class Rejected(LedgerError):
    """A transaction is refused. Recorded in its result, never raised out of the application."""

    def __init__(self, code: str, reason: str) -> None:
        assert code in CODES, code
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class InvalidGenesis(LedgerError):
    """The genesis file is not one, or breaks its own bounds."""


class WrongGenesis(LedgerError):
    """The store belongs to another network than the genesis file."""


class InvalidCertificate(LedgerError):
    """The certificate proves nothing under this genesis."""


class InvalidProof(LedgerError):
    """A node's answer does not follow from the block it names."""


class InvalidBlock(LedgerError):
    """The bytes are not a block of this chain."""
