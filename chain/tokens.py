"""Tokens as people write them; the ledger counts units of 10^-8."""

from decimal import Decimal, InvalidOperation

from chain.genesis import SUPPLY_MAX, TOKEN


def parse_tokens(text: str) -> int:
    """`0.02` -> units. Raises ValueError."""
    try:
        units = Decimal(text) * TOKEN
    except InvalidOperation:
        units = Decimal(-1)
    if not units.is_finite() or units != units.to_integral_value() or not 0 < units <= SUPPLY_MAX:
        raise ValueError("tokens like 0.02, at most eight decimals")
    return int(units)


def tokens_text(units: int) -> str:
    """Units -> `0.02`."""
    return f"{Decimal(units) / TOKEN:f}"
