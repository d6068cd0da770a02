"""Binary Merkle trees with SHA-256 as in RFC 6962 §2.1.

Leaves and inner nodes are hashed with different prefixes and an odd node is never paired with
itself, so neither the duplicate-leaf nor the second-preimage trick of naive trees works.
"""

import hashlib
from collections.abc import Sequence

DIGEST_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(00 ‖ data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The tree hash of a sequence of leaf hashes."""
    level = list(leaf_hashes)
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        level = _up(level)
    return level[0]


def path(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings that prove leaf `index`, from the leaf up."""
    assert 0 <= index < len(leaf_hashes)
    level, siblings = list(leaf_hashes), []
    while len(level) > 1:
        if index ^ 1 < len(level):
            siblings.append(level[index ^ 1])
        level = _up(level)
        index //= 2
    return siblings


def tree(leaf_hashes: Sequence[bytes]) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """The `root` of one leaf or more and the `path` of each, hashing each node once."""
    assert leaf_hashes
    level = list(leaf_hashes)
    siblings: list[list[bytes]] = [[] for _ in level]
    height = 0
    while len(level) > 1:
        for leaf, above in enumerate(siblings):
            index = leaf >> height
            if index ^ 1 < len(level):
                above.append(level[index ^ 1])
        level = _up(level)
        height += 1
    return level[0], [tuple(above) for above in siblings]


def verify(
    root_hash: bytes, leaf: bytes, index: int, count: int, siblings: Sequence[bytes]
) -> bool:
    """Whether `leaf` (a leaf hash) is number `index` of the `count` leaves under `root_hash`."""
    if not 0 <= index < count:
        return False
    digest, width, waiting = leaf, count, list(reversed(siblings))
    while width > 1:
        if index ^ 1 < width:
            if not waiting:
                return False
            sibling = waiting.pop()
            digest = node_hash(sibling, digest) if index & 1 else node_hash(digest, sibling)
        index //= 2
        width = (width + 1) // 2
    return not waiting and digest == root_hash


def _up(level: list[bytes]) -> list[bytes]:
    paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        paired.append(level[-1])
    return paired
