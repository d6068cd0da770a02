"""Manifests: what is built loads back, and nothing that contradicts itself loads."""

from collections.abc import Callable, Iterable

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from chain import dagcbor
from chain.cids import BLAKE3, DAG_CBOR, Cid
from chain.ids import FragmentId
from gateway.manifest import (
    NODE_MAX,
    InvalidManifest,
    Manifest,
    StreamManifest,
    build,
    fid,
    load,
)
from gateway.seal import CHUNK, cut, sealed_size
from miner.segments import Profile, Segment

OWNER = bytes(range(32))


def name(*parts: int) -> bytes:
    return blake3(repr(parts).encode()).digest()


def stream(size: int, *, k: int = 4, m: int = 2, chunks: int = 8, seed: int = 0) -> StreamManifest:
    profile = Profile("", k, m)
    segments = tuple(
        Segment(
            profile,
            sealed_size(plain),
            tuple(FragmentId(name(seed, i, j)) for j in range(profile.n)),
        )
        for i, plain in enumerate(cut(size, chunks))
    )
    return StreamManifest(size, name(seed), None, segments)


def inline(size: int, seed: int = 0) -> StreamManifest:
    return StreamManifest(size, name(seed), name(seed, 1))


def fetcher(nodes: Iterable[tuple[bytes, bytes]]) -> Callable[[bytes], bytes]:
    return dict(nodes).__getitem__


STREAMS = st.one_of(
    st.builds(inline, st.integers(0, 16384), st.integers(0, 99)),
    st.builds(
        stream,
        st.integers(1, 400 * CHUNK),
        k=st.integers(1, 16),
        m=st.integers(0, 8),
        chunks=st.integers(1, 32),
        seed=st.integers(0, 99),
    ),
)


@given(st.lists(STREAMS, min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_what_is_built_loads_back(streams: list[StreamManifest]) -> None:
    manifest = Manifest(OWNER, tuple(streams))
    nodes = build(manifest)
    assert load(nodes[-1][0], fetcher(nodes)) == manifest
    assert fid(manifest) == nodes[-1][0]


def test_a_large_object_is_a_dag_of_small_nodes() -> None:
    parts = tuple(stream(5 << 30, k=16, m=4, seed=i) for i in range(40))
    nodes = build(Manifest(OWNER, parts))
    assert len(nodes) > 40
    assert max(len(data) for _, data in nodes) <= NODE_MAX
    assert load(nodes[-1][0], fetcher(nodes)).size == 40 * (5 << 30)


def test_the_widest_page_fits_in_a_node() -> None:
    nodes = build(Manifest(OWNER, (stream(5 << 30, k=16, m=16, chunks=1),)))
    assert max(len(data) for _, data in nodes) <= NODE_MAX


def test_every_fact_changes_the_fid() -> None:
    base = stream(9 * CHUNK)
    fids = {
        fid(Manifest(OWNER, (base,))),
        fid(Manifest(bytes(32), (base,))),
        fid(Manifest(OWNER, (base, base))),
        fid(Manifest(OWNER, (stream(9 * CHUNK - 1),))),
        fid(Manifest(OWNER, (stream(9 * CHUNK, seed=1),))),
        fid(Manifest(OWNER, (stream(9 * CHUNK, k=2, m=4),))),
    }
    assert len(fids) == 6


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_changed_node_is_refused(data: st.DataObject) -> None:
    nodes = build(Manifest(OWNER, tuple(stream(300 * CHUNK, seed=i) for i in range(20))))
    which = data.draw(st.integers(0, len(nodes) - 1))
    cid, raw = nodes[which]
    at = data.draw(st.integers(0, len(raw) - 1))
    broken = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
    table = dict(nodes) | {cid: broken}
    with pytest.raises(InvalidManifest):
        load(nodes[-1][0], table.__getitem__)


def root_of(value: object) -> tuple[bytes, dict[bytes, bytes]]:
    raw = dagcbor.encode(value)
    cid = Cid.of(DAG_CBOR, BLAKE3, blake3(raw).digest()).raw
    return cid, {cid: raw}


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_like)
@settings(max_examples=100, deadline=None)
def test_other_values_are_refused(value: object) -> None:
    cid, table = root_of(value)
    with pytest.raises(InvalidManifest):
        load(cid, table.__getitem__)


def good_root() -> dict:
    nodes = build(Manifest(OWNER, (stream(9 * CHUNK), inline(5))))
    root: dict = dagcbor.decode(nodes[-1][1])
    return root


@given(st.sampled_from(["v", "size", "owner", "cipher", "streams"]), json_like)
@settings(max_examples=100, deadline=None)
def test_a_root_with_a_strange_field_is_refused(field: str, value: object) -> None:
    root = good_root()
    if root[field] == value:
        return
    cid, table = root_of(root | {field: value})
    with pytest.raises(InvalidManifest):
        load(cid, table.__getitem__)


@given(
    st.sampled_from(["size", "key", "code", "segments", "body", "pages", "more"]),
    json_like,
    st.integers(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_a_stream_with_a_strange_field_is_refused(field: str, value: object, which: int) -> None:
    root = good_root()
    if root["streams"][which].get(field) == value:
        return
    root["streams"][which][field] = value
    if which == 0 and field == "key" and isinstance(value, bytes) and len(value) == 32:
        return
    cid, table = root_of(root)
    with pytest.raises(InvalidManifest):
        load(cid, table.__getitem__)


@pytest.mark.parametrize(
    "cid", [b"", b"x", Cid.of(0x55, BLAKE3, bytes(32)).raw, Cid.of(DAG_CBOR, 0x12, bytes(32)).raw]
)
def test_only_blake3_dag_cbor_links_are_followed(cid: bytes) -> None:
    with pytest.raises(InvalidManifest):
        load(cid, lambda _: b"")


def test_unevenly_cut_segments_are_refused() -> None:
    even = stream(20 * CHUNK)
    uneven = StreamManifest(even.size, even.commitment, None, even.segments[::-1])
    nodes = build(Manifest(OWNER, (uneven,)))
    with pytest.raises(InvalidManifest):
        load(nodes[-1][0], fetcher(nodes))
