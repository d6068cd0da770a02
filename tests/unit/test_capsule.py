"""Key capsules: only the owner's key opens them, and no byte of one may change."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from chain.keys.capsule import (
    CAPSULE_BYTES,
    EncryptionKey,
    InvalidCapsule,
    check,
    check_public,
    encapsulate,
    open_capsule,
)

OWNER = EncryptionKey.generate(random.Random(1).randbytes)
OTHER = EncryptionKey.generate(random.Random(2).randbytes)
CAPSULE, KEY = encapsulate(OWNER.public, random.Random(3).randbytes)


def test_the_owner_opens_what_was_put_in() -> None:
    assert len(CAPSULE) == CAPSULE_BYTES
    assert open_capsule(CAPSULE, OWNER) == KEY
    assert len(KEY) == 32


def test_the_format_does_not_change() -> None:
    """Written down once: capsules outlive programs."""
    assert KEY.hex() == "72a729fb392a72d9eb885149e7c8d9e9b45c03990b8ce0a13d826e416cb0d3ba"
    assert CAPSULE.hex()[:32] == "9ed8fd9da8cd8d4b001f57020689b583"


def test_another_key_opens_to_something_else() -> None:
    assert open_capsule(CAPSULE, OTHER) != KEY


def test_every_capsule_has_a_key_of_its_own() -> None:
    entropy = random.Random(4).randbytes
    made = [encapsulate(OWNER.public, entropy) for _ in range(10)]
    assert len({key for _, key in made}) == len({capsule for capsule, _ in made}) == 10


@given(st.integers(0, CAPSULE_BYTES * 8 - 1))
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_is_refused(bit: int) -> None:
    broken = bytearray(CAPSULE)
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidCapsule):
        check(bytes(broken))


@given(st.binary(max_size=128) | st.binary(min_size=CAPSULE_BYTES, max_size=CAPSULE_BYTES))
@settings(max_examples=60, deadline=None)
def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidCapsule):
        open_capsule(raw, OWNER)


def test_points_outside_the_prime_order_subgroup_are_refused() -> None:
    order_eight = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
    mixed = bindings.crypto_core_ed25519_add(OWNER.public, order_eight)
    neutral = b"\x01" + bytes(31)
    for point in (order_eight, mixed, neutral, bytes(32), b"\xff" * 32, b"short"):
        with pytest.raises(InvalidCapsule):
            check_public(point)
        with pytest.raises(InvalidCapsule):
            encapsulate(point, random.Random(5).randbytes)


def test_stored_secrets_must_be_reduced_scalars() -> None:
    assert EncryptionKey.from_secret(OWNER.secret) == OWNER
    for secret in (bytes(32), b"\xff" * 32, b"\x01" * 31):
        with pytest.raises(InvalidCapsule):
            EncryptionKey.from_secret(secret)


def test_a_key_does_not_print_its_secret() -> None:
    assert OWNER.secret.hex() not in repr(OWNER)
