"""Claims about gateway/ipfs/{dagpb,unixfs,directory}.py.

Vectors: made once with npm's ipfs-unixfs-importer 17.1.1 (cidVersion 1, rawLeaves, fixed 1 MiB
chunks, balanced width 1024, single leaf is the root, shard above 262,144 block bytes).
"""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.cids import Cid
from gateway.ipfs.codecs import dagpb, directory, unixfs
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.errors import BlockError

MIB = 1 << 20


def sample(size: int) -> bytes:
    """Byte i is (31 i + 7 (i >> 8) + 13 (i >> 16)) mod 256."""
    rows = [bytes((start + 31 * i) & 255 for i in range(256)) for start in range(256)]
    whole = b"".join(
        rows[(7 * (base >> 8) + 13 * (base >> 16)) & 255] for base in range(0, size, 256)
    )
    return whole[:size]


def digests(data: bytes) -> bytes:
    return b"".join(
        hashlib.sha256(data[at : at + MIB]).digest() for at in range(0, max(len(data), 1), MIB)
    )


def file_of(text: str) -> unixfs.FileDag:
    data = text.encode()
    return unixfs.build_file(len(data), digests(data))


def entry(name: str, text: str) -> Link:
    dag = file_of(text)
    return Link(dag.root, name, dag.total)


