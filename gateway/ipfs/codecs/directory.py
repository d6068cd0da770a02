"""UnixFS directories: one block, or a HAMT when that block would be larger than 262,144 bytes.

HAMT (https://specs.ipfs.tech/unixfs/#hamtdirectory): fan-out 256, so each byte of the name's
MurmurHash3 (x64, first 64 bits, big-endian) picks a slot. A slot's link is named by its number in
two hexadecimal digits, followed by the entry's name, or by nothing when it leads to a sub-shard.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from chain.cids import Cid
from gateway.ipfs.codecs import dagpb, unixfs
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.errors import BlockError

BLOCK_BYTES_MAX = 262_144
FAN_OUT = 256
_EMPTY = dagpb.encode((), unixfs.DIRECTORY_DATA)  # how a directory of one block ends
MURMUR3_X64_64 = 0x22
DEPTH_MAX = 8  # bytes of the hash
_MASK = (1 << 64) - 1


class Form(NamedTuple):
    """How a directory becomes blocks: by the profile unixfs-v1-2025 if nothing else is said."""

    seal: Callable[[bytes], Cid] = dagpb.cid_of
    by_links: bool = False  # a HAMT by the size of names and CIDs, not of the block
    mode: int | None = None
    mtime: tuple[int, int] | None = None

    def block(self, links: Sequence[Link]) -> bytes | None:
        """The one block of these entries; None where they are too many for one."""
        data = unixfs.Data(unixfs.Kind.DIRECTORY, mode=self.mode, mtime=self.mtime)
        block = dagpb.encode(links[: dagpb.LINKS_MAX], unixfs.encode(data))
        size = len(block)
        if self.by_links:
            size = sum(len(x.cid.raw) + len(_name_bytes(x.name)) for x in links)
        return block if size <= BLOCK_BYTES_MAX else None


V1_2025 = Form()


class Directory(NamedTuple):
    """A built directory: its root and all its blocks, children first."""

    root: Cid
    total: int  # Tsize of a link to it
    blocks: tuple[tuple[Cid, bytes], ...]


def build(entries: Iterable[Link], form: Form = V1_2025) -> Directory:
    """The directory of these entries. Raises ValueError for a name that is empty or comes twice."""
    links = sorted(entries, key=lambda link: _name_bytes(link.name))
    for before, link in zip([None, *links], links, strict=False):
        if not link.name or (before is not None and before.name == link.name):
            raise ValueError("names in a directory are not empty and differ")
    below = sum(link.size for link in links)
    block = form.block(links)
    if block is not None:
        cid = form.seal(block)
        return Directory(cid, len(block) + below, ((cid, block),))
    blocks: list[tuple[Cid, bytes]] = []
    hashed = [(hash_bytes(_name_bytes(link.name)), link) for link in links]
    root = _shard(hashed, 0, blocks, form)
    return Directory(root.cid, root.size, tuple(blocks))


class Update(NamedTuple):
    """What a change of entries makes of a directory."""

    root: Cid
    total: int  # Tsize of a link to it
    blocks: tuple[tuple[Cid, bytes], ...]  # new ones, children first
    gone: tuple[Cid, ...]  # blocks of the old directory that the new one has not
    replaced: dict[str, Link]  # what the changed names stood for before, if anything
    weight: int | None  # bytes of the one block that holds all; None: more than fit one

    @property
    def empty(self) -> bool:
        """Whether no entry is left."""
        return self.weight == len(_EMPTY)


def update(
    root: Cid,
    changes: Mapping[str, Link | None],
    load: Callable[[Cid], bytes],
    weight: int | None = None,
    form: Form = V1_2025,
) -> Update:
    """The directory `root` with other entries: name -> link, None to take it out.

    The same root as `build` of all the entries gives; only blocks on the way are read (`load`) and
    made. `weight` is that of the update or build before: where it is not known and entries go from
    a HAMT, up to BLOCK_BYTES_MAX bytes of its entries are read to see whether the rest fits one
    block. Raises BlockError (no directory), ValueError (an empty name), and what `load` raises.
    """
    if "" in changes:
        raise ValueError("names in a directory are not empty")
    is_shard, links = entries(load(root))
    if not is_shard:
        return _update_block(root, links, changes, form)
    change = _Change(load)
    found = change.shard(root, _hashed(changes), 0)
    delta = sum(link_bytes(link) for link in changes.values() if link is not None)
    delta -= sum(map(link_bytes, change.replaced.values()))
    if weight is None and delta < 0:
        weight = _weigh(root, load, BLOCK_BYTES_MAX - delta)
    weight = None if weight is None else weight + delta
    if weight is not None and weight <= BLOCK_BYTES_MAX:
        return _shrink(root, changes, load, change.replaced, form)
    link, block = _encode_shard(found, form)
    change.blocks[link.cid] = block
    return change.result(link, weight)


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


def find(root: Cid, name: str, load: Callable[[Cid], bytes]) -> Link | None:
    """The entry of this name. Raises BlockError (no directory), and what `load` raises."""
    is_shard, links = entries(load(root))
    if not is_shard:
        return next((link for link in links if link.name == name), None)
    for depth in range(DEPTH_MAX):
        slot = slot_name(name, depth)
        link = next((link for link in links if link.name[:2] == slot), None)
        if link is None:
            return None
        if len(link.name) > 2:
            return link._replace(name=name) if link.name[2:] == name else None
        links = entries(load(link.cid))[1]
    raise BlockError("a HAMT is deeper than its hash")


def link_bytes(link: Link) -> int:
    """How many bytes of a directory's block an entry takes."""
    return len(dagpb.encode((link,), None))


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


