"""Bytes of leaves that are asked for again and again, opened.

Only bytes that were sent to somebody are here, and only as long as a look-up finds that the leaf is
public are they asked for (blocks.py). A leaf that is read once costs nothing: it is kept when it
comes a second time.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing

from chain.net.transport import Buffer
from gateway.ipfs.index.blocks import Leaf

BYTES_MAX = 32 << 20  # of one process
_SEEN_MAX = 1024  # leaves that came once and are remembered by name
Key = tuple[bytes, int, int]


class RecentLeaves:
    """The leaves that were asked for last, of those that were asked for twice."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._size = 0
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._seen: OrderedDict[Key, None] = OrderedDict()

    def get(self, leaf: Leaf) -> bytes | None:
        """The leaf's bytes, if they are here."""
        key = _key(leaf)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def through(
        self, leaf: Leaf, body: AsyncGenerator[Buffer, None]
    ) -> AsyncGenerator[Buffer, None]:
        """The same bytes, the whole leaf's; they are kept if it was asked for before."""
        key = _key(leaf)
        if key in self._seen:
            del self._seen[key]
            return self._keeping(key, leaf.end - leaf.start, body)
        self._seen[key] = None
        if len(self._seen) > _SEEN_MAX:
            self._seen.popitem(last=False)
        return body

    async def _keeping(
        self, key: Key, size: int, body: AsyncGenerator[Buffer, None]
    ) -> AsyncGenerator[Buffer, None]:
        pieces: list[bytes] = []
        left = size
        async with aclosing(body):
            async for part in body:
                pieces.append(bytes(part))
                left -= len(part)
                if not left:  # whoever reads may stop here
                    self._keep(key, b"".join(pieces))
                yield part

    def _keep(self, key: Key, whole: bytes) -> None:
        if key in self._kept:
            return
        self._kept[key] = whole
        self._size += len(whole)
        while self._size > self._bytes_max:
            self._size -= len(self._kept.popitem(last=False)[1])


def _key(leaf: Leaf) -> Key:
    return leaf.version.uid, leaf.start, leaf.end
