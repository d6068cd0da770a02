"""Claims about IPLD values and their codecs (gateway/ipfs/codecs/ipld.py, cbor.py, dagjson.py)."""

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.cids import DAG_CBOR, DAG_JSON, DAG_PB, JSON, RAW, SHA2_256, Cid
from gateway.ipfs.codecs import cbor, dagjson, dagpb, ipld, unixfs
from gateway.ipfs.codecs.data_model import DEPTH_MAX, ITEMS_MAX, Value
from gateway.ipfs.codecs.links import links
from gateway.ipfs.codecs.traversal import follow
from gateway.ipfs.errors import BlockError, NotAcceptable, NotFound

LINK = Cid.parse("bafkqabiaaebagba")
OLD_LINK = Cid.parse("QmXg9Pp2ytZ14xgmQjYEiHjVjMFXzCVVEcRTWJBmLgR39V")

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(max_size=80)
    | st.just(LINK.raw)  # bytes that look like a link are bytes
    | st.sampled_from([LINK, OLD_LINK])
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["/", "bytes", "a", "b", "aa", "", "é"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


def same(one: Value, other: Value) -> bool:
    """Equal, and of the same kinds: 1 is not 1.0, and not true."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def has_reserved(value: Value) -> bool:
    """Whether a map in it would be read as a link or as bytes."""
    if isinstance(value, list):
        return any(map(has_reserved, value))
    if not isinstance(value, dict):
        return False
    inner = value.get("/")
    if isinstance(inner, str) or (isinstance(inner, dict) and isinstance(inner.get("bytes"), str)):
        return True
    return any(map(has_reserved, value.values()))


@given(value=_values)
def test_what_dag_cbor_says_is_read_as_it_was(value: Value) -> None:
    block = cbor.encode(value)
    assert same(cbor.decode(block), value)
    assert cbor.encode(cbor.decode(block)) == block


@given(value=_values)
def test_what_dag_json_says_is_read_as_it_was_or_is_refused(value: Value) -> None:
    try:
        block = dagjson.encode(value)
    except BlockError:
        assert has_reserved(value)
        return
    assert not has_reserved(value)
    assert same(dagjson.decode(block), value)
    assert dagjson.encode(dagjson.decode(block)) == block


@given(value=_values)
def test_the_links_that_a_walk_takes_are_those_of_the_value(value: Value) -> None:
    block = cbor.encode(value)
    cid = Cid.of(DAG_CBOR, SHA2_256, hashlib.sha256(block).digest())
    found, waiting = [], [cbor.decode(block)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Cid):
            found.append(item)
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            waiting += item.values()
    assert sorted(links(cid, block)) == sorted(found)


@given(raw=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for codec in ipld.CODECS.values():
        try:
            ipld.decode(codec, raw)
        except BlockError:
            continue


@given(
    value=_values,
    noise=st.binary(max_size=20),
    path=st.lists(st.sampled_from(["/", "a", "b", "", "0", "1", "-1", "00", "9" * 30]), max_size=6),
)
def test_a_path_leads_to_a_link_or_is_refused(value: Value, noise: bytes, path: list[str]) -> None:
    for block in (cbor.encode(value), noise):
        cid = Cid.of(DAG_CBOR, SHA2_256, hashlib.sha256(block).digest())
        try:
            link, used = follow(cid, block, path)
        except (NotFound, NotAcceptable):
            continue
        assert link in {None, LINK, OLD_LINK}
        assert used == len(path) if link is None else 0 < used <= len(path)


# From the public cross-codec fixtures: a value's text in DAG-JSON, and its CID in either codec.
@pytest.mark.parametrize(
    ("text", "json_cid", "cbor_cid"),
    [
        (
            "[6433713753386423,65536,500,2,0,-1,-3,-256,-2784428724,-6433713753386424,"
            '{"/":{"bytes":"YTE"}},"Čaues ßvěte!"]',
            "baguqeera4iuxsgqusw3ctry362niptivjyio6dxnsn5afctijsahacub2eza",
            "bafyreidufmzzejc3p7gmh6ivp4fjvca5jfazk57nu6vdkvki4c4vpja724",
        ),
        (
            '{"/":{"bytes":""}}',
            "baguqeerackat3qjvp3wd4jnmm7afadwt2ahpjxqbj7pzxocc4kges5lkkqgq",
            "bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4kok6gl47quzvy",
        ),
        (
            '["array",["of",[5,["nested",["arrays","!"]]]]]',
            "baguqeera7mqnrv3sxsqeaxf23poe2lyztcxjomr7alr2oapf7slfdrr5ai7q",
            "bafyreihmxfmn5wcpzpiqa6zfefgabxmd2jzr2bd4y2v7c2ss4plkgkabgq",
        ),
        (
            '{"/":"QmXg9Pp2ytZ14xgmQjYEiHjVjMFXzCVVEcRTWJBmLgR39V"}',
            "baguqeeragkmsqdjvsmershik24tc5kwcgmh6wyahxdzlqi7vrblz4jjsjnfq",
            "bafyreidqpmseqxbqp3fwb256fmqg4glepd4wfn5ubei7jlcvxpfy7bshge",
        ),
        (
            '{"/":"bafkqabiaaebagba"}',
            "baguqeerarlku7yrcztgkqfowmc5lzvjnavntg2xuwkr6j5lpczxipwxizmma",
            "bafyreihm764rs4lirtozq4d5d4pqext5b5akh6val7cyphu4aglvpha3xm",
        ),
    ],
)
def test_blocks_are_those_of_other_implementations(text: str, json_cid: str, cbor_cid: str) -> None:
    value = dagjson.decode(text.encode())
    for codec, cid in ((DAG_JSON, json_cid), (DAG_CBOR, cbor_cid)):
        block = ipld.encode(codec, value)
        assert Cid.parse(cid).matches(block)
        assert same(ipld.decode(codec, block), value)


def test_keys_are_sorted_by_bytes_in_json_and_by_length_first_in_cbor() -> None:
    value: Value = {"b": 1, "aa": 2, "é": 3}
    assert dagjson.encode(value) == '{"aa":2,"b":1,"é":3}'.encode()
    assert cbor.encode(value) == b"\xa3\x61b\x01\x62aa\x02\x62\xc3\xa9\x03"


def test_a_float_without_a_fraction_stays_a_float() -> None:
    for number in (1.0, 1e300, -0.5, 1e-300, 123456789012345680.0):
        assert same(dagjson.decode(dagjson.encode(number)), number)
        assert cbor.encode(number)[:1] == b"\xfb"
    assert cbor.decode(b"\xf9\x3c\x00") == 1.0
    assert cbor.decode(b"\xfa\x47\xc3\x50\x00") == 100000.0


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x18\x17",  # 23 in two bytes
        b"\x19\x00\xff",
        b"\x1a\x00\x00\xff\xff",
        b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff",
        b"\x5f\x41a\xff",  # of unsaid length
        b"\x9f\x01\xff",
        b"\xbf\xff",
        b"\xc1\x01",  # another tag
        b"\xd8\x2a\x01",
        b"\xd8\x2a\x41\x01",
        b"\xd8\x2a\x42\x00\x01",
        b"\xf7",  # undefined
        b"\xf8\x20",
        b"\xf9\x7e\x00",  # not a number
        b"\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",  # infinity
        b"\xa1\x01\x01",  # a key that is no text
        b"\xa2\x61a\x01\x61a\x02",  # a key twice
        b"\x61\xff",  # no UTF-8
        b"\x01\x01",
        b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",  # longer than the block
        b"\x81" * 300 + b"\x01",
        b"\x81" * 100_000,
    ],
)
def test_what_is_not_dag_cbor_is_refused(block: bytes) -> None:
    with pytest.raises(BlockError):
        cbor.decode(block)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1,]",
        "NaN",
        "-Infinity",
        "1e999",
        str(1 << 64),
        "9" * 10_000,
        '{"a":1,"a":2}',
        '{"/":"no cid"}',
        '{"/":"bafkqabiaaebagba","more":1}',
        '{"/":{"bytes":"YQ=="}}',
        '{"/":{"bytes":"A"}}',
        '{"/":{"bytes":"-_"}}',
        '{"/":{"bytes":"YQ","more":1}}',
        '{"/":{"bytes":"YQ"},"more":1}',
        '"\\ud800"',
        '{"\\ud800":1}',
        "1 2",
        "[" * 300 + "]" * 300,
        "[" * 1_000_000,
        '{"a":' * 100_000,
    ],
)
def test_what_is_not_dag_json_is_refused(text: str) -> None:
    with pytest.raises(BlockError):
        dagjson.decode(text.encode())


@pytest.mark.parametrize(
    "text", ['{"/":1}', '{"/":{"foo":"x"}}', '{"/":{"bytes":1}}', '{"/":null,"a":1}', '{"/":["x"]}']
)
def test_a_slash_as_a_key_is_free_for_other_values(text: str) -> None:
    assert dagjson.encode(dagjson.decode(text.encode())).decode() == text


@pytest.mark.parametrize("value", [{"/": "x"}, {"/": {"bytes": "x"}}, {"/": "x", "a": 1}])
def test_a_map_that_would_be_read_as_a_link_is_not_written(value: Value) -> None:
    with pytest.raises(BlockError):
        dagjson.encode(value)
    assert same(cbor.decode(cbor.encode(value)), value)


def test_plain_json_has_neither_links_nor_reserved_maps() -> None:
    value = ipld.decode(JSON, b' { "/" : "x" } ')
    assert value == {"/": "x"}
    assert ipld.encode(JSON, value) == b'{"/":"x"}'
    for outside in (LINK, b"bytes"):
        with pytest.raises(BlockError):
            ipld.encode(JSON, outside)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1 << 64, -(1 << 64) - 1, "\ud800"])
def test_what_ipld_has_not_is_not_written(value: Value) -> None:
    for codec in (DAG_CBOR, DAG_JSON):
        with pytest.raises(BlockError):
            ipld.encode(codec, value)


def test_depth_and_number_of_items_are_bounded() -> None:
    deep: Value = 1
    for _ in range(DEPTH_MAX):
        deep = [deep]
    for codec in (DAG_CBOR, DAG_JSON):
        assert same(ipld.decode(codec, ipld.encode(codec, deep)), deep)
        with pytest.raises(BlockError):
            ipld.encode(codec, [deep])
    with pytest.raises(BlockError):
        cbor.decode(b"\x9a" + ITEMS_MAX.to_bytes(4, "big") + b"\x01" * ITEMS_MAX)
    with pytest.raises(BlockError):
        dagjson.decode(b"[" + b"1," * ITEMS_MAX + b"1]")


def test_a_dag_pb_node_has_the_logical_form_and_comes_back_from_it() -> None:
    block = dagpb.encode([dagpb.Link(LINK, "a", 7)], unixfs.DIRECTORY_DATA)
    value = ipld.decode(DAG_PB, block)
    assert dagjson.encode(value) == (
        b'{"Data":{"/":{"bytes":"CAE"}},"Links":'
        b'[{"Hash":{"/":"bafkqabiaaebagba"},"Name":"a","Tsize":7}]}'
    )
    assert ipld.encode(DAG_PB, dagjson.decode(dagjson.encode(value))) == block
    # What others leave out stays out: it is another block.
    partial: list[Value] = [{"Hash": LINK}, {"Hash": LINK, "Name": "a"}, {"Hash": LINK, "Tsize": 0}]
    for link in partial:
        sparse: Value = {"Links": [link]}
        assert ipld.decode(DAG_PB, ipld.encode(DAG_PB, sparse)) == sparse
    assert len(ipld.encode(DAG_PB, {"Links": [{"Hash": LINK}]})) == 4 + len(LINK.raw)
    bare = ipld.decode(DAG_PB, dagpb.encode([], None))
    assert bare == {"Links": []}


@pytest.mark.parametrize(
    "value",
    [
        1,
        {},
        {"Links": 1},
        {"Links": [], "Data": "text"},
        {"Links": [], "More": 1},
        {"Links": [{"Hash": "text", "Name": "", "Tsize": 1}]},
        {"Links": [{"Hash": LINK, "Name": "", "Tsize": True}]},
        {"Links": [{"Hash": LINK, "Name": "", "Tsize": -1}]},
        {"Links": [{"Hash": LINK, "Name": "", "Tsize": 1, "More": 1}]},
        {"Links": [{"Name": "", "Tsize": 1}]},
        {"Links": [{"Hash": LINK, "Name": None}]},
        {"Links": [{"Hash": LINK, "Tsize": 1.5}]},
        {"Links": [], "Data": b"x" * dagpb.BLOCK_BYTES_MAX},
    ],
)
def test_what_is_no_dag_pb_node_is_refused(value: Value) -> None:
    with pytest.raises(BlockError):
        ipld.encode(DAG_PB, value)


def test_a_raw_block_is_bytes() -> None:
    assert ipld.encode(RAW, ipld.decode(RAW, b"abc")) == b"abc"
    with pytest.raises(BlockError):
        ipld.encode(RAW, "abc")
    for refused in (ipld.decode, ipld.encode):
        with pytest.raises(BlockError):
            refused(0x9999, b"abc")
