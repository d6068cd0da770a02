"""CURVE keys: an account id gives its own, and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from chain.ids import AccountId
from chain.keys.curve import InvalidCurveKey, account_of, curve_public, curve_secret, is_odd
from chain.keys.identity import Identity


@given(st.binary(min_size=32, max_size=32))
@settings(max_examples=100, deadline=None)
def test_the_curve_pair_of_an_identity_belongs_together(seed: bytes) -> None:
    identity = Identity(seed)
    public = curve_public(identity.id)
    assert bindings.crypto_scalarmult_base(curve_secret(identity)) == public
    assert account_of(public, is_odd(identity.id)) == identity.id
    twin = account_of(public, not is_odd(identity.id))
    assert twin != identity.id
    assert curve_public(twin) == public


def test_a_known_pair() -> None:
    # RFC 8032 test 1's public key; u by libsodium
    account = AccountId(bytes.fromhex(
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    ))  # fmt: skip
    assert curve_public(account).hex() == (
        "d85e07ec22b0ad881537c2f44d662d1a143cf830c57aca4305d85c7a90f6b62e"
    )


@given(st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_an_account_or_a_clear_error(raw: bytes) -> None:
    for odd in (False, True):
        try:
            account = account_of(raw, odd)
        except InvalidCurveKey:
            continue
        assert curve_public(account) == raw


@pytest.mark.parametrize("u", [0, 1, 2**255 - 20, 2**255 - 19])
def test_points_of_small_order_belong_to_nobody(u: int) -> None:
    with pytest.raises(InvalidCurveKey):
        account_of(u.to_bytes(32, "little"), odd=False)


def test_an_account_that_is_no_point_is_refused() -> None:
    with pytest.raises(InvalidCurveKey):
        curve_public(AccountId(b"\x02" + bytes(31)))
    with pytest.raises(InvalidCurveKey):
        curve_public(AccountId(b"short"))
