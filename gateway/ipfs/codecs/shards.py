"""Reading HAMT directories of any fan-out (https://specs.ipfs.tech/unixfs/#hamtdirectory). Pure.

A link's name begins with its slot's number in hexadecimal digits, as many as the fan-out needs; an
entry's name follows, or nothing when the link leads to a sub-shard. Each level takes the next
log2(fan-out) bits of the name's MurmurHash3 (64 bits, big-endian).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.ipfs.codecs.dagpb import Link, Node
from gateway.ipfs.codecs.directory import MURMUR3_X64_64, hash_bytes
from gateway.ipfs.codecs.unixfs import Data
from gateway.ipfs.errors import BlockError

FAN_OUT_MIN, FAN_OUT_MAX = 8, 1024
_HASH_BITS = 64


@dataclass(frozen=True, slots=True)
class Shard:
    """One block of a HAMT."""

    fan_out: int
    links: Sequence[Link]

    @classmethod
    def of(cls, node: Node, data: Data) -> "Shard":
        """From a block's parts. Raises BlockError."""
        fan_out = data.fan_out or 0
        if data.hash_type != MURMUR3_X64_64:
            raise BlockError("a HAMT of another hash than MurmurHash3")
        if not FAN_OUT_MIN <= fan_out <= FAN_OUT_MAX or fan_out & (fan_out - 1):
            raise BlockError(f"a HAMT of fan-out {fan_out}")
        if len(node.links) > fan_out:
            raise BlockError("a HAMT block has more links than slots")
        width = _width(fan_out)
        if any(len(link.name) < width for link in node.links):
            raise BlockError("a HAMT link without its slot")
        return cls(fan_out, node.links)

    @property
    def width(self) -> int:
        """Digits of a slot's number."""
        return _width(self.fan_out)

    def entries(self) -> list[Link]:
        """The entries of this block, under their own names."""
        width = _width(self.fan_out)
        return [x._replace(name=x.name[width:]) for x in self.links if len(x.name) > width]

    def below(self) -> list[Link]:
        """The links to sub-shards, in order."""
        width = _width(self.fan_out)
        return [link for link in self.links if len(link.name) == width]

    def child(self, name: str, depth: int) -> tuple[Link | None, bool]:
        """(the link to follow for `name` at `depth`, is it the entry). Depth 0 is the root."""
        bits = self.fan_out.bit_length() - 1
        shift = _HASH_BITS - bits * (depth + 1)
        if shift < 0:
            raise BlockError("a HAMT is deeper than its hash")
        hashed = int.from_bytes(hash_bytes(name.encode("utf-8", "surrogateescape")), "big")
        slot = f"{hashed >> shift & self.fan_out - 1:0{_width(self.fan_out)}X}"
        link = next((link for link in self.links if link.name.startswith(slot)), None)
        if link is None or len(link.name) == len(slot):
            return link, False
        return (link, True) if link.name == slot + name else (None, False)


def _width(fan_out: int) -> int:
    return len(f"{fan_out - 1:X}")
