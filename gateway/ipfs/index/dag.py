"""Walks that take every link of every block, whatever it is called: pins, collections, checks."""

import sys
from collections.abc import AsyncIterator, Callable, Iterable

from chain.cids import IDENTITY, Cid
from chain.clock import Clock
from gateway.ipfs.codecs.links import has_links, links
from gateway.ipfs.errors import BlockError
from gateway.ipfs.index.blocks import BlockIndex, File, Inline, Leaf
from gateway.ipfs.index.reader import BlockReader

Found = Inline | Leaf


def unbounded(index: BlockIndex, clock: Clock) -> BlockReader:
    """What a walk reads that must come to its end, however large the DAG is."""
    return BlockReader(index, clock, sys.maxsize)


async def below(
    reader: BlockReader,
    roots: Iterable[Cid],
    is_new: Callable[[Cid], bool],
    *,
    lenient: bool = False,
) -> AsyncIterator[tuple[Cid, Found | None]]:
    """The roots and all that they reach, depth first: each CID that `is_new` says yes to.

    None: this network does not hold it in the open. What is no node (by its codec) is not read.
    Raises BlockError (a block that is not what its codec says; `lenient`: it leads nowhere),
    StoreError. Memory: the links that wait, and what `is_new` keeps.
    """
    waiting = list(roots)
    waiting.reverse()
    while waiting:
        cid = waiting.pop()
        if not is_new(cid):
            continue
        named = reader.find(cid)
        found = named.block if isinstance(named, File) else named
        yield cid, found
        if found is not None and has_links(cid):
            block = await reader.bytes_of(found)
            try:
                waiting += reversed(links(cid, block))
            except BlockError:
                if not lenient:
                    raise


class Once:
    """Says yes to each block once, whatever its codec; identity CIDs with links too."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, cid: Cid) -> bool:
        name = cid.raw if cid.hash_code == IDENTITY else cid.multihash
        if name in self._seen:
            return False
        self._seen.add(name)
        return True
