"""Claims about IPNS names, keys and records: bytes of any maker, and our own."""

import random

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from chain.cids import Cid
from gateway.ipfs.codecs.protobuf import bytes_field, fields, uint_field
from gateway.ipfs.errors import BlockError
from gateway.ipfs.ipns import record
from gateway.ipfs.ipns.keys import (
    Ed25519Key,
    InvalidKey,
    PrivateKey,
    generate,
    name_of,
    private_key,
    verify,
)
from gateway.ipfs.ipns.name import InvalidName, IpnsName, base36
from gateway.ipfs.ipns.record import InvalidRecord, make, parse
from tests.protocol.ipfs_site import fixture

NOW = 1_800_000_000 * 10**9
HOUR = 3600 * 10**9
KEY = Ed25519Key.of_seed(bytes(range(32)))
NAME = name_of(KEY)
VALUE = "/ipfs/bafkqaaa"
RECORD = make(KEY, VALUE, 7, NOW + HOUR, HOUR)


@pytest.fixture(scope="module")
def rsa() -> PrivateKey:
    """An RSA key, made once."""
    return generate("rsa", 2048, random.Random(1).randbytes)


@pytest.mark.parametrize("v1", [True, False])
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_what_a_key_signs_verifies_under_its_name_and_no_other(
    kind: str, v1: bool, rsa: PrivateKey
) -> None:
    key = rsa if kind == "rsa" else KEY
    made = make(key, "/ipns/example.org/a b", (1 << 64) - 1, NOW + 1, 5, v1=v1)
    assert parse(made.raw, name_of(key), NOW) == made
    other = NAME if kind == "rsa" else name_of(rsa)
    with pytest.raises(InvalidRecord):
        parse(made.raw, other, NOW)
    assert name_of(private_key(key.serialised())) == name_of(key)


def test_every_spelling_of_a_name_is_the_same_name(rsa: PrivateKey) -> None:
    for name in (NAME, name_of(rsa)):
        for text in (str(name), name.peer_id, str(name.cid), str(name).upper()):
            assert IpnsName.parse(text) == name
        other = base36(Cid(b"\x01\x70" + name.multihash))
        with pytest.raises(InvalidName):
            IpnsName.parse(other)
        assert IpnsName.parse(other, any_codec=True) == name
    assert str(NAME).startswith("k51")
    assert NAME.peer_id.startswith("12D3Koo")
    assert name_of(rsa).peer_id.startswith("Qm")


@pytest.mark.parametrize(
    "text",
    ["", "k", "k0", "k51", "example.org", "Qm", "1", "12D3Koo!", "bafkqaaa", "k" + "z" * 127, "é"],
)
def test_what_is_no_name_is_told(text: str) -> None:
    with pytest.raises(InvalidName):
        IpnsName.parse(text)


def test_no_byte_of_a_record_that_is_signed_can_be_changed() -> None:
    signed = make(KEY, VALUE, 7, NOW + HOUR, HOUR, v1=False).raw
    for at in range(len(signed)):
        for bit in (1, 128):
            broken = bytearray(signed)
            broken[at] ^= bit
            with pytest.raises(InvalidRecord):
                parse(bytes(broken), NAME, NOW)


def test_older_fields_that_say_something_else_make_a_record_invalid() -> None:
    for changed in (
        make(KEY, "/ipfs/bafkqabi", 7, NOW + HOUR, HOUR),
        make(KEY, VALUE, 8, NOW + HOUR, HOUR),
        make(KEY, VALUE, 7, NOW + 2 * HOUR, HOUR),
        make(KEY, VALUE, 7, NOW + HOUR, HOUR + 1),
    ):
        old = {number: value for number, value in fields(changed.raw) if number <= 6}
        new = {number: value for number, value in fields(RECORD.raw) if number > 6}
        mixed = b"".join(
            uint_field(n, v) if isinstance(v, int) else bytes_field(n, v)
            for n, v in (old | new).items()
        )
        with pytest.raises(InvalidRecord, match="V1"):
            parse(mixed, NAME, NOW)
    # Its signature alone is nobody's business.
    damaged = RECORD.raw.replace(dict(fields(RECORD.raw))[2], bytes(64))  # type: ignore[arg-type]
    assert parse(damaged, NAME, NOW).value == VALUE


