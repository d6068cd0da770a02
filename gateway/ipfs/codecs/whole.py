"""Whether the blocks of some CARs make up whole DAGs. Pure."""

from collections.abc import Iterable

from chain.cids import IDENTITY, Cid
from gateway.ipfs.codecs.links import links


class Whole:
    """Blocks by what they link to; holds the links, not the blocks."""

    def __init__(self) -> None:
        self._links: dict[bytes, list[Cid]] = {}

    def add(self, cid: Cid, block: bytes) -> None:
        """Note a block. Raises BlockError when it is not what its codec says."""
        self._links[cid.multihash] = links(cid, block)

    def missing(self, roots: Iterable[Cid]) -> Cid | None:
        """The first block that the roots reach, depth first, and that is not here."""
        seen: set[bytes] = set()
        waiting = list(roots)
        waiting.reverse()
        while waiting:
            cid = waiting.pop()
            name = cid.multihash
            if name in seen:
                continue
            seen.add(name)
            below = self._links.get(name)
            if below is None:
                if cid.hash_code != IDENTITY:
                    return cid
                below = links(cid, cid.digest)
            waiting += reversed(below)
        return None
