"""JSON Web Tokens and the keys that sign them: bytes from outside in, checked claims out. Pure.

RS256 and ES256 alone, by `cryptography`; a token does not choose how it is checked: its key's type
does. RFC 7515 (JWS), 7517 (JWK), 7519 (JWT).
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

TOKEN_MAX = 20_000  # characters; AWS's limit
KEYS_MAX = 64  # of one issuer
RSA_BITS = range(2048, 8193)
SKEW_SECONDS = 60  # of an issuer's clock, for tokens from the future
_BASE64 = re.compile(r"[A-Za-z0-9_-]*")
_HALF = 32  # bytes of r and of s


class BadToken(ValueError):
    """Not a token of this issuer that is good now; the message says why."""


class ExpiredToken(BadToken):
    """It was good once."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key of an issuer; `id` is "" if it says none."""

    id: str
    public: RSAPublicKey | EllipticCurvePublicKey

    @property
    def algorithm(self) -> str:
        return "RS256" if isinstance(self.public, RSAPublicKey) else "ES256"


@dataclass(frozen=True, slots=True)
class Token:
    """A parsed token: nothing of it is believed before `verify`."""

    algorithm: str
    key_id: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> str:
        """Who it says has signed it, "" if nobody."""
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else ""

    @property
    def audiences(self) -> list[str]:
        """Whom it is for."""
        given = self.claims.get("aud")
        listed = given if isinstance(given, list) else [given]
        return [one for one in listed if isinstance(one, str)]


def parse_token(text: str) -> Token:
    """Read the compact form. Raises BadToken."""
    parts = text.split(".")
    if len(text) > TOKEN_MAX or len(parts) != 3:
        raise BadToken("not a JSON Web Token")
    header, claims = _object(parts[0]), _object(parts[1])
    algorithm, key_id = header.get("alg"), header.get("kid", "")
    if algorithm not in ("RS256", "ES256") or not isinstance(key_id, str):
        raise BadToken("signed neither with RS256 nor with ES256")
    if "crit" in header:
        raise BadToken("has critical headers that are not understood")
    signed = f"{parts[0]}.{parts[1]}".encode("ascii")
    return Token(algorithm, key_id, claims, signed, _bytes(parts[2]))


def parse_keys(document: bytes) -> list[Key]:
    """The usable keys of a JWK set; others are passed over. Raises BadToken."""
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError):
        raise BadToken("the issuer's keys are not JSON") from None
    given = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(given, list) or len(given) > KEYS_MAX:
        raise BadToken("the issuer's keys are not a JWK set")
    found = [_key(one) for one in given if isinstance(one, dict)]
    return [key for key in found if key is not None]


def verify(token: Token, keys: list[Key], now: float) -> None:
    """Check signature and times. Raises BadToken, ExpiredToken."""
    fitting = [
        key
        for key in keys
        if key.algorithm == token.algorithm and (key.id == token.key_id or not token.key_id)
    ]
    if not any(_signed_by(token, key.public) for key in fitting):
        raise BadToken("not signed by a key of its issuer")
    expires = _time(token.claims, "exp")
    if expires is None:
        raise BadToken("says not until when it is good")
    if now >= expires:
        raise ExpiredToken("has expired")
    for name in ("nbf", "iat"):
        begins = _time(token.claims, name)
        if begins is not None and begins > now + SKEW_SECONDS:
            raise BadToken("is not good yet")


def _signed_by(token: Token, public: RSAPublicKey | EllipticCurvePublicKey) -> bool:
    try:
        if isinstance(public, RSAPublicKey):
            public.verify(token.signature, token.signed, PKCS1v15(), SHA256())
            return True
        if len(token.signature) != 2 * _HALF:
            return False
        r = int.from_bytes(token.signature[:_HALF], "big")
        s = int.from_bytes(token.signature[_HALF:], "big")
        public.verify(encode_dss_signature(r, s), token.signed, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken(f"{name} is not a time")
    if not 0 <= value < 1 << 48:  # (also not NaN)
        raise BadToken(f"{name} is not a time")
    return float(value)


def _key(given: dict[str, Any]) -> Key | None:
    """None for a key that is of another kind, or too weak, or not for signatures."""
    key_id = given.get("kid", "")
    if given.get("use", "sig") != "sig" or not isinstance(key_id, str):
        return None
    try:
        match given.get("kty"):
            case "RSA":
                rsa = RSAPublicNumbers(_integer(given, "e"), _integer(given, "n")).public_key()
                return Key(key_id, rsa) if rsa.key_size in RSA_BITS else None
            case "EC" if given.get("crv") == "P-256":
                x, y = _integer(given, "x"), _integer(given, "y")
                return Key(key_id, EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key())
    except (ValueError, UnsupportedAlgorithm):
        pass
    return None


def _integer(given: dict[str, Any], name: str) -> int:
    text = given.get(name)
    if not isinstance(text, str) or len(text) > 2048:
        raise BadToken(f"{name} is not a number")
    return int.from_bytes(_bytes(text), "big")


def _bytes(text: str) -> bytes:
    """base64url without padding, in its one spelling."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        raise BadToken("not base64url") from None
    if not _BASE64.fullmatch(text) or urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise BadToken("not base64url")
    return raw


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(_bytes(text))
    except BadToken:
        raise
    except (ValueError, RecursionError):
        raise BadToken("not JSON") from None
    if not isinstance(value, dict):
        raise BadToken("not a JSON object")
    return value
