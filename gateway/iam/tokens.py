"""Session tokens: a whole session, sealed. Pure. See docs/specs/session-token.md."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chain.clock import Entropy

TOKEN_MAX = 16 << 10  # characters
_FORMAT = b"\x01"
_SALT = 24
_NONCE = bytes(12)  # every token has a key of its own
_CONTEXT = "cumulus 2026 session token 1"


class Session(msgspec.Struct, frozen=True, array_like=True):
    """What STS promised: who may act with this access key until when, and what limits it.

    Fields are only added at the end.
    """

    access_key: str
    secret: str
    account: str
    kind: str  # account, user, role
    name: str  # of the user or role, lower-case
    id: str  # of the user or role: one that comes back under the name is another
    session: str  # its name; of a role's
    issued: int  # seconds since 1970
    expires: int
    policy: bytes = b""  # inline session policy
    policies: tuple[str, ...] = ()  # ARNs of managed session policies
    tags: dict[str, str] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Session({self.access_key} of {self.account} {self.kind} {self.name})"


class BrokenToken(ValueError):
    """Not a token that was sealed under this key."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Session).decode


def seal(session: Session, key: bytes, entropy: Entropy) -> str:
    """format ‖ salt ‖ AES-256-GCM of the session under a key for this salt, as base64url."""
    salt = entropy(_SALT)
    sealed = AESGCM(_key(key, salt)).encrypt(_NONCE, _encode(session), _FORMAT)
    return urlsafe_b64encode(_FORMAT + salt + sealed).decode()


def unseal(token: str, key: bytes) -> Session:
    """The inverse of `seal`; whether it has expired is the caller's to see. Raises BrokenToken."""
    if len(token) > TOKEN_MAX or not token.isascii():
        raise BrokenToken("not a token")
    try:
        raw = urlsafe_b64decode(token)
    except (Base64Error, ValueError):
        raise BrokenToken("not base64") from None
    if raw[:1] != _FORMAT or len(raw) <= 1 + _SALT or urlsafe_b64encode(raw).decode() != token:
        raise BrokenToken("not a token")
    salt, sealed = raw[1 : 1 + _SALT], raw[1 + _SALT :]
    try:
        return _decode(AESGCM(_key(key, salt)).decrypt(_NONCE, sealed, _FORMAT))
    except (InvalidTag, msgspec.MsgspecError, ValueError):
        raise BrokenToken("not what was sealed") from None


def _key(key: bytes, salt: bytes) -> bytes:
    derived: bytes = blake3(key + salt, derive_key_context=_CONTEXT).digest()
    return derived
