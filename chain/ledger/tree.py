"""The authenticated state: a compact sparse Merkle tree, latest version only.

Specification: docs/specs/state-tree.md. A key's path is SHA-256(key), 256 bits. The hash of the
subtree under a prefix of bits is

    no key     32 zero bytes
    one key    SHA-256(00 ‖ path ‖ SHA-256(value)), however deep the prefix
    more       SHA-256(01 ‖ left ‖ right)

so the root depends on the keys and values alone, not on the order of writes. Nodes are stored for
every fourth bit (16-ary, one row of children's hashes), which makes an update of a batch of 1,000
in 10^6 keys cost about 36 µs a key: one LMDB read, four hashes and one write per level that is not
shared. This file does no I/O: nodes come from a reader and go to a dictionary.

The checker (`verify`) needs nothing but SHA-256.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

EMPTY = bytes(32)
PATH_BITS = 256
# (hash, leaf): a single-leaf subtree knows its leaf, path ‖ SHA-256(value); a larger one None.
Entry = tuple[bytes, bytes | None]
Node = dict[int, Entry]
ReadNode = Callable[[bytes], bytes | None]
# One nibble a byte behind a slash: LMDB has no empty keys.
ROOT_KEY = b"/"

_sha256 = hashlib.sha256


def path_of(key: bytes) -> bytes:
    """Where a key lies (32 bytes)."""
    return _sha256(key).digest()


def leaf_hash(path: bytes, value_hash: bytes) -> bytes:
    """The hash of a subtree that holds one key; `value_hash` is SHA-256(value)."""
    return _sha256(b"\x00" + path + value_hash).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a subtree that holds two keys or more."""
    return _sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Proof:
    """What surrounds a path: the non-empty siblings and, for an absence, the leaf in its place.

    `depth` bits of the path are decided by inner nodes; bit i of `present` (from the most
    significant) says whether the sibling at depth i+1 is non-empty; `siblings` holds those from
    the root down. `other` is (path, value hash) of another key's leaf, for an absence only.
    """

    depth: int
    present: bytes
    siblings: tuple[bytes, ...]
    other: tuple[bytes, bytes] | None = None


class Tree:
    """A tree being changed: `read` gives stored nodes, `changes` collects new ones."""

    def __init__(self, read: ReadNode) -> None:
        self._read = read
        self.changes: dict[bytes, bytes | None] = {}

    def root(self) -> bytes:
        """The root hash (32 bytes)."""
        entry = _fold(self._load(ROOT_KEY))[4][0]
        return EMPTY if entry is None else entry[0]

    def update(self, leaves: Iterable[tuple[bytes, bytes | None]]) -> bytes:
        """Set leaves (path, SHA-256(value) or None to delete), each path once; the new root."""
        items = sorted(leaves)
        if not items:
            return self.root()
        entry = self._update(ROOT_KEY, 0, items, self._load(ROOT_KEY), is_root=True)
        return EMPTY if entry is None else entry[0]

    def _update(
        self,
        key: bytes,
        depth: int,
        items: list[tuple[bytes, bytes | None]],
        node: Node,
        *,
        is_root: bool = False,
    ) -> Entry | None:
        """Apply sorted items below a node of `depth` nibbles; the subtree's new entry."""
        byte, shift = depth >> 1, 0 if depth & 1 else 4
        for nibble, group in groupby(items, lambda item: (item[0][byte] >> shift) & 15):
            entry = self._update_child(
                key + bytes((nibble,)), depth + 1, list(group), node.get(nibble)
            )
            if entry is None:
                node.pop(nibble, None)
            else:
                node[nibble] = entry
        entry = _top(node)
        if not is_root and (entry is None or entry[1] is not None):
            self._put(key, None)  # a lone leaf moves up into its parent
        else:
            self._put(key, _encode(node) if node else None)
        return entry

    def _update_child(
        self,
        key: bytes,
        depth: int,
        items: list[tuple[bytes, bytes | None]],
        child: Entry | None,
    ) -> Entry | None:
        if child is not None and child[1] is None:
            return self._update(key, depth, items, self._load(key))
        leaves: dict[bytes, bytes] = {}
        if child is not None and child[1] is not None:
            leaves[child[1][:32]] = child[1][32:]
        for path, value_hash in items:
            if value_hash is None:
                leaves.pop(path, None)
            else:
                leaves[path] = value_hash
        if len(leaves) > 1:
            # two paths may share this nibble and many more: build the node below
            fresh: list[tuple[bytes, bytes | None]] = sorted(leaves.items())
            return self._update(key, depth, fresh, {})
        for path, value_hash in leaves.items():
            return leaf_hash(path, value_hash), path + value_hash
        return None

    def _put(self, key: bytes, raw: bytes | None) -> None:
        self.changes[key] = raw

    def _load(self, key: bytes) -> Node:
        raw = self.changes[key] if key in self.changes else self._read(key)
        return {} if raw is None else _decode(raw)


