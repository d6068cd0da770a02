"""Small bodies, hashed side by side when the first of them needs its digest.

A small body's digest is needed when its fragments are stored. Bodies are stored in company
(miner/company.py), so by then others wait too, and nobody waits longer than without them.
"""

from chain.net.transport import Buffer
from gateway.hashing.blocks import Hash


class Whole:
    """A body that is there in one piece, for one hash. Its memory is kept until it is hashed."""

    __slots__ = ("_among", "data", "value")

    def __init__(self, among: "Waiting", data: Buffer) -> None:
        self.data = data
        self.value: bytes | None = None
        self._among = among
        among.add(self)

    def digest(self) -> bytes:
        """Hashes it now if need be, and those that wait."""
        if self.value is None:
            self._among.hash_all()
        assert self.value is not None
        return self.value

    def forget(self) -> None:
        """It is not needed any more."""
        self._among.remove(self)


class Waiting:
    """Those that are not hashed yet: fewer than there are lanes. For one thread."""

    def __init__(self, hashed: Hash) -> None:
        self._hash = hashed
        self._bodies: list[Whole] = []

    def add(self, body: Whole) -> None:
        """Wait; nobody does when all lanes are taken."""
        self._bodies.append(body)
        if len(self._bodies) == self._hash.widest:
            self.hash_all()

    def remove(self, body: Whole) -> None:
        """Let go of its memory."""
        if body.value is None:
            self._bodies.remove(body)

    def hash_all(self) -> None:
        """Side by side."""
        bodies, self._bodies = self._bodies, []
        digests = self._hash.whole([body.data for body in bodies])
        for body, digest in zip(bodies, digests, strict=True):
            body.data, body.value = b"", digest
