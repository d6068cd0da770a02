"""Key capsules: a key that only the owner of an encryption key can take out again.

Umbral's key encapsulation (Nuñez, 2018) over the prime-order subgroup of edwards25519; the same
capsule can later be re-encrypted for another key by proxies that learn nothing. Every scalar goes
through libsodium's scalar functions, which run in constant time. See docs/specs/capsule.md.
"""

import hashlib
import hmac
from dataclasses import dataclass

from nacl import bindings
from nacl.exceptions import CryptoError

from chain.clock import Entropy

CAPSULE_BYTES = 96
KEY_BYTES = 32
PUBLIC_BYTES = 32
SECRET_BYTES = 32

_HASH_TO_SCALAR = b"cumulus capsule1"  # BLAKE2b personalisation: at most 16 bytes
_KEY_DERIVATION = b"cumulus kem key1"
_ZERO = bytes(32)


class InvalidCapsule(ValueError):
    """Not a capsule, not a key of this group, or not made by who knows its secrets."""


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """An owner's encryption key pair: a scalar and its point. Never a signing key."""

    secret: bytes
    public: bytes

    @classmethod
    def generate(cls, entropy: Entropy) -> "EncryptionKey":
        """A fresh pair from 64 bytes of chance."""
        return cls.from_secret(_random_scalar(entropy))

    @classmethod
    def from_secret(cls, secret: bytes) -> "EncryptionKey":
        """The pair of a stored secret (32 bytes, reduced, not zero). Raises InvalidCapsule."""
        if len(secret) != SECRET_BYTES or secret == _ZERO:
            raise InvalidCapsule("an encryption key has 32 bytes and is not zero")
        if _reduce(secret + bytes(32)) != secret:
            raise InvalidCapsule("the scalar is not reduced")
        return cls(secret, _base(secret))

    def __repr__(self) -> str:
        return f"EncryptionKey({self.public.hex()})"


def encapsulate(public: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
    """Return (capsule, key): 96 bytes for anyone to keep, 32 bytes to use and forget.

    Takes 128 bytes of `entropy`. Raises InvalidCapsule if `public` is not a point of the group.
    """
    check_public(public)
    r, u = _random_scalar(entropy), _random_scalar(entropy)
    first, second = _base(r), _base(u)
    # s = u + r·H(E, V) proves that E and V were made together (a Schnorr-like tag).
    tag = bindings.crypto_core_ed25519_scalar_add(
        u, bindings.crypto_core_ed25519_scalar_mul(r, _hash_points(first, second))
    )
    shared = _multiply(bindings.crypto_core_ed25519_scalar_add(r, u), public)
    return first + second + tag, _derive(shared)


def check(capsule: bytes) -> None:
    """Raise InvalidCapsule unless s·G = V + H(E, V)·E with E, V in the prime-order subgroup."""
    if len(capsule) != CAPSULE_BYTES:
        raise InvalidCapsule(f"a capsule has {CAPSULE_BYTES} bytes, not {len(capsule)}")
    first, second, tag = capsule[:32], capsule[32:64], capsule[64:]
    check_public(first)
    check_public(second)
    if _reduce(tag + bytes(32)) != tag or tag == _ZERO:
        raise InvalidCapsule("the tag is not a reduced scalar")
    expected = _add(second, _multiply(_hash_points(first, second), first))
    if not hmac.compare_digest(_base(tag), expected):
        raise InvalidCapsule("the capsule's tag is wrong")


def open_capsule(capsule: bytes, owner: EncryptionKey) -> bytes:
    """Return the 32-byte key that `encapsulate` returned. Raises InvalidCapsule.

    A capsule made for another owner opens too, to a key that fits nothing.
    """
    check(capsule)
    return _derive(_multiply(owner.secret, _add(capsule[:32], capsule[32:64])))


def check_public(point: bytes) -> None:
    """Raise InvalidCapsule unless `point` is canonical and in the prime-order subgroup."""
    if len(point) != PUBLIC_BYTES or not bindings.crypto_core_ed25519_is_valid_point(point):
        raise InvalidCapsule("not a point of the prime-order subgroup")


def _random_scalar(entropy: Entropy) -> bytes:
    while True:  # a zero comes once in 2**252 draws; 64 bytes leave no bias
        scalar = _reduce(entropy(64))
        if scalar != _ZERO:
            return scalar


def _hash_points(*points: bytes) -> bytes:
    digest = hashlib.blake2b(b"".join(points), digest_size=64, person=_HASH_TO_SCALAR)
    return _reduce(digest.digest())


def _derive(point: bytes) -> bytes:
    return hashlib.blake2b(point, digest_size=KEY_BYTES, person=_KEY_DERIVATION).digest()


def _reduce(wide: bytes) -> bytes:
    reduced: bytes = bindings.crypto_core_ed25519_scalar_reduce(wide)
    return reduced


def _base(scalar: bytes) -> bytes:
    try:
        point: bytes = bindings.crypto_scalarmult_ed25519_base_noclamp(scalar)
    except (CryptoError, ValueError) as error:
        raise InvalidCapsule("a scalar is zero") from error
    return point


def _multiply(scalar: bytes, point: bytes) -> bytes:
    try:
        product: bytes = bindings.crypto_scalarmult_ed25519_noclamp(scalar, point)
    except (CryptoError, ValueError) as error:
        raise InvalidCapsule("a product is the neutral element") from error
    return product


def _add(left: bytes, right: bytes) -> bytes:
    try:
        total: bytes = bindings.crypto_core_ed25519_add(left, right)
    except (CryptoError, ValueError) as error:
        raise InvalidCapsule("not points of the curve") from error
    return total
