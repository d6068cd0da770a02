"""Claims about gateway/ipfs/codecs/importer.py.

Vectors: made once with npm's ipfs-unixfs-importer 17.1.1, which knows every setting but the hash.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.cids import BLAKE3, SHA2_512, Cid
from gateway.ipfs.codecs import dagpb, unixfs
from gateway.ipfs.codecs.importer import (
    NO_METADATA,
    V0_2015,
    V1_2025,
    BadSetting,
    FileImporter,
    Metadata,
    NotADirectory,
    Profile,
    Tree,
    symlink,
)
from gateway.ipfs.errors import BlockError
from tests.unit.test_unixfs import sample

TINY = replace(V1_2025, chunk_bytes=100, width=3)
DATED = Metadata(0o600, (1_700_000_000, 5))


def imported(
    data: bytes, profile: Profile, metadata: Metadata = NO_METADATA, piece: int = 1 << 30
) -> tuple[dagpb.Link, dict[Cid, bytes]]:
    file = FileImporter(profile, metadata)
    blocks: dict[Cid, bytes] = {}
    for at in range(0, len(data), piece):
        blocks.update(file.feed(data[at : at + piece]))
    blocks.update(file.finish())
    assert file.link is not None
    assert file.size == len(data)
    return file.link, blocks


def read(cid: Cid, blocks: dict[Cid, bytes]) -> bytes:
    if cid.codec == 0x55:
        return blocks[cid]
    node = dagpb.decode(blocks[cid])
    data = unixfs.decode(node.data or b"")
    return (data.data or b"") + b"".join(read(link.cid, blocks) for link in node.links)


@pytest.mark.parametrize(
    ("profile", "metadata", "size", "cid", "total"),
    [
        (V0_2015, None, 0, "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH", 6),
        (V0_2015, None, 1, "QmS9JArPwa55ePgDnyg6TzX24mYTS1b1vLqWNebyVotKxQ", 9),
        (V0_2015, None, 11, "QmeQgnBKYtZccmP8MUAweze7tZndNo2J8YKvvqVCo9cnyo", 19),
        (V0_2015, None, 262144, "QmR7mwzKpt7e4UKRMjGKnEExpjq4Ykf6LYwoMmyQ3P3HEf", 262158),
        (V0_2015, None, 262145, "QmT2Vf8Pxn4TDcB3eBvfqK7YWhQhm21efgytY8QdXxLkws", 262267),
        (V0_2015, None, 1000000, "QmdD9bTf6W9WtDs6CYa6pa6cqinqr1fTv7pieVHuRWCWXK", 1000256),
        (
            replace(V0_2015, raw_leaves=True), None, 11,
            "bafkreiatkxzfxtv7mlyc5xb26oqu37fxpzaj5yj2g6ixzr2epg3dvnjh3m", 11,
        ),
        (
            replace(V1_2025, raw_leaves=False), None, 11,
            "bafybeihoyot2irqs5p7tmrlojch2i6edbaj7c5qz4c33f3o44cf7qarlvi", 19,
        ),
        (TINY, None, 5000, "bafybeifj73lc6xcgalkuithbshcd6muyu4oecttqkvk4odwok3dca3po6i", 8682),
        (TINY, None, 100000, "bafybeidna22ex4n5lhhafovt3ydxwrsnl4t3jctm2w3qf7bulegluilzbi", 173740),
        (V1_2025, DATED, 11, "bafybeidoaphieg7tsoye7v7hv5pect23fjlhiv7uysh5pagpww7cqz5r6e", 35),
        (
            V1_2025, DATED, 3000000,
            "bafybeiguy6mcqtuhv7kbu7q3dri6bap7rmkx4pyvkivp33xwmt3cpzml5y", 3000175,
        ),
    ],
)  # fmt: skip
def test_files_have_the_cids_of_the_reference_importer(
    profile: Profile, metadata: Metadata | None, size: int, cid: str, total: int
) -> None:
    link, blocks = imported(sample(size), profile, metadata or NO_METADATA, 70_001)
    assert (str(link.cid), link.size) == (cid, total)
    assert read(link.cid, blocks) == sample(size)


@pytest.mark.parametrize(
    ("code", "cid"),
    [
        (SHA2_512, "bafkrgqbqtwofkwxhutg3f2sqhy2pruz7k6hgxzz3cenn7dsn4ol6lxzk6"),
        (BLAKE3, "bafkr4ig"),
    ],
)
def test_every_hash_names_its_blocks(code: int, cid: str) -> None:
    link, blocks = imported(b"hello world" * 40, replace(TINY, hash_code=code))
    assert all(name.matches(block) and name.hash_code == code for name, block in blocks.items())
    small, _ = imported(b"hello world", replace(V1_2025, hash_code=code))
    assert str(small.cid)[:6] == cid[:6]
    assert read(link.cid, blocks) == b"hello world" * 40


def test_small_blocks_are_inlined_when_asked() -> None:
    inline = replace(V1_2025, inline_bytes=32)
    link, _ = imported(b"hello world", inline)
    assert str(link.cid) == "bafkqac3imvwgy3zao5xxe3de"
    link, blocks = imported(b"x" * 33, inline)
    assert link.cid.hash_code == 0x12
    tail, blocks = imported(b"x" * 110, replace(TINY, inline_bytes=32))
    codes = sorted(cid.hash_code for cid in blocks)
    assert codes == [0, 0x12, 0x12]
    assert read(tail.cid, blocks) == b"x" * 110


def test_a_symlink_is_its_target() -> None:
    link, block = symlink("../a b")
    data = unixfs.decode(dagpb.decode(block).data or b"")
    assert (data.kind, data.data) == (unixfs.Kind.SYMLINK, b"../a b")
    assert link.cid.matches(block)


@pytest.mark.parametrize(
    "profile",
    [
        replace(V1_2025, cid_version=2),
        replace(V0_2015, hash_code=SHA2_512),
        replace(V0_2015, inline_bytes=32),
        replace(V1_2025, inline_bytes=129),
        replace(V1_2025, chunk_bytes=0),
        replace(V1_2025, chunk_bytes=2 << 20),
        replace(V1_2025, width=1),
        replace(V1_2025, width=1 << 20),
    ],
)
def test_a_profile_that_cannot_be_is_refused(profile: Profile) -> None:
    with pytest.raises(BadSetting):
        profile.checked()


@given(
    st.integers(0, 3000), st.integers(1, 60), st.integers(2, 5), st.booleans(), st.integers(1, 700)
)
def test_a_file_reads_as_it_was_whatever_its_shape(
    size: int, chunk: int, width: int, raw: bool, piece: int
) -> None:
    profile = replace(V1_2025, chunk_bytes=chunk, width=width, raw_leaves=raw)
    link, blocks = imported(sample(size), profile, piece=piece)
    assert read(link.cid, blocks) == sample(size)
    assert link.size >= sum(map(len, blocks.values()))
    assert link == imported(sample(size), profile)[0]


@given(st.binary(max_size=40))
def test_attributes_of_a_node_are_read_or_refused(raw: bytes) -> None:
    try:
        unixfs.decode(b"\x08\x02" + raw)
    except BlockError:
        return


@given(
    st.none() | st.integers(0, 0o7777),
    st.none() | st.tuples(st.integers(0, 2**62), st.integers(0, 999_999_999)),
)
def test_mode_and_time_come_back(mode: int | None, mtime: tuple[int, int] | None) -> None:
    data = unixfs.Data(unixfs.Kind.FILE, b"x", 1, mode=mode, mtime=mtime)
    assert unixfs.decode(unixfs.encode(data)) == data
    before_1970 = b"\x08\x02\x42\x0b\x08" + b"\xff" * 9 + b"\x01"
    assert unixfs.decode(before_1970).mtime is None


@pytest.mark.parametrize(
    ("profile", "entries", "cid", "total"),
    [
        (V0_2015, 1115, "QmcKW1Gf2JXNe57u8Etxqo28rkVSefhAU7dGpYQJs7uUek", 283214),
        (V0_2015, 1116, "QmSiABMMRJqawjryc77MSYfgjpbaYcqtVv4LmAF1LiBAve", 305951),  # a HAMT
        (V1_2025, 1000, "bafybeigzjbctlyhaulqhqze76lmb7rnvoba2tlv55x4cauma3idofldy3y", 248004),
        (V1_2025, 1100, "bafybeib762fpegjscik7jgbout7kz4p7fpgp5l72vo22mh4nqsllu42egm", 295489),
    ],
)
def test_directories_have_the_cids_of_the_reference_importer(
    profile: Profile, entries: int, cid: str, total: int
) -> None:
    tree = Tree(profile)
    file, _ = imported(b"x", profile)
    for number in range(entries):
        tree.put(("d", f"{number:04d}-{'n' * 196}"), file)
    [(path, built)] = tree.finish(top=False)
    assert (path, str(built.root), built.total) == (("d",), cid, total)


def test_a_directory_has_attributes() -> None:
    tree = Tree()
    tree.folder(("d",), Metadata(0o700, (1_700_000_000, 0)))
    tree.put(("d", "f"), imported(b"x", V1_2025)[0])
    [(_, built)] = tree.finish(top=False)
    assert str(built.root) == "bafybeidhsz5lt6s65q7dqywpswew37pp2qodkbgsbgtg35fub4soyvwkpy"
    assert built.total == 61


def test_a_file_and_a_directory_do_not_share_a_path() -> None:
    file, _ = imported(b"x", V1_2025)
    for paths in ((("a",), ("a", "b")), (("a", "b"), ("a",))):
        tree = Tree()
        tree.put(paths[0], file)
        with pytest.raises(NotADirectory):
            tree.put(paths[1], file)
