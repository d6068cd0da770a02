"""The kinds of IPLD's data model as Python types, and the bounds of what is read."""

from chain.cids import Cid

# Integers are those of CBOR: from -2^64 to 2^64 - 1. Floats are finite.
Value = None | bool | int | float | str | bytes | Cid | list["Value"] | dict[str, "Value"]

DEPTH_MAX = 256  # lists and maps within each other
ITEMS_MAX = 200_000  # values in one block: 0.2 s of reading
