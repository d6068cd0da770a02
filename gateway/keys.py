"""Keys around sealed streams: who wraps what, and the cache of unwrapped key-encryption keys.

stream key -> (AES-KWP) version key -> [(AES-KWP) a second key: a client's or KMS's] -> (AES-KWP)
the account's key-encryption key (KEK) of a numbered generation -> capsule to the owner's public
key. Opening a capsule takes 0.1 ms and more, so KEKs stay in memory; a wrap takes 1.3 µs. See
docs/specs/sealing.md.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from chain.clock import Entropy
from chain.keys.capsule import EncryptionKey, InvalidCapsule, encapsulate, open_capsule
from chain.keys.keystore import Keystore, KeystoreError
from gateway.seal import KEY_BYTES

WRAPPED_BYTES = 40
# 4,096 accounts in use at a time in one gateway process: half a megabyte.
_CACHED_KEKS = 4096


class KeyMissing(Exception):
    """The owner's key is not held here, or a wrapped key does not open under it."""


class OtherSecondKey(KeyMissing):
    """A wrapped key opens under the KEK, and then not under the second key that was given."""


class OwnerKeys(Protocol):
    """Encryption keys that a gateway holds for its users (files, 0600)."""

    def create(self) -> bytes:
        """Make a key pair, keep it durably, return its public half (32 bytes)."""
        ...

    def load(self, public: bytes) -> EncryptionKey:
        """The pair of a public key. Raises KeyMissing."""
        ...


@dataclass(frozen=True, slots=True)
class AccountKeys:
    """Whose keys: the owner's public key, and the capsule of each KEK generation from 1 on."""

    owner: bytes
    capsules: tuple[bytes, ...]

    @property
    def generation(self) -> int:
        """The newest generation: what new versions are wrapped under."""
        return len(self.capsules)


def wrap(key: bytes, under: bytes) -> bytes:
    """AES-KWP (RFC 5649): 32 bytes -> 40, and 40 -> 48."""
    return aes_key_wrap_with_padding(under, key)


def unwrap(wrapped: bytes, under: bytes, size: int = KEY_BYTES) -> bytes:
    """The inverse of `wrap`. Raises KeyMissing."""
    try:
        key = aes_key_unwrap_with_padding(under, wrapped)
    except (InvalidUnwrap, ValueError):
        raise KeyMissing("a wrapped key does not open") from None
    if len(key) != size:
        raise KeyMissing("a wrapped key has another length")
    return key


class KeyRing:
    """Opens and makes keys for accounts; the only holder of unwrapped KEKs."""

    def __init__(self, owners: OwnerKeys, entropy: Entropy) -> None:
        self._owners = owners
        self._entropy = entropy
        self._keks: OrderedDict[bytes, bytes] = OrderedDict()

    def new_owner(self) -> AccountKeys:
        """Keys for a new account: an owner's pair held here and a first KEK."""
        owner = self._owners.create()
        return self.rotate(AccountKeys(owner, ()))

    def rotate(self, keys: AccountKeys) -> AccountKeys:
        """Add a KEK generation. What is sealed keeps its own until it is wrapped anew."""
        capsule, _ = encapsulate(keys.owner, self._entropy)
        return AccountKeys(keys.owner, (*keys.capsules, capsule))

    def new_key(self) -> bytes:
        """32 fresh random bytes."""
        return self._entropy(KEY_BYTES)

    def wrap_for(
        self, keys: AccountKeys, version_key: bytes, second: bytes | None = None
    ) -> tuple[int, bytes]:
        """(generation, wrapped) of a version key under the account's newest KEK.

        With a second key it takes both to open: 48 bytes, not 40.
        """
        inner = version_key if second is None else wrap(version_key, second)
        return keys.generation, wrap(inner, self._kek(keys, keys.generation))

    def unwrap_for(
        self, keys: AccountKeys, generation: int, wrapped: bytes, second: bytes | None = None
    ) -> bytes:
        """A version key. Raises KeyMissing; OtherSecondKey when only `second` is wrong."""
        kek = self._kek(keys, generation)
        if second is None:
            return unwrap(wrapped, kek)
        inner = unwrap(wrapped, kek, WRAPPED_BYTES)
        try:
            return unwrap(inner, second)
        except KeyMissing as wrong:
            raise OtherSecondKey(str(wrong)) from None

    def _kek(self, keys: AccountKeys, generation: int) -> bytes:
        if not 1 <= generation <= len(keys.capsules):
            raise KeyMissing(f"no generation {generation} of this account's key")
        capsule = keys.capsules[generation - 1]
        kek = self._keks.get(capsule)
        if kek is None:
            kek = open_capsule(capsule, self._owners.load(keys.owner))
            self._keks[capsule] = kek
            if len(self._keks) > _CACHED_KEKS:
                self._keks.popitem(last=False)
        else:
            self._keks.move_to_end(capsule)
        return kek


class FileOwnerKeys:
    """Owners' pairs in a keystore directory, each under `owner-PUBLIC`."""

    def __init__(self, keystore: Keystore, entropy: Entropy) -> None:
        self._keystore = keystore
        self._entropy = entropy

    def create(self) -> bytes:
        """See OwnerKeys."""
        pair = EncryptionKey.generate(self._entropy)
        self._keystore.create(f"owner-{pair.public.hex()}", pair.secret)
        return pair.public

    def load(self, public: bytes) -> EncryptionKey:
        """See OwnerKeys."""
        try:
            pair = EncryptionKey.from_secret(self._keystore.secret(f"owner-{public.hex()}"))
        except (KeystoreError, InvalidCapsule) as error:
            raise KeyMissing(f"the encryption key {public.hex()} cannot be used: {error}") from None
        if pair.public != public:
            raise KeyMissing(f"the encryption key {public.hex()} is another one")
        return pair
