"""Claims about gateway/ipfs/index/deny.py and deny_files.py: the rules of denylists (IPIP-383)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import base58
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.cids import BLAKE3, DAG_PB, RAW, SHA2_256, Cid
from gateway.ipfs.errors import Denied, DeniedByLaw, RulesUnknown
from gateway.ipfs.index.deny import BadRule, Rules
from gateway.ipfs.index.deny_files import DenyFiles
from tests.unit.object_parts import FakeClock

A, B, C = (Cid.of(DAG_PB, SHA2_256, hashlib.sha256(bytes([i])).digest()) for i in range(3))
A_RAW, A_V0 = Cid.of(RAW, SHA2_256, A.digest), Cid(A.raw[2:])


def rules(text: str) -> Rules:
    found = Rules()
    found.add(text)
    return found


def blocks(found: Rules, cid: Cid, path: str | None = None) -> bool:
    try:
        if path is None:
            found.check_block(cid)
        else:
            found.check_path(cid, path.split("/") if path else [])
    except Denied:
        return True
    return False


def blocks_name(found: Rules, name: str, path: Sequence[str] = ()) -> bool:
    try:
        found.check_name(name, path)
    except Denied:
        return True
    return False


def test_a_rule_of_a_cid_blocks_its_multihash_and_no_other() -> None:
    for text in (f"/ipfs/{A}", f"/ipfs/{A_V0}", f"/ipfs/{A_RAW}/", f"# x\n\n/ipfs/{A} k:v\n"):
        found = rules(text)
        assert found.count == 1
        assert all(blocks(found, cid) for cid in (A, A_RAW, A_V0))
        assert not blocks(found, B)
        assert not blocks(found, A, "some/path")


@pytest.mark.parametrize(
    ("rule", "blocked", "allowed"),
    [
        ("test*", ["test", "test/a", "testing"], ["tes", "a/test"]),
        ("test/*", ["test", "test/a"], ["tes"]),
        ("a/b", ["a/b"], ["a", "a/b/c", "a/bc"]),
        ("a%20b/", ["a b"], ["a%20b"]),
        ("*", ["", "anything", "a/b"], []),
    ],
)
def test_rules_of_paths_block_paths(rule: str, blocked: list[str], allowed: list[str]) -> None:
    found = rules(f"/ipfs/{A_V0}/{rule}")
    assert all(blocks(found, A, path) for path in blocked)
    assert not any(blocks(found, A, path) for path in allowed)
    assert not blocks(found, B, "test")
    assert blocks(found, A) is (rule == "*")


def test_the_last_rule_that_matches_wins() -> None:
    found = rules(f"/ipfs/{A}/blocked*\n!/ipfs/{A}/blocked/not\n+/ipfs/{A}/blocked/ex*")
    assert blocks(found, A, "blocked/yes")
    assert not blocks(found, A, "blocked/not")
    assert not blocks(found, A, "blocked/exceptions")
    found.add(f"/ipfs/{A}/blocked/not")
    assert blocks(found, A, "blocked/not")
    assert not blocks(rules(f"/ipfs/{B}\n!/ipfs/{B}"), B)
    assert blocks(rules(f"!/ipfs/{B}\n/ipfs/{B}"), B)


def test_names_are_blocked_as_domains_and_as_keys() -> None:
    peer = base58.b58encode(A.multihash).decode()
    key = Cid.of(0x72, SHA2_256, A.digest)
    found = rules(f"/ipns/Bad.example\n/ipns/paths.example/only*\n/ipns/{peer}")
    assert blocks_name(found, "bad.example")
    assert not blocks_name(found, "bad.example", ["path"])
    assert not blocks_name(found, "paths.example")
    assert blocks_name(found, "paths.example", ["only", "this"])
    assert blocks_name(found, str(key))
    assert not blocks(found, A)


def multihash(code: int, digest: bytes) -> str:
    return base58.b58encode(bytes([code, len(digest)]) + digest).decode()


def test_hashes_of_hashes_block_what_they_do_not_name() -> None:
    name = base58.b58encode(A.multihash)
    one = rules("//" + multihash(SHA2_256, hashlib.sha256(name).digest()))
    assert all(blocks(one, cid) for cid in (A, A_RAW, A_V0))
    assert not blocks(one, B)
    path = rules("//" + multihash(BLAKE3, blake3(name + b"/my/path").digest()))
    assert blocks(path, A, "my/path")
    assert not blocks(path, A)
    assert not blocks(path, A, "my")
    legacy = rules("//" + hashlib.sha256(f"{A}/".encode()).hexdigest())
    assert blocks(legacy, A)
    assert blocks(legacy, A_V0)
    assert not blocks(legacy, A_RAW)  # it names one codec
    domain = rules("//" + hashlib.sha256(b"bad.example/").hexdigest())
    assert blocks_name(domain, "bad.example")
    modern = rules("//" + multihash(SHA2_256, hashlib.sha256(b"/ipns/bad.example").digest()))
    assert blocks_name(modern, "bad.example")
    assert not blocks_name(modern, "good.example")


def test_the_vectors_of_the_specification() -> None:
    blocked = Cid.parse("bafybeidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja")
    assert blocks(rules("//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM"), blocked)
    legacy = "//d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7"
    named = Cid.parse("bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e")
    assert blocks(rules(legacy), named)


def test_a_rule_says_whether_the_law_forbids() -> None:
    text = f"version: 1\nname: x\nhints:\n  gateway_status: 451\n---\n/ipfs/{A}\n"
    with pytest.raises(DeniedByLaw):
        rules(text).check_block(A)
    found = rules(text + f"/ipfs/{B} gateway_status:410\n")
    with pytest.raises(Denied) as caught:
        found.check_block(B)
    assert not isinstance(caught.value, DeniedByLaw)
    with pytest.raises(DeniedByLaw):
        rules(f"/ipfs/{C} reason:legal").check_block(C)
    with pytest.raises(BadRule, match="version"):
        rules("version: 2\n---\n")


def test_lines_that_are_no_rules_are_told_and_left_out() -> None:
    found = rules(f"/ipfs/notacid\nhello\n//zz\n/ipfs/{A}\n/other/x\n/ipfs/\n!\n")
    assert len(found.faults) == 6
    assert blocks(found, A)


@given(st.text(max_size=80))
@settings(max_examples=200)
def test_any_text_is_a_list_or_is_refused(text: str) -> None:
    for start in ("", "/ipfs/", f"/ipfs/{A}/", "//", "/ipns/", "!"):
        try:
            found = rules(start + text)
        except BadRule:
            continue
        blocks(found, A)
        blocks(found, A, "a/b")


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    one = folder / "one.deny"
    one.write_text(f"/ipfs/{A}\n")
    (folder / "readme.txt").write_text(f"/ipfs/{C}\n")
    deny = DenyFiles([folder], FakeClock())
    assert blocks(deny.rules, A)
    (folder / "two.deny").write_text(f"!/ipfs/{A}\n/ipfs/{B}\n")
    deny.look()
    assert not blocks(deny.rules, A)
    assert blocks(deny.rules, B)
    assert not blocks(deny.rules, C)
    one.write_text("version: 9\n---\n")
    deny.look()  # cannot be read: the rules stay
    assert blocks(deny.rules, B)


def test_a_list_that_cannot_be_read_at_the_start_blocks_everything(tmp_path: Path) -> None:
    file = tmp_path / "x.deny"
    deny = DenyFiles([file], FakeClock())
    with pytest.raises(RulesUnknown):
        deny.check_block(A)
    file.write_text("")
    deny.look()
    deny.check_block(A)
    DenyFiles([], FakeClock()).check_block(A)
