"""libp2p keys: what a name is the hash of and what signs a record.

https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md. A key is serialised as
{1: type, 2: bytes}. Ed25519 (RFC 8032) and RSA are made here; secp256k1 and P-256 are verified.
"""

from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from nacl import bindings
from nacl.exceptions import CryptoError

from chain.clock import Entropy
from gateway.ipfs.codecs.protobuf import bytes_field, fields, uint_field
from gateway.ipfs.errors import BlockError
from gateway.ipfs.ipns.name import IpnsName

RSA, ED25519, SECP256K1, ECDSA = 0, 1, 2, 3
RSA_BITS_LEAST, RSA_BITS_MAX = 2048, 8192
SERIALISED_MAX = 8 << 10
_SHA256 = hashes.SHA256()


class InvalidKey(ValueError):
    """The bytes are no key that is understood."""


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the serialised key signed this. Raises InvalidKey."""
    kind, data = _parse(public_key)
    try:
        match kind:
            case 1:
                return _verify_ed25519(data, message, signature)
            case 0:
                key = serialization.load_der_public_key(data)
                if not isinstance(key, rsa.RSAPublicKey):
                    raise InvalidKey("not an RSA key")
                if not RSA_BITS_LEAST <= key.key_size <= RSA_BITS_MAX:
                    raise InvalidKey(f"an RSA key of {key.key_size} bits")
                key.verify(signature, message, padding.PKCS1v15(), _SHA256)
            case 2:
                curve = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), data)
                curve.verify(signature, message, ec.ECDSA(_SHA256))
            case _:
                point = serialization.load_der_public_key(data)
                if not isinstance(point, ec.EllipticCurvePublicKey):
                    raise InvalidKey("not an ECDSA key")
                point.verify(signature, message, ec.ECDSA(_SHA256))
    except InvalidSignature:
        return False
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidKey(str(error)[:200]) from None
    return True


def _verify_ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    if len(public) != 32 or len(signature) != 64:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except CryptoError:
        return False
    return True


class PrivateKey(Protocol):
    """A key that signs."""

    @property
    def public(self) -> bytes:
        """The serialised public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """A signature."""
        ...

    def serialised(self) -> bytes:
        """The serialised private key: a secret."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Ed25519Key:
    """64 bytes: seed and public key."""

    secret: bytes

    @classmethod
    def of_seed(cls, seed: bytes) -> "Ed25519Key":
        """The key of 32 bytes of chance."""
        _, secret = bindings.crypto_sign_seed_keypair(seed)
        return cls(secret)

    @property
    def public(self) -> bytes:
        return uint_field(1, ED25519) + bytes_field(2, self.secret[32:])

    def sign(self, message: bytes) -> bytes:
        signed: bytes = bindings.crypto_sign(message, self.secret)
        return signed[:64]

    def serialised(self) -> bytes:
        return uint_field(1, ED25519) + bytes_field(2, self.secret)


@dataclass(frozen=True, slots=True, repr=False)
class RsaKey:
    """RSA of 2,048 bits or more, PKCS #1 v1.5 with SHA-256."""

    key: rsa.RSAPrivateKey

    @property
    def public(self) -> bytes:
        der = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return uint_field(1, RSA) + bytes_field(2, der)

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message, padding.PKCS1v15(), _SHA256)

    def serialised(self) -> bytes:
        der = self.key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        return uint_field(1, RSA) + bytes_field(2, der)


def generate(kind: str, bits: int, entropy: Entropy) -> PrivateKey:
    """A new key, `ed25519` or `rsa` (whose chance is OpenSSL's own). Raises InvalidKey."""
    if kind == "ed25519":
        return Ed25519Key.of_seed(entropy(32))
    if kind != "rsa":
        raise InvalidKey(f"key type {kind[:40]!r}: ed25519 and rsa are made")
    if not RSA_BITS_LEAST <= bits <= RSA_BITS_MAX:
        raise InvalidKey(f"an RSA key has {RSA_BITS_LEAST} to {RSA_BITS_MAX} bits")
    return RsaKey(rsa.generate_private_key(65537, bits))


def private_key(serialised: bytes) -> PrivateKey:
    """Read a private key, as `ipfs key export` writes it. Raises InvalidKey."""
    kind, data = _parse(serialised)
    if kind == ED25519:
        if len(data) == 96 and data[32:64] == data[64:]:  # an old form: public key twice
            data = data[:64]
        if len(data) != 64 or Ed25519Key.of_seed(data[:32]).secret != data:
            raise InvalidKey("not an Ed25519 key")
        return Ed25519Key(data)
    if kind != RSA:
        raise InvalidKey("only Ed25519 and RSA keys are kept")
    try:
        key = serialization.load_der_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidKey("not an RSA key") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InvalidKey("not an RSA key")
    if not RSA_BITS_LEAST <= key.key_size <= RSA_BITS_MAX:
        raise InvalidKey(f"an RSA key has {RSA_BITS_LEAST} to {RSA_BITS_MAX} bits")
    return RsaKey(key)


def name_of(key: PrivateKey) -> IpnsName:
    """The name that a key speaks for."""
    return IpnsName.of_key(key.public)


def name_of_identity(public: bytes) -> IpnsName:
    """The name of an Ed25519 public key of 32 bytes."""
    return IpnsName.of_key(uint_field(1, ED25519) + bytes_field(2, public))


def _parse(serialised: bytes) -> tuple[int, bytes]:
    if len(serialised) > SERIALISED_MAX:
        raise InvalidKey("a key is too long")
    kind, data = RSA, b""
    try:
        for number, value in fields(serialised):
            if number == 1 and isinstance(value, int):
                kind = value
            elif number == 2 and isinstance(value, bytes):
                data = value
    except BlockError as error:
        raise InvalidKey(str(error)) from None
    if kind > ECDSA or not data:
        raise InvalidKey("a key of an unknown type, or an empty one")
    return kind, data
