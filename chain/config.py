"""What a ledger node may be told."""

from dataclasses import dataclass
from pathlib import Path

from chain.ids import AccountId

# The key in DIR/keys of the account that owns what this node's owner has on the ledger.
OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class ChainConfig:
    """Where a ledger node lives and how it begins.

    `operator` and `epoch_seconds` matter at the first start only: they go into the genesis.
    """

    data_dir: Path
    listen: str
    operator: AccountId | None = None  # None: the validator's own account
    epoch_seconds: int = 3600
    block_seconds: float = 0.2
    watch_seconds: float = 1.0  # between looks whether the epoch is over

    @property
    def directory(self) -> Path:
        """The ledger's part of the data directory."""
        return self.data_dir / "chain"

    @property
    def genesis_file(self) -> Path:
        """The trust anchor, for people and certificates."""
        return self.directory / "genesis.json"

    @property
    def address_file(self) -> Path:
        """Where the node can be asked on its own machine; there while it runs."""
        return self.directory / "address"
