"""Ed25519 identities (RFC 8032, by libsodium): sign 16 µs, verify 43 µs."""

from nacl import bindings
from nacl.exceptions import BadSignatureError

from chain.clock import Entropy
from chain.ids import AccountId

SEED_BYTES = 32
SIGNATURE_BYTES = 64


class Identity:
    """A key pair that speaks for an account, a miner, an edge or a gateway."""

    __slots__ = ("_secret", "id", "seed")

    def __init__(self, seed: bytes) -> None:
        assert len(seed) == SEED_BYTES
        public, self._secret = bindings.crypto_sign_seed_keypair(seed)
        self.seed = seed
        self.id = AccountId(public)

    @classmethod
    def generate(cls, entropy: Entropy) -> "Identity":
        """A fresh identity."""
        return cls(entropy(SEED_BYTES))

    def sign(self, domain: bytes, message: bytes) -> bytes:
        """A 64-byte signature over `domain` ‖ 00 ‖ `message`.

        The domain names what is signed (`cumulus/transaction/1`), so a signature made for one
        purpose is never valid for another.
        """
        signed = bindings.crypto_sign(domain + b"\x00" + message, self._secret)
        return signed[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"Identity({self.id.hex()})"


def verify(signer: AccountId, domain: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signer` signed `message` for `domain`."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + domain + b"\x00" + message, signer)
    except (BadSignatureError, ValueError):
        return False
    return True