def _slots(
    hashed: Sequence[tuple[bytes, Link]], depth: int
) -> Iterator[tuple[int, list[tuple[bytes, Link]]]]:
    slots: dict[int, list[tuple[bytes, Link]]] = {}
    for item in hashed:
        slots.setdefault(item[0][depth], []).append(item)
    yield from sorted(slots.items())


def _shard(
    hashed: Sequence[tuple[bytes, Link]],
    depth: int,
    blocks: list[tuple[Cid, bytes]],
    form: Form = V1_2025,
) -> Link:
    if depth >= DEPTH_MAX:
        raise ValueError("two names have one 64-bit hash")
    links = []
    for slot, items in _slots(hashed, depth):
        if len(items) == 1:
            link = items[0][1]
            links.append(link._replace(name=f"{slot:02X}{link.name}"))
        else:
            links.append(_shard(items, depth + 1, blocks, form)._replace(name=f"{slot:02X}"))
    link, block = _encode_shard(links, form if depth == 0 else form._replace(mode=None, mtime=None))
    blocks.append((link.cid, block))
    return link


def _encode_shard(links: Sequence[Link], form: Form = V1_2025) -> tuple[Link, bytes]:
    """A link to the shard with these links, and its block. The links are in the order of slots."""
    bits = 0
    for link in links:
        bits |= 1 << int(link.name[:2], 16)
    data = unixfs.encode(
        unixfs.Data(
            unixfs.Kind.SHARD,
            data=bits.to_bytes((bits.bit_length() + 7) // 8, "big"),
            hash_type=MURMUR3_X64_64,
            fan_out=FAN_OUT,
            mode=form.mode,
            mtime=form.mtime,
        )
    )
    block = dagpb.encode(links, data)
    below = sum(link.size for link in links)
    return Link(form.seal(block), "", len(block) + below), block


# ---------------------------------------------------------------- changing
def _hashed(changes: Mapping[str, Link | None]) -> list[tuple[bytes, str, Link | None]]:
    """Changes in the order of their slots."""
    found = [(hash_bytes(_name_bytes(name)), name, link) for name, link in changes.items()]
    return sorted(found, key=lambda change: change[:2])


def _update_block(
    root: Cid, links: list[Link], changes: Mapping[str, Link | None], form: Form
) -> Update:
    """Change a directory of one block."""
    table = {link.name: link for link in links}
    replaced = {name: table[name] for name in changes if name in table}
    return _rebuilt(table, changes, replaced, {root}, form)


def _rebuilt(
    table: dict[str, Link],
    changes: Mapping[str, Link | None],
    replaced: dict[str, Link],
    old: set[Cid],
    form: Form,
) -> Update:
    """Build the directory of all entries anew; `old` are the blocks that it had."""
    for name, link in changes.items():
        if link is None:
            table.pop(name, None)
        else:
            table[name] = link._replace(name=name)
    built = build(table.values(), form)
    blocks = tuple(block for block in built.blocks if block[0] not in old)
    gone = tuple(old - {cid for cid, _ in built.blocks})
    block = built.blocks[-1][1]
    if block.endswith(_EMPTY):
        weight = len(block)
    else:
        weight = len(_EMPTY) + sum(map(link_bytes, table.values()))
    return Update(built.root, built.total, blocks, gone, replaced, weight)


def _shrink(
    root: Cid,
    changes: Mapping[str, Link | None],
    load: Callable[[Cid], bytes],
    replaced: dict[str, Link],
    form: Form,
) -> Update:
    """A HAMT whose entries fit one block after the change."""
    table: dict[str, Link] = {}
    shards = {root}
    for link in walk(root, load):
        if len(link.name) == 2:
            shards.add(link.cid)
        else:
            table[link.name[2:]] = link._replace(name=link.name[2:])
    return _rebuilt(table, changes, replaced, shards, form)


def walk(root: Cid, load: Callable[[Cid], bytes]) -> Iterator[Link]:
    """All links of a HAMT, depth first, as they stand in their shards. Raises BlockError."""
    waiting = [iter(entries(load(root))[1])]
    while waiting:
        link = next(waiting[-1], None)
        if link is None:
            waiting.pop()
            continue
        yield link
        if len(link.name) == 2:
            if len(waiting) == DEPTH_MAX:
                raise BlockError("a HAMT is deeper than its hash")
            waiting.append(iter(entries(load(link.cid))[1]))


def _weigh(root: Cid, load: Callable[[Cid], bytes], enough: int) -> int | None:
    """The weight of a HAMT; None if it is more than `enough`."""
    weight = len(_EMPTY)
    for link in walk(root, load):
        if len(link.name) > 2:
            weight += link_bytes(link._replace(name=link.name[2:]))
            if weight > enough:
                return None
    return weight


class _Change:
    """A HAMT being changed: shards on the way are read, and made again from below."""

    def __init__(self, load: Callable[[Cid], bytes]) -> None:
        self._load = load
        self.blocks: dict[Cid, bytes] = {}
        self.gone: set[Cid] = set()
        self.replaced: dict[str, Link] = {}

    def result(self, root: Link, weight: int | None) -> Update:
        """The update, when all is made."""
        kept = self.gone & self.blocks.keys()  # made again as they were
        blocks = tuple(item for item in self.blocks.items() if item[0] not in kept)
        gone = tuple(self.gone - kept)
        return Update(root.cid, root.size, blocks, gone, self.replaced, weight)

    def shard(
        self, cid: Cid, changes: list[tuple[bytes, str, Link | None]], depth: int
    ) -> list[Link]:
        """The links of a shard after the change."""
        if depth >= DEPTH_MAX:
            raise BlockError("a HAMT is deeper than its hash")
        self.gone.add(cid)
        slots = {link.name[:2]: link for link in entries(self._load(cid))[1]}
        for number, group in groupby(changes, key=lambda change: change[0][depth]):
            slot = f"{number:02X}"
            made = self._slot(slots.get(slot), list(group), depth)
            if made is None:
                slots.pop(slot, None)
            else:
                slots[slot] = made._replace(name=slot + made.name)
        return [slots[slot] for slot in sorted(slots)]

    def _slot(
        self, old: Link | None, changes: list[tuple[bytes, str, Link | None]], depth: int
    ) -> Link | None:
        """What stands in a slot after the change: an entry, a shard (no name), or nothing."""
        if old is not None and len(old.name) == 2:
            links = self.shard(old.cid, changes, depth + 1)
            if not links:
                return None
            if len(links) == 1 and len(links[0].name) > 2:
                return links[0]._replace(name=links[0].name[2:])
            shard, block = _encode_shard(links)
            self.blocks[shard.cid] = block
            return shard
        table: dict[bytes, Link] = {}
        if old is not None:
            entry = old._replace(name=old.name[2:])
            table[hash_bytes(_name_bytes(entry.name))] = entry
        for hashed, name, link in changes:
            there = table.get(hashed)
            if there is not None and there.name == name:
                self.replaced[name] = there
                del table[hashed]
            if link is None:
                continue
            if hashed in table:
                raise ValueError("two names have one 64-bit hash")
            table[hashed] = link._replace(name=name)
        if len(table) <= 1:
            return next(iter(table.values()), None)
        made: list[tuple[Cid, bytes]] = []
        shard = _shard(list(table.items()), depth + 1, made)
        self.blocks.update(made)
        return shard
