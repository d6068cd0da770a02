"""Content ids: text and bytes, and whether data is what a CID says."""

import hashlib
from collections.abc import Callable

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from chain.cids import BLAKE3, DAG_PB, IDENTITY, RAW, SHA2_256, SHA2_512, Cid, InvalidCid

HASHES: dict[int, Callable[[bytes], bytes]] = {
    IDENTITY: lambda data: data,
    SHA2_256: lambda data: hashlib.sha256(data).digest(),
    SHA2_512: lambda data: hashlib.sha512(data).digest(),
    BLAKE3: lambda data: blake3(data).digest(),
}


@pytest.mark.parametrize("code", HASHES)
def test_a_cid_matches_its_bytes_and_no_others(code: int) -> None:
    cid = Cid.of(RAW, code, HASHES[code](b"hello world"))
    assert cid.matches(b"hello world")
    assert not cid.matches(b"hello worle")
    assert not cid.matches(b"")
    assert Cid.parse(str(cid)) == cid


def test_an_unknown_hash_never_matches() -> None:
    assert not Cid.of(RAW, 0x16, hashlib.sha3_256(b"x").digest()).matches(b"x")


def test_known_texts() -> None:
    text = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    assert Cid.parse(text) == Cid.of(RAW, SHA2_256, hashlib.sha256(b"hello world").digest())
    old = Cid.parse("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG")
    assert old.parts()[:3] == (0, DAG_PB, SHA2_256)
    assert str(old) == "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"


@pytest.mark.parametrize(
    ("code", "size"),
    [(SHA2_256, 31), (SHA2_256, 64), (SHA2_512, 32), (BLAKE3, 33), (IDENTITY, 129)],
)
def test_a_digest_of_another_length_is_refused(code: int, size: int) -> None:
    with pytest.raises(InvalidCid):
        Cid.from_bytes(Cid.of(RAW, code, bytes(size)).raw)


@given(st.binary(max_size=80) | st.binary(min_size=32, max_size=32).map(b"\x12\x20".__add__))
def test_any_bytes_are_a_cid_or_refused(raw: bytes) -> None:
    try:
        cid = Cid.from_bytes(raw)
    except InvalidCid:
        return
    assert Cid.parse(str(cid)) == cid
    assert cid.matches(b"data") in (True, False)


@given(st.text(max_size=80) | st.text("bafkreiQmz123456789", max_size=80))
def test_any_text_is_a_cid_or_refused(text: str) -> None:
    try:
        cid = Cid.parse(text)
    except InvalidCid:
        return
    assert cid.parts()
