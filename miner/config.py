"""Everything a miner may be told."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from chain.ids import AccountId

MIB = 1024**2
PLEDGE_MIN = 16 * MIB
_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNITS = {"": 1, "K": 1024, "M": MIB, "G": 1024 * MIB, "T": 1024 * 1024 * MIB}


class InvalidConfig(ValueError):
    """An option that cannot be; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class MinerConfig:
    """One miner: its whole state is in `data_dir`."""

    name: str
    data_dir: Path
    listen: str
    pledge: int
    owner: str = ""  # where the pool's owner serves AskCommitted; empty: staged fragments stay
    join: str = ""  # a ledger node: ipc://PATH, ID@HOST:PORT, or HOST:PORT with `genesis`
    genesis: Path | None = None
    domain: str = ""  # what fails together, operator/host/disk; empty: this miner alone
    min_price: int = 0  # vote, units per GiB-month; 0: the current price
    advertise: str = ""  # the address that the ledger is told; empty: `listen`
    allowed: frozenset[AccountId] = field(default_factory=frozenset)
    sweep_every: float = 600.0  # s between looks at staged fragments
    staged_for: float = 24 * 3600.0  # s until a miner asks about them
    scrub_rate: int = 20 * MIB  # bytes/s that are read at most to check what is stored; 0: never
    scrub_cycle: float = 14 * 86400.0  # s in which everything is checked once

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 100:
            raise InvalidConfig("a miner's name has 1..100 characters")
        if self.pledge < PLEDGE_MIN:
            raise InvalidConfig(f"a pledge has at least {PLEDGE_MIN // MIB} MiB")
        if self.scrub_cycle <= 0:
            raise InvalidConfig("a scrub's cycle is longer than 0 s; rate 0 switches it off")


def parse_size(text: str) -> int:
    """Bytes of `500M`, `8G`, `8GiB`, `1T` or a plain number (binary). Raises InvalidConfig."""
    raw = text.strip().upper().removesuffix("B").removesuffix("I")
    unit = raw[-1:] if raw[-1:].isalpha() else ""
    number = raw.removesuffix(unit) if unit else raw
    if unit not in _UNITS or not number.isascii() or not number.isdigit() or len(number) > 15:
        raise InvalidConfig(f"{text!r:.40} is no size: say 500M, 8G or 1T")
    return int(number) * _UNITS[unit]


def parse_duration(text: str) -> float:
    """Seconds of `600`, `10min`, `1.5h`, `14d`. Raises InvalidConfig."""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]*)\s*", text.lower(), re.ASCII)
    if match is None or match[2] not in _SECONDS:
        raise InvalidConfig("a duration is a number of seconds or like 10min, 2h")
    return float(match[1]) * _SECONDS[match[2]]
