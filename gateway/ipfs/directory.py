"""UnixFS directories: one block, or a HAMT when that block would be larger than 262,144 bytes.

HAMT (https://specs.ipfs.tech/unixfs/#hamtdirectory): fan-out 256, so each byte of the name's
MurmurHash3 (x64, first 64 bits, big-endian) picks a slot. A slot's link is named by its number in
two hexadecimal digits, followed by the entry's name, or by nothing when it leads to a sub-shard.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from chain.cids import Cid
from gateway.ipfs import dagpb, unixfs
from gateway.ipfs.dagpb import Link
from gateway.ipfs.errors import BlockError

BLOCK_BYTES_MAX = 262_144
FAN_OUT = 256
MURMUR3_X64_64 = 0x22
DEPTH_MAX = 8  # bytes of the hash
_MASK = (1 << 64) - 1


class Directory(NamedTuple):
    """A built directory: its root and all its blocks, children first."""

    root: Cid
    total: int  # Tsize of a link to it
    blocks: tuple[tuple[Cid, bytes], ...]


def build(entries: Iterable[Link]) -> Directory:
    """The directory of these entries. Raises ValueError for a name that is empty or comes twice."""
    links = sorted(entries, key=lambda link: _name_bytes(link.name))
    for before, link in zip([None, *links], links, strict=False):
        if not link.name or (before is not None and before.name == link.name):
            raise ValueError("names in a directory are not empty and differ")
    below = sum(link.size for link in links)
    if _block_bytes(links) <= BLOCK_BYTES_MAX:
        block = dagpb.encode(links, unixfs.DIRECTORY_DATA)
        cid = dagpb.cid_of(block)
        return Directory(cid, len(block) + below, ((cid, block),))
    blocks: list[tuple[Cid, bytes]] = []
    hashed = [(hash_bytes(_name_bytes(link.name)), link) for link in links]
    root = _shard(hashed, 0, blocks)
    return Directory(root.cid, root.size, tuple(blocks))


def entries(block: bytes) -> tuple[bool, list[Link]]:
    """(is it a shard, links) of a directory block. Raises BlockError if it is no directory.

    A plain directory's links are its entries. A shard's have their two-digit prefix.
    """
    node = dagpb.decode(block)
    data = unixfs.decode(node.data or b"")
    if data.kind is unixfs.Kind.DIRECTORY:
        return False, list(node.links)
    if data.kind is not unixfs.Kind.SHARD:
        raise BlockError("not a directory")
    if data.hash_type != MURMUR3_X64_64 or data.fan_out != FAN_OUT:
        raise BlockError("a HAMT of another hash or fan-out")
    if any(len(link.name) < 2 for link in node.links):
        raise BlockError("a HAMT link without its slot")
    return True, list(node.links)


def slot_name(name: str, depth: int) -> str:
    """The two digits under which `name` is found at `depth` (0 is the root). Raises BlockError."""
    if depth >= DEPTH_MAX:
        raise BlockError("a HAMT is deeper than its hash")
    return f"{hash_bytes(_name_bytes(name))[depth]:02X}"


def hash_bytes(name: bytes) -> bytes:
    """MurmurHash3 x64 128 with seed 0: its first 64 bits, big-endian."""
    h1 = h2 = 0
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
    whole = len(name) // 16 * 16
    for at in range(0, whole, 16):
        k1 = int.from_bytes(name[at : at + 8], "little")
        k2 = int.from_bytes(name[at + 8 : at + 16], "little")
        h1 ^= _rotate(k1 * c1 & _MASK, 31) * c2 & _MASK
        h1 = ((_rotate(h1, 27) + h2) * 5 + 0x52DCE729) & _MASK
        h2 ^= _rotate(k2 * c2 & _MASK, 33) * c1 & _MASK
        h2 = ((_rotate(h2, 31) + h1) * 5 + 0x38495AB5) & _MASK
    tail = name[whole:]
    if len(tail) > 8:
        h2 ^= _rotate(int.from_bytes(tail[8:], "little") * c2 & _MASK, 33) * c1 & _MASK
    if tail:
        h1 ^= _rotate(int.from_bytes(tail[:8], "little") * c1 & _MASK, 31) * c2 & _MASK
    h1 ^= len(name)
    h2 ^= len(name)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    return ((_finish(h1) + _finish(h2)) & _MASK).to_bytes(8, "big")


def _rotate(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & _MASK


def _finish(value: int) -> int:
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & _MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33


def _name_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _block_bytes(links: Sequence[Link]) -> int:
    if len(links) > dagpb.LINKS_MAX:
        return BLOCK_BYTES_MAX + 1
    return len(dagpb.encode(links, unixfs.DIRECTORY_DATA))


def _slots(
    hashed: Sequence[tuple[bytes, Link]], depth: int
) -> Iterator[tuple[int, list[tuple[bytes, Link]]]]:
    slots: dict[int, list[tuple[bytes, Link]]] = {}
    for item in hashed:
        slots.setdefault(item[0][depth], []).append(item)
    yield from sorted(slots.items())


def _shard(
    hashed: Sequence[tuple[bytes, Link]], depth: int, blocks: list[tuple[Cid, bytes]]
) -> Link:
    if depth >= DEPTH_MAX:
        raise ValueError("two names have one 64-bit hash")
    links, bits, below = [], 0, 0
    for slot, items in _slots(hashed, depth):
        bits |= 1 << slot
        if len(items) == 1:
            link = items[0][1]
            links.append(link._replace(name=f"{slot:02X}{link.name}"))
        else:
            links.append(_shard(items, depth + 1, blocks)._replace(name=f"{slot:02X}"))
        below += links[-1].size
    data = unixfs.encode(
        unixfs.Data(
            unixfs.Kind.SHARD,
            data=bits.to_bytes((bits.bit_length() + 7) // 8, "big"),
            hash_type=MURMUR3_X64_64,
            fan_out=FAN_OUT,
        )
    )
    block = dagpb.encode(links, data)
    cid = dagpb.cid_of(block)
    blocks.append((cid, block))
    return Link(cid, "", len(block) + below)
