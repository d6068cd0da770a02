"""Transactions that wait for a block: bounded by number and bytes, first come first served."""

import hashlib
from collections.abc import Iterable

from chain.errors import Rejected

TRANSACTIONS_MAX = 10_000
BYTES_MAX = 64 << 20


class Mempool:
    """Raw transactions by digest, in the order in which they came."""

    def __init__(
        self, transactions_max: int = TRANSACTIONS_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        self._waiting: dict[bytes, bytes] = {}
        self._bytes = 0
        self._transactions_max = transactions_max
        self._bytes_max = bytes_max

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._waiting

    def waiting(self) -> list[bytes]:
        """Everything that waits, oldest first."""
        return list(self._waiting.values())

    def check_room(self, raw: bytes) -> None:
        """Raises Rejected("mempool_full")."""
        full = len(self._waiting) >= self._transactions_max
        if full or self._bytes + len(raw) > self._bytes_max:
            raise Rejected("mempool_full", f"{len(self._waiting)} transactions wait: try later")

    def add(self, raw: bytes) -> bytes:
        """Let it wait; its digest."""
        digest = hashlib.sha256(raw).digest()
        assert digest not in self._waiting
        self._waiting[digest] = raw
        self._bytes += len(raw)
        return digest

    def remove(self, digests: Iterable[bytes]) -> None:
        """These are in a block, or will never be."""
        for digest in digests:
            raw = self._waiting.pop(digest, None)
            self._bytes -= len(raw or b"")