def test_a_record_ends_with_its_life_and_is_cached_no_longer() -> None:
    assert RECORD.cache_seconds(NOW) == 3600
    assert RECORD.cache_seconds(NOW + HOUR // 2) == 1800
    assert RECORD.cache_seconds(NOW + 2 * HOUR) == 0
    parse(RECORD.raw, NAME, NOW + HOUR - 1)
    with pytest.raises(InvalidRecord, match="expired"):
        parse(RECORD.raw, NAME, NOW + HOUR)
    longer = make(KEY, VALUE, 7, NOW + 2 * HOUR, HOUR)
    assert longer.newer_than(RECORD)
    assert not RECORD.newer_than(longer)
    assert not RECORD.newer_than(RECORD)


def test_a_record_of_another_maker_reads_as_it_was_written() -> None:
    path = fixture("subdomain_gateway/QmVujd5Vb7moysJj8itnGufN7MEtPRCNHkKpNuA4onsRa3.ipns-record")
    name = IpnsName.parse(path.stem)
    read = parse(path.read_bytes(), name, NOW)
    assert read.value == "/ipfs/bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am"
    assert read.ttl_ns == 100 * 365.25 * 86400 * 10**9
    older = dict(fields(read.raw))
    value, validity, signature, key = (older[n] for n in (1, 4, 2, 7))
    assert isinstance(value, bytes)
    assert isinstance(validity, bytes)
    assert isinstance(signature, bytes)
    assert isinstance(key, bytes)
    # What an old reader checks: so what `make` writes for them is right as well.
    assert verify(key, value + validity + b"EOL", signature)
    mine = dict(fields(RECORD.raw))
    assert verify(KEY.public, mine[1] + mine[4] + b"EOL", mine[2])  # type: ignore[operator,arg-type]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"2027-01-15T08:00:00Z", NOW),
        (b"2027-01-15T08:00:00.5Z", NOW + 500_000_000),
        (b"2027-01-15T08:00:00.000000001Z", NOW + 1),
        (b"2027-01-15T09:30:00+01:30", NOW),
        (b"2027-01-15T06:00:00-02:00", NOW),
    ],
)
def test_times_are_read_to_the_nanosecond_in_any_zone(text: bytes, ns: int) -> None:
    assert record._time_ns(text) == ns


@pytest.mark.parametrize(
    "text", [b"", b"2027", b"2027-13-01T00:00:00Z", b"2027-01-15T08:00:00", b"\xff"]
)
def test_what_is_no_time_is_told(text: bytes) -> None:
    with pytest.raises(InvalidRecord):
        record._time_ns(text)


@given(st.binary(max_size=300))
def test_random_bytes_are_no_record_key_or_name_and_break_nothing(data: bytes) -> None:
    with pytest.raises(InvalidRecord):
        parse(data, NAME, NOW)
    with pytest.raises(InvalidRecord):
        parse(data + RECORD.raw[:50], NAME, NOW)
    with pytest.raises(InvalidKey):
        private_key(data)
    with pytest.raises(InvalidName):
        IpnsName.parse("k" + data.hex())


@given(st.dictionaries(st.integers(1, 2**20), st.one_of(st.integers(0, 2**64 - 1), st.binary())))
def test_a_message_reads_as_it_was_written(message: dict[int, int | bytes]) -> None:
    written = b"".join(
        uint_field(n, v) if isinstance(v, int) else bytes_field(n, v) for n, v in message.items()
    )
    if len(message) <= 64:
        assert dict(fields(written)) == message
    else:
        with pytest.raises(BlockError):
            list(fields(written))


@given(st.binary(max_size=40))
def test_random_messages_are_read_or_refused(data: bytes) -> None:
    try:
        found = list(fields(data))
    except BlockError:
        return
    assert len(found) <= 64


def test_keys_that_are_none_are_told() -> None:
    seed = KEY.secret
    for bad in (
        b"",
        uint_field(1, 1),
        uint_field(1, 1) + bytes_field(2, seed[:63]),
        uint_field(1, 1) + bytes_field(2, seed[:32] + bytes(32)),
        uint_field(1, 9) + bytes_field(2, seed),
        uint_field(1, 0) + bytes_field(2, seed),
        uint_field(1, 2) + bytes_field(2, seed),
        bytes(9000),
    ):
        with pytest.raises(InvalidKey):
            private_key(bad)
    old = uint_field(1, 1) + bytes_field(2, seed + seed[32:])
    assert private_key(old).public == KEY.public
    for kind, bits in (("rsa", 1024), ("rsa", 16384), ("dsa", 2048)):
        with pytest.raises(InvalidKey):
            generate(kind, bits, random.Random(1).randbytes)
    assert repr(KEY).count(KEY.secret.hex()) == 0


@pytest.mark.parametrize(("kind", "curve"), [(2, ec.SECP256K1()), (3, ec.SECP256R1())])
def test_records_of_keys_of_other_curves_verify(kind: int, curve: ec.EllipticCurve) -> None:
    key = ec.derive_private_key(0x1234567890ABCDEF, curve)
    encoding, form = (
        (serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
        if kind == 2
        else (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    public = uint_field(1, kind) + bytes_field(2, key.public_key().public_bytes(encoding, form))
    name = IpnsName.of_key(public)
    data = dict(fields(RECORD.raw))[9]
    assert isinstance(data, bytes)
    signature = key.sign(b"ipns-signature:" + data, ec.ECDSA(hashes.SHA256()))
    embedded = b"" if name.inlined else bytes_field(7, public)
    raw = embedded + bytes_field(8, signature) + bytes_field(9, data)
    assert parse(raw, name, NOW).value == VALUE
    with pytest.raises(InvalidRecord):
        parse(raw.replace(signature[-8:], bytes(8)), name, NOW)
    assert (name.inlined is not None) == (kind == 2)
