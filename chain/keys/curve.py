"""CURVE (X25519) keys from Ed25519 identities, so that an account id is its own certificate.

libsodium maps an Ed25519 key pair to an X25519 pair (RFC 7748 section 4.1: u = (1+y)/(1-y)). The
map forgets the sign of x: A and -A share one u. Whoever can use u's secret knows the scalars of
both, so telling the two apart needs a stated bit, not a proof (docs/adr/011-curve-keys.md).
"""

from nacl import bindings
from nacl.exceptions import CryptoError

from chain.ids import ID_BYTES, AccountId
from chain.keys.identity import Identity

P = 2**255 - 19


class InvalidCurveKey(ValueError):
    """No CURVE key of an Ed25519 identity."""


def curve_secret(identity: Identity) -> bytes:
    """The identity's X25519 secret (32 bytes)."""
    _, secret = bindings.crypto_sign_seed_keypair(identity.seed)
    return bindings.crypto_sign_ed25519_sk_to_curve25519(secret)


def curve_public(account: AccountId) -> bytes:
    """The X25519 public key (32 bytes) of an account. Raises InvalidCurveKey for no valid point."""
    try:
        return bindings.crypto_sign_ed25519_pk_to_curve25519(account)
    except (CryptoError, ValueError, TypeError):
        raise InvalidCurveKey("the account id is no point of the curve") from None


def is_odd(account: AccountId) -> bool:
    """The sign bit of the account's point: which of A and -A it is."""
    return bool(account[ID_BYTES - 1] & 0x80)


def account_of(public: bytes, odd: bool) -> AccountId:
    """The account whose CURVE key is `public`: y = (u-1)/(u+1). Raises InvalidCurveKey."""
    if len(public) != ID_BYTES:
        raise InvalidCurveKey(f"a CURVE key has {ID_BYTES} bytes")
    u = int.from_bytes(public, "little") % P
    y = (u - 1) * pow(u + 1, P - 2, P) % P
    account = AccountId((y | (int(odd) << 255)).to_bytes(ID_BYTES, "little"))
    if curve_public(account) != public:
        raise InvalidCurveKey("the CURVE key belongs to no identity")
    return account
