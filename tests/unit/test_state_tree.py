"""The authenticated state against a definition-level reference."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.ledger import tree

KEYS = st.integers(0, 60).map(lambda number: b"key %d" % number)
VALUES = st.none() | st.binary(max_size=8)


def reference_root(items: list[tuple[bytes, bytes]], depth: int = 0) -> bytes:
    """The specification's definition, word for word."""
    if not items:
        return tree.EMPTY
    if len(items) == 1:
        return tree.leaf_hash(*items[0])
    halves: tuple[list, list] = ([], [])
    for item in items:
        halves[int.from_bytes(item[0], "big") >> (255 - depth) & 1].append(item)
    return tree.node_hash(*(reference_root(half, depth + 1) for half in halves))


class Kept:
    """A tree over a dictionary of nodes."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.values: dict[bytes, bytes] = {}

    def apply(self, changes: dict[bytes, bytes | None]) -> bytes:
        changed = tree.Tree(self.nodes.get)
        root = changed.update(
            (tree.path_of(key), None if value is None else hashlib.sha256(value).digest())
            for key, value in changes.items()
        )
        for table, news in ((self.nodes, changed.changes), (self.values, changes)):
            for key, value in news.items():
                if value is None:
                    table.pop(key, None)
                else:
                    table[key] = value
        return root

    def reference(self) -> bytes:
        return reference_root(
            [(tree.path_of(k), hashlib.sha256(v).digest()) for k, v in self.values.items()]
        )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=12), max_size=8))
def test_root_depends_on_content_alone(batches: list[dict[bytes, bytes | None]]) -> None:
    kept = Kept()
    for batch in batches:
        assert kept.apply(batch) == kept.reference() == tree.Tree(kept.nodes.get).root()
    at_once = Kept()
    at_once.apply(dict(kept.values))
    assert at_once.nodes == kept.nodes


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, st.binary(max_size=8), max_size=40), KEYS, st.data())
def test_proofs_show_presence_and_absence_and_nothing_else(
    values: dict[bytes, bytes], key: bytes, data: st.DataObject
) -> None:
    kept = Kept()
    root = kept.apply(dict(values))
    proof = tree.prove(kept.nodes.get, key)
    assert tree.verify(root, proof, key, values.get(key))
    wrong = data.draw(VALUES.filter(lambda value: value != values.get(key)))
    assert not tree.verify(root, proof, key, wrong)
    other_key = data.draw(KEYS.filter(lambda other: other != key))
    if key in values:
        assert not tree.verify(root, proof, other_key, None) or other_key not in values
        assert not tree.verify(root, proof, other_key, values[key]) or (
            values.get(other_key) == values[key]
        )


def test_emptied_tree_leaves_no_nodes() -> None:
    kept = Kept()
    kept.apply({b"%d" % n: b"v" for n in range(500)})
    assert kept.apply(dict.fromkeys(list(kept.values), None)) == tree.EMPTY
    assert kept.nodes == {}


@pytest.mark.parametrize(
    "change",
    [
        {"depth": 257},
        {"depth": -1},
        {"present": bytes(33)},
        {"present": b"\x80\x00"},
        {"siblings": (b"short",)},
        {"siblings": ()},
        {"other": (bytes(31), bytes(32))},
    ],
)
def test_malformed_proofs_are_refused(change: dict) -> None:
    kept = Kept()
    root = kept.apply({b"%d" % n: b"v" for n in range(50)})
    proof = tree.prove(kept.nodes.get, b"1")
    fields = {name: getattr(proof, name) for name in ("depth", "present", "siblings", "other")}
    assert not tree.verify(root, tree.Proof(**(fields | change)), b"1", b"v")
