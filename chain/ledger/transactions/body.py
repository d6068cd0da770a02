"""What a transaction asks for: the base of every body and the bounds of its fields."""

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from chain.genesis import MIB, SUPPLY_MAX
from chain.ledger.execution import Execution

Id = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Units = Annotated[int, Meta(ge=0, le=SUPPLY_MAX)]
Height = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Price = Annotated[int, Meta(ge=1, le=10**15)]  # units per GiB-month
# Whole MiB, at most 1 PiB: 10^6 bids add up within 63 bits.
Size = Annotated[int, Meta(ge=MIB, le=1 << 50, multiple_of=MIB)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 60)]
Months = Annotated[int, Meta(ge=1, le=120)]
Address = Annotated[str, Meta(min_length=1, max_length=256)]
Domain = Annotated[str, Meta(min_length=1, max_length=256)]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A typed operation. `name` is its type on the wire."""

    name: ClassVar[str]

    def apply(self, run: Execution) -> None:  # noqa: ARG002 - the face of every body
        """Change the state. Raises Rejected; then all its changes are undone."""
        raise AssertionError("every registered body has its own")

    def to_fields(self) -> dict[str, Any]:
        """The body as plain values for DAG-CBOR."""
        fields: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(bytes,))
        return fields