@pytest.mark.parametrize(
    ("size", "cid"),
    [
        (0, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (1, "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu"),
        (11, "bafkreiatkxzfxtv7mlyc5xb26oqu37fxpzaj5yj2g6ixzr2epg3dvnjh3m"),
        (1048575, "bafkreialwgei2cx4iwiz6qqbzf7zlwubn2gafvlmtbbrlbyv5i3cutgebu"),
        (1048576, "bafkreicmqivvuvv4s74lvjuh4rq6ipebnivura4h3zwusuvrzg6zsutc7a"),
        (1048577, "bafybeifcxjkuqfjgoiezvfeig7adlkochc2dqy7epawey4tkd225b7u5fq"),
        (3145733, "bafybeibjvhc7oj63js437p43k7ljwohzrvtefyzocy43bz6e5d7hjbg344"),
        (20000000, "bafybeihzrgmoungeckdcp2ni5hgsicicdjsehurlvvoywasmnnqbc3bfcm"),
    ],
)
def test_file_cids_are_those_of_the_reference_importer(size: int, cid: str) -> None:
    data = sample(size)
    assert str(unixfs.build_file(size, digests(data)).root) == cid


def test_hello_world_has_the_cid_that_everyone_knows() -> None:
    dag = file_of("hello world")
    assert str(dag.root) == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    assert dag.nodes == ()


def test_small_directories_have_the_cids_of_the_reference_importer() -> None:
    two = directory.build([entry("b.txt", "hello world"), entry("a.txt", "hello")])
    assert str(two.root) == "bafybeihhkdphp56xabmx6dy2u7wqtscklmfyxciwqpc5w6x6yqvwgjecca"
    unicode = directory.build([entry("ä ö.txt", "u"), entry("Z", "z"), entry("a", "a")])
    assert str(unicode.root) == "bafybeih7rhjb5i76rad3g7mdrcrxduu2w6ufylgv5bfvk3fbrs4ynfy6im"
    y = directory.build([entry("z.txt", "deep")])
    x = directory.build([Link(y.root, "y", y.total), entry("a.txt", "shallow")])
    nested = directory.build([Link(x.root, "x", x.total), entry("top.txt", "t")])
    assert str(nested.root) == "bafybeidb2o5anebxxtdycqq42uezvupta2ivxhjcc6oobvxv2eq5bjxs4i"


def test_directories_around_the_block_limit_have_the_cids_of_the_reference_importer() -> None:
    plain = directory.build(entry(f"f{i}", f"c{i}") for i in range(4000))
    assert len(plain.blocks) == 1
    assert str(plain.root) == "bafybeihwtmplootfwjzxyi7av7ongvt3555unuhctejmn4ai4wph5koyji"
    hamt = directory.build(entry(f"file-{i:06d}.txt", f"content {i}") for i in range(5000))
    assert len(hamt.blocks) > 200
    assert str(hamt.root) == "bafybeiagk4qlnnbx7qqxdhict5wu347ogf6tkbbta5mkzrbhvagrer2hzu"


def test_every_entry_of_a_hamt_is_found_by_its_slots() -> None:
    wanted = {f"file-{i:06d}.txt": entry(f"file-{i:06d}.txt", f"{i}") for i in range(5000)}
    hamt = directory.build(wanted.values())
    blocks = {cid: directory.entries(block) for cid, block in hamt.blocks}
    for name, link in wanted.items():
        at = hamt.root
        for depth in range(8):
            is_shard, links = blocks[at]
            assert is_shard
            slot = directory.slot_name(name, depth)
            [found] = [x for x in links if x.name[:2] == slot]
            if found.name == slot + name:
                assert found.cid == link.cid
                break
            assert found.name == slot
            at = found.cid
        else:
            pytest.fail(name)


def test_a_directory_takes_each_name_once_and_none_that_is_empty() -> None:
    for names in (["a", "a"], ["", "b"]):
        with pytest.raises(ValueError, match="differ"):
            directory.build([entry(name, "x") for name in names])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_file_needs_exactly_its_leaves(count: int) -> None:
    with pytest.raises(ValueError, match="digests"):
        unixfs.build_file(MIB + 1, bytes(32 * count))


def test_a_file_beyond_one_node_is_balanced() -> None:
    size = 1025 * MIB
    dag = unixfs.build_file(size, bytes(32) * 1025)
    assert len(dag.nodes) == 3
    root = dagpb.decode(dag.nodes[-1][1])
    assert unixfs.decode(root.data or b"").block_sizes == (1024 * MIB, MIB)
    assert dag.total == size + sum(len(block) for _, block in dag.nodes)


LINKS = st.lists(
    st.builds(
        Link,
        st.binary(min_size=32, max_size=32).map(unixfs.leaf_cid),
        st.text(st.characters(codec="utf-8"), max_size=9),
        st.integers(0, 2**62),
        st.booleans(),
        st.booleans(),
    ).map(
        # What a link has is said, whatever the flags are.
        lambda link: link._replace(
            has_name=link.has_name or bool(link.name), has_size=link.has_size or bool(link.size)
        )
    ),
    max_size=9,
)


@given(LINKS, st.none() | st.binary(max_size=40))
@settings(max_examples=100)
def test_a_node_comes_back_from_its_block(links: list[Link], data: bytes | None) -> None:
    block = dagpb.encode(links, data)
    assert dagpb.decode(block) == (tuple(links), data)


@given(st.binary(max_size=120), st.integers(0, 119), st.integers(0, 255))
@settings(max_examples=100)
def test_any_bytes_are_a_node_or_a_block_error(noise: bytes, at: int, byte: int) -> None:
    good = bytearray(directory.build([entry("a.txt", "x"), entry("b", "y")]).blocks[-1][1])
    good[at % len(good)] = byte
    for raw in (noise, bytes(good), bytes(good[:at])):
        try:
            node = dagpb.decode(raw)
            unixfs.decode(node.data or b"")
            directory.entries(raw)
        except BlockError:
            continue
        assert dagpb.decode(dagpb.encode(node.links, node.data)) == node


@given(st.binary(max_size=60))
@settings(max_examples=100)
def test_any_bytes_are_a_unixfs_message_or_a_block_error(raw: bytes) -> None:
    try:
        message = unixfs.decode(raw)
    except BlockError:
        return
    assert unixfs.decode(unixfs.encode(message)) == message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"", "0000000000000000"),
        (b"hello", "cbd8a7b341bd9b02"),
        (b"hello, world", "342fac623a5ebc8e"),
    ],
)
def test_murmur3_is_the_published_one(name: bytes, expected: str) -> None:
    assert directory.hash_bytes(name).hex() == expected


def test_cids_of_nodes_are_v1_sha256() -> None:
    cid = directory.build([]).root
    assert cid == Cid.parse("bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354")
