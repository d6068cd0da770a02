"""Everything an edge may be told, checked at the door."""

from dataclasses import dataclass
from pathlib import Path

from cdn.errors import ConfigError
from chain.ids import AccountId

MIB = 1 << 20
GIB = 1 << 30
_SCHEMES = ("ipc://", "tcp://")


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """Options of `cumulus edge`."""

    data_dir: Path
    listen: str  # ipc://PATH or tcp://HOST:PORT
    origin: str  # who answers ReadSegment behind this edge: a gateway, or another edge
    origin_identity: AccountId | None = None  # needed for a tcp:// origin
    max_bytes: int = 8 * GIB  # on disk; 0: RAM only
    ram_bytes: int = 256 * MIB
    readers: frozenset[AccountId] = frozenset()  # who may read over tcp://, besides the ledger's
    join: str = ""  # a ledger node: its gateways and edges may read
    genesis: Path | None = None
    advertise: str = ""  # the address that the ledger is told; empty: where it listens

    def __post_init__(self) -> None:
        for name, address in (("--listen", self.listen), ("--origin", self.origin)):
            if not address.startswith(_SCHEMES):
                raise ConfigError(f"{name} is ipc://PATH or tcp://HOST:PORT, not {address!r}")
        if self.origin.startswith("tcp://") and self.origin_identity is None:
            raise ConfigError("--origin over tcp needs its identity: ID@HOST:PORT")
        if self.max_bytes < 0:
            raise ConfigError("--max-bytes cannot be negative")
        if self.ram_bytes < MIB:
            raise ConfigError("--ram-bytes must be at least 1 MiB")


def parse_size(text: str) -> int:
    """`512`, `64MiB`, `8GiB`, `1TiB`, `10GB` … Raises ConfigError."""
    units = {"": 1, "B": 1}
    for power, letter in enumerate("KMGT", 1):
        units |= {letter: 1024**power, f"{letter}iB": 1024**power, f"{letter}B": 1000**power}
    number = text.rstrip("KMGTiB")
    unit = units.get(text[len(number) :])
    if unit is None or not number.isascii() or not number.isdecimal() or len(number) > 15:
        raise ConfigError(f"not a size: {text!r:.40} (write 64MiB or 8GiB)")
    return int(number) * unit
