"""Claims about directory.update: the root that `build` gives, at the cost of the change."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.cids import Cid
from gateway.ipfs.codecs import directory, unixfs
from gateway.ipfs.codecs.dagpb import Link

NAMES = st.sampled_from([f"{'ñ' * (n % 4)}{n}" for n in range(40)])
CHANGE = st.dictionaries(NAMES, st.none() | st.integers(0, 3), max_size=24)


def link(name: str, number: int) -> Link:
    return Link(unixfs.leaf_cid(bytes([number]) * 32), name, number + 1)


class Tree:
    """A directory with its blocks, changed step by step."""

    def __init__(self, *, weigh: bool) -> None:
        built = directory.build([])
        self.root, self.blocks = built.root, dict(built.blocks)
        self.weigh = weigh
        self.weight: int | None = None
        self.entries: dict[str, Link] = {}
        self.read = 0

    def load(self, cid: Cid) -> bytes:
        self.read += 1
        return self.blocks[cid]

    def change(self, changes: Mapping[str, Link | None]) -> directory.Update:
        before = {name: self.entries[name] for name in changes if name in self.entries}
        made = directory.update(self.root, changes, self.load, self.weight)
        assert made.replaced == before
        for name, entry in changes.items():
            self.entries.pop(name, None)
            if entry is not None:
                self.entries[name] = entry
        assert not {cid for cid, _ in made.blocks} & self.blocks.keys()
        self.blocks.update(made.blocks)
        for cid in made.gone:
            del self.blocks[cid]
        self.root = made.root
        self.weight = made.weight if self.weigh else None
        return made

    def check(self, made: directory.Update) -> None:
        whole = directory.build(self.entries.values())
        assert (self.root, made.total) == (whole.root, whole.total)
        assert self.blocks == dict(whole.blocks)
        assert made.empty is (not self.entries)


@given(steps=st.lists(CHANGE, max_size=12), weigh=st.booleans(), deep=st.booleans())
@settings(max_examples=150, deadline=None)
def test_changes_one_by_one_give_the_directory_that_is_built_of_all(
    steps: list[dict[str, int | None]], weigh: bool, deep: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory, "BLOCK_BYTES_MAX", 500)  # about ten entries
        real = directory.hash_bytes
        if deep:  # hashes that differ late and little: shards below shards
            few = bytes(number & 1 for number in range(256))
            late = lambda name: b"\0\1" + real(name)[:2].translate(few) + real(name)[:4]  # noqa: E731
            patch.setattr(directory, "hash_bytes", late)
        tree = Tree(weigh=weigh)
        for step in steps:
            changes = {
                name: None if number is None else link(name, number)
                for name, number in step.items()
            }
            tree.check(tree.change(changes))


def test_a_large_directory_grows_to_a_hamt_and_shrinks_to_one_block_again() -> None:
    tree = Tree(weigh=True)
    names = [f"file-{i:06d}.txt" for i in range(6000)]
    for at in range(0, 6000, 600):
        made = tree.change({name: link(name, 1) for name in names[at : at + 600]})
    tree.check(made)
    assert len(tree.blocks) > 256
    for at in range(0, 5400, 600):
        made = tree.change(dict.fromkeys(names[at : at + 600]))
    tree.check(made)
    assert len(tree.blocks) == 1


@pytest.mark.parametrize("weigh", [True, False])
def test_a_change_reads_and_makes_the_blocks_on_its_way_alone(weigh: bool) -> None:
    tree = Tree(weigh=weigh)
    tree.change({f"{i}": link(f"{i}", 1) for i in range(12_000)})
    tree.weight = None if not weigh else tree.weight
    for changes in ({"7": link("7", 2)}, {"new": link("new", 2)}):
        tree.read = 0
        made = tree.change(changes)
        assert 2 <= tree.read <= 4
        assert len(made.blocks) <= 4
    tree.read = 0
    tree.change({"7": None})
    # Without the weight it looks whether the rest might fit one block.
    assert tree.read <= (4 if weigh else 1500)


def test_a_name_that_is_empty_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Tree(weigh=True).change({"": link("x", 1)})