def prove(read: ReadNode, key: bytes) -> Proof:
    """The proof for a key, present or not."""
    path = path_of(key)
    siblings: list[bytes] = []
    present = 0
    depth, node_key = 0, ROOT_KEY
    entry: Entry | None = None
    for nibble_at in range(64):
        raw = read(node_key)
        levels = _fold({} if raw is None else _decode(raw))
        nibble = (path[nibble_at >> 1] >> (0 if nibble_at & 1 else 4)) & 15
        entry = levels[4][0] if nibble_at == 0 else (EMPTY, None)
        for level in (3, 2, 1, 0):
            if entry is None or entry[1] is not None:
                break
            index = nibble >> level
            entry, sibling = levels[level][index], levels[level][index ^ 1]
            if sibling is not None:
                present |= 1 << (255 - depth)
                siblings.append(sibling[0])
            depth += 1
        if entry is None or entry[1] is not None:
            break
        node_key += bytes((nibble,))
    found = None if entry is None else entry[1]
    other = None if found is None or found[:32] == path else (found[:32], found[32:])
    return Proof(depth, present.to_bytes(32, "big").rstrip(b"\x00"), tuple(siblings), other)


def root_from(proof: Proof, key: bytes, value: bytes | None) -> bytes | None:
    """The root under which `key` has `value` (None: is absent); None if the proof is malformed."""
    path = path_of(key)
    digest = _terminal(proof, path, value)
    present = int.from_bytes(proof.present.ljust(32, b"\x00"), "big")
    canonical = len(proof.present) <= 32 and proof.present[-1:] != b"\x00"
    if digest is None or not canonical or not 0 <= proof.depth <= PATH_BITS:
        return None
    if present & ((1 << (PATH_BITS - proof.depth)) - 1):
        return None
    if present.bit_count() != len(proof.siblings):
        return None
    bits, waiting = int.from_bytes(path, "big"), list(proof.siblings)
    for depth in range(proof.depth - 1, -1, -1):
        mask = 1 << (255 - depth)
        sibling = waiting.pop() if present & mask else EMPTY
        digest = node_hash(sibling, digest) if bits & mask else node_hash(digest, sibling)
    return digest


def verify(root: bytes, proof: Proof, key: bytes, value: bytes | None) -> bool:
    """Whether under `root` the key has this value, or is absent (`value` None)."""
    return root_from(proof, key, value) == root


def _terminal(proof: Proof, path: bytes, value: bytes | None) -> bytes | None:
    """The hash at the end of the path, or None when it cannot be."""
    if any(len(sibling) != 32 or sibling == EMPTY for sibling in proof.siblings):
        return None
    if value is not None:
        return None if proof.other else leaf_hash(path, _sha256(value).digest())
    if proof.other is None:
        return EMPTY
    other, value_hash = proof.other
    if len(other) != 32 or len(value_hash) != 32 or other == path:
        return None
    difference = int.from_bytes(other, "big") ^ int.from_bytes(path, "big")
    if PATH_BITS - difference.bit_length() < proof.depth:
        return None  # the other leaf does not lie on this path
    return leaf_hash(other, value_hash)


def _fold(node: Node) -> list[list[Entry | None]]:
    """The five levels of a node's binary tree: 16, 8, 4, 2, 1 entries."""
    level: list[Entry | None] = [node.get(nibble) for nibble in range(16)]
    levels = [level]
    while len(level) > 1:
        level = [_join(level[at], level[at + 1]) for at in range(0, len(level), 2)]
        levels.append(level)
    return levels


def _top(node: Node) -> Entry | None:
    """`_fold`'s last entry, without the empty halves' work."""
    level: dict[int, Entry] = node
    for _ in range(4):
        parents: dict[int, Entry] = {}
        for index, entry in level.items():
            sibling = level.get(index ^ 1)
            if sibling is None:
                joined = _join(entry, None) if not index & 1 else _join(None, entry)
            elif index & 1:
                continue
            else:
                joined = (_sha256(b"\x01" + entry[0] + sibling[0]).digest(), None)
            assert joined is not None
            parents[index >> 1] = joined
        level = parents
    return level.get(0)


def _join(left: Entry | None, right: Entry | None) -> Entry | None:
    if left is None:
        if right is None or right[1] is not None:
            return right
        return node_hash(EMPTY, right[0]), None
    if right is None:
        return left if left[1] is not None else (node_hash(left[0], EMPTY), None)
    return node_hash(left[0], right[0]), None


def _encode(node: Node) -> bytes:
    """Two bitmaps (children, those that are leaves), the hashes, the leaves."""
    children = leaves = 0
    hashes, tails = [], []
    for nibble in sorted(node):
        digest, leaf = node[nibble]
        children |= 1 << nibble
        hashes.append(digest)
        if leaf is not None:
            leaves |= 1 << nibble
            tails.append(leaf)
    bitmaps = children.to_bytes(2, "big") + leaves.to_bytes(2, "big")
    return bitmaps + b"".join(hashes) + b"".join(tails)


def _decode(raw: bytes) -> Node:
    children, leaves = int.from_bytes(raw[:2], "big"), int.from_bytes(raw[2:4], "big")
    node: Node = {}
    at, leaf_at = 4, 4 + 32 * children.bit_count()
    for nibble in range(16):
        if not children >> nibble & 1:
            continue
        leaf = None
        if leaves >> nibble & 1:
            leaf = raw[leaf_at : leaf_at + 64]
            leaf_at += 64
        node[nibble] = (raw[at : at + 32], leaf)
        at += 32
    assert leaf_at == len(raw)
    return node
