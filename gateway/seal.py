"""Sealing: AES-256-GCM over 1 MiB chunks, a fresh key for every stream. Pure.

Rule 1: a key seals one stream, once. The nonce may therefore count from zero.
Rule 2: the nonce of chunk i says i and whether it is the last one (the STREAM construction of
Hoang, Reyhanitabar, Rogaway and Vizár, 2015), so that chunks cannot be reordered, moved, dropped or
cut off.
Rule 3: GCM does not commit to its key, so a manifest holds a commitment to it.
See docs/specs/sealing.md.
"""

import hmac
from collections.abc import Sequence

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from chain.net.transport import Buffer

CHUNK = 1 << 20
TAG = 16
KEY_BYTES = 32
# The format's bound for a segment; a writer cuts where its memory budget says (segments.py).
SEGMENT_CHUNKS_MAX = 32
# 11 bytes count chunks, but no stream has more than 2**32 of them (4 PiB).
CHUNKS_MAX = 1 << 32
_COMMITMENT = "cumulus 2026 stream key commitment 1"


class SealBroken(Exception):
    """A chunk, its place, its tag or its key is not what was sealed."""


def nonce(index: int, *, last: bool) -> bytes:
    """Chunk number (11 bytes, big-endian) ‖ 01 for the last chunk, else 00."""
    assert 0 <= index < CHUNKS_MAX
    return index.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def commitment(key: bytes) -> bytes:
    """32 bytes that fit this key only: BLAKE3's key derivation mode."""
    digest: bytes = blake3(key, derive_key_context=_COMMITMENT).digest()
    return digest


def check_commitment(key: bytes, committed: bytes) -> None:
    """Raise SealBroken unless `committed` is this key's commitment."""
    if not hmac.compare_digest(commitment(key), committed):
        raise SealBroken("the key is not the one that the manifest commits to")


def chunk_count(size: int) -> int:
    """Chunks of `size` bytes of plaintext: at least one, so that emptiness is sealed too."""
    return max(1, -(-size // CHUNK))


def sealed_size(size: int) -> int:
    """Bytes of the sealed form of `size` bytes of plaintext."""
    return size + TAG * chunk_count(size)


def plain_size(sealed: int) -> int:
    """The inverse of `sealed_size`. Raises SealBroken if no plaintext has this sealed size."""
    chunks = max(1, -(-sealed // (CHUNK + TAG)))
    size = sealed - TAG * chunks
    if size < 0 or sealed_size(size) != sealed:
        raise SealBroken(f"{sealed} is not the size of a sealed stream")
    return size


class Sealer:
    """Seals one stream's chunks in order, each straight into its place in a segment."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._cipher = AESGCM(key)
        self._index = 0
        self._done = False

    def seal(self, plain: Buffer, out: memoryview, *, last: bool) -> None:
        """Write ciphertext ‖ tag of one chunk to the first len(plain) + 16 bytes of `out`."""
        assert not self._done
        assert len(plain) == CHUNK or (last and len(plain) <= CHUNK)
        place = out[: len(plain) + TAG]
        self._cipher.encrypt_into(nonce(self._index, last=last), plain, None, place)
        self._index += 1
        self._done = last


class SegmentSealer:
    """Fills one segment: chunk i at i MiB, all tags together behind the last chunk's ciphertext."""

    def __init__(self, sealer: Sealer, out: memoryview) -> None:
        self._sealer = sealer
        self._out = out
        self._end = 0
        self._tags = bytearray()

    def add(self, plain: Buffer, *, last: bool = False) -> int:
        """Seal the next chunk; where its ciphertext ends. Needs 16 bytes of room behind it."""
        size = len(plain)
        assert self._end % CHUNK == 0
        assert len(self._tags) < SEGMENT_CHUNKS_MAX * TAG
        self._sealer.seal(plain, self._out[self._end :], last=last)
        self._end += size
        # The tag fell where the next chunk begins, or where the tags will stand.
        self._tags += self._out[self._end : self._end + TAG]
        return self._end

    def finish(self) -> int:
        """Put the tags in place; return the segment's length."""
        length = self._end + len(self._tags)
        self._out[self._end : length] = self._tags
        return length


class Opener:
    """Opens any chunks of one stream of `size` plaintext bytes."""

    def __init__(self, key: bytes, committed: bytes, size: int) -> None:
        check_commitment(key, committed)
        self._key = AES(key)
        self._chunks = chunk_count(size)
        self._size = size

    def chunk_bytes(self, index: int) -> int:
        """Plaintext bytes of chunk `index`."""
        assert 0 <= index < self._chunks
        return min(CHUNK, self._size - index * CHUNK)

    def open(self, index: int, cipher: Buffer, tag: Buffer, out: memoryview) -> None:
        """Open chunk `index` into `out` (as long as `cipher`). Raises SealBroken.

        After SealBroken the caller must not use what stands in `out`.
        """
        self.open_pieces(index, (cipher,), tag, out)

    def open_pieces(
        self, index: int, cipher: Sequence[Buffer], tag: Buffer, out: memoryview
    ) -> None:
        """As `open`; the ciphertext is what the pieces make one after the other.

        `AESGCM.decrypt_into` wants one buffer with the tag behind the ciphertext, where a segment
        has the next chunk or shard; the cipher interface saves that copy.
        """
        size = sum(map(len, cipher))
        if not 0 <= index < self._chunks or size != self.chunk_bytes(index):
            raise SealBroken(f"chunk {index} has another length than its stream says")
        if len(tag) != TAG:
            raise SealBroken("a tag has 16 bytes")
        mode = GCM(nonce(index, last=index == self._chunks - 1), bytes(tag))
        context = Cipher(self._key, mode).decryptor()
        at = 0
        for piece in cipher:
            context.update_into(piece, out[at : at + len(piece)])
            at += len(piece)
        try:
            context.finalize()
        except InvalidTag:
            raise SealBroken(f"chunk {index} is not what was sealed") from None


def seal_small(key: bytes, plain: Buffer) -> bytes:
    """A whole stream of at most one chunk: ciphertext ‖ tag."""
    assert len(plain) <= CHUNK
    return AESGCM(key).encrypt(nonce(0, last=True), plain, None)


def open_small(key: bytes, committed: bytes, sealed: Buffer) -> bytes:
    """The inverse of `seal_small`. Raises SealBroken."""
    check_commitment(key, committed)
    if len(sealed) < TAG:
        raise SealBroken("shorter than a tag")
    try:
        return AESGCM(key).decrypt(nonce(0, last=True), sealed, None)
    except InvalidTag:
        raise SealBroken("the sealed bytes were changed") from None


def cut(size: int, segment_chunks: int) -> Sequence[int]:
    """Plaintext bytes of each segment of a stream of `size` bytes."""
    assert 1 <= segment_chunks <= SEGMENT_CHUNKS_MAX
    step = segment_chunks * CHUNK
    whole, rest = divmod(size, step)
    return [step] * whole + ([rest] if rest or not whole else [])
