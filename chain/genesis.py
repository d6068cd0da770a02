"""The first state of a network and what it trusts. Specification: docs/specs/genesis.md."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from chain import dagcbor
from chain.errors import InvalidGenesis
from chain.ids import AccountId, account_id

FORMAT = 1
GENESIS_BYTES_MAX = 4 << 20
# 1 token = 10^8 units. A supply below 2^63 units fits every integer of the formats.
TOKEN = 10**8
SUPPLY_MAX = 2**63 - 1
MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
MONTH_SECONDS = 30 * 24 * 3600

Amount = Annotated[int, msgspec.Meta(ge=0, le=SUPPLY_MAX)]
Permille = Annotated[int, msgspec.Meta(ge=0, le=1000)]
Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What governance may change one day; each has a type, bounds and a unit."""

    epoch_seconds: Annotated[int, msgspec.Meta(ge=1, le=30 * 86400)] = 3600
    # a block travels in one message (16 MiB)
    block_bytes_max: Annotated[int, msgspec.Meta(ge=1 << 16, le=12 << 20)] = 8 << 20
    block_transactions_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 5_000
    fee_min: Amount = 0  # units; 0 also lets a new signer open its own account
    initial_price: Annotated[int, msgspec.Meta(ge=1, le=10**15)] = TOKEN // 100  # per GiB-month
    premium_permille: Permille = 50  # of an instant lease, over the current price
    clamp_permille: Permille = 125  # what the reserve may move in an epoch
    margin_permille: Permille = 50  # pledged space that is not leased
    account_cap_permille: Permille = 250  # of an epoch's capacity for one account; 1000: no cap
    bid_deposit: Amount = TOKEN // 10
    bid_lifetime_epochs: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 24
    bids_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100_000  # waiting at once
    claim_epochs: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 168
    grace_epochs: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 168
    burn_permille: Permille = 50
    treasury_permille: Permille = 50
    idle_permille: Permille = 50  # of the miners' share, by idle space; the rest by stored bytes
    collateral_per_tib: Amount = 0
    receipt_seconds: Annotated[int, msgspec.Meta(ge=60, le=30 * 86400)] = 86400
    operator_share_permille: Permille = 900  # the operator's lease, of the pledged space

    @property
    def month_epochs(self) -> int:
        """Epochs in a month of 30 days, rounded up."""
        return -(-MONTH_SECONDS // self.epoch_seconds)

    def digest(self) -> bytes:
        """SHA-256 over the canonical parameters (32 bytes): a part of every app hash."""
        return hashlib.sha256(dagcbor.encode(msgspec.to_builtins(self))).digest()


class Allocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens that an account has at height 0."""

    account: Hex32
    balance: Amount


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The trust anchor: chain id, validators' keys, parameters, allocations."""

    chain_id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9.-]{0,49}$")]
    time_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    validators: Annotated[list[Hex32], msgspec.Meta(min_length=1, max_length=100)]
    accounts: Annotated[list[Allocation], msgspec.Meta(max_length=10_000)] = []
    parameters: Parameters = Parameters()
    operator: Hex32 | None = None  # of a single-operator network
    format: int = FORMAT

    @property
    def operator_id(self) -> AccountId | None:
        """The network's owner, or None when nobody owns it."""
        return None if self.operator is None else account_id(self.operator)

    def validator_ids(self) -> list[AccountId]:
        """The keys that may sign blocks."""
        return [account_id(key) for key in self.validators]

    def digest(self) -> bytes:
        """SHA-256 over the canonical genesis (32 bytes): the first block's `previous`."""
        return hashlib.sha256(dagcbor.encode(msgspec.to_builtins(self))).digest()

    def to_json(self) -> bytes:
        """The file, for people too."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def pinned_genesis(data_dir: Path) -> Path:
    """The trust anchor of a node's data directory."""
    return data_dir / "chain" / "genesis.json"


def parse(raw: bytes) -> Genesis:
    """Read a genesis file. Raises InvalidGenesis."""
    if len(raw) > GENESIS_BYTES_MAX:
        raise InvalidGenesis(f"a genesis has at most {GENESIS_BYTES_MAX} bytes")
    try:
        fields: Any = msgspec.json.decode(raw)
        if isinstance(fields, dict) and fields.get("format") != FORMAT:
            raise InvalidGenesis(f"genesis format {fields.get('format')!r:.20}, not {FORMAT}")
        genesis = msgspec.convert(fields, Genesis)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidGenesis(f"not a genesis: {error!s:.200}") from None
    if len({entry.account for entry in genesis.accounts}) != len(genesis.accounts):
        raise InvalidGenesis("an account is allocated twice")
    if len(set(genesis.validators)) != len(genesis.validators):
        raise InvalidGenesis("a validator is named twice")
    if sum(entry.balance for entry in genesis.accounts) > SUPPLY_MAX:
        raise InvalidGenesis(f"more than {SUPPLY_MAX} units are allocated")
    if genesis.parameters.burn_permille + genesis.parameters.treasury_permille > 1000:
        raise InvalidGenesis("burn and treasury take more than everything")
    return genesis


def single_operator(
    chain_id: str,
    time_ns: int,
    validator: AccountId,
    operator: AccountId,
    epoch_seconds: int = 3600,
) -> Genesis:
    """A network with one owner: all tokens are the owner's, no per-account cap, no margin."""
    return Genesis(
        chain_id=chain_id,
        time_ns=time_ns,
        validators=[validator.hex()],
        accounts=[Allocation(operator.hex(), 10**9 * TOKEN)],
        parameters=Parameters(
            epoch_seconds=epoch_seconds, margin_permille=0, account_cap_permille=1000
        ),
        operator=operator.hex(),
    )
