"""Single blocks from trustless gateways, every one verified."""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from chain.cids import Cid
from chain.net.transport import Buffer

BYTES_KEPT = 32 << 20  # of one process: what was asked for last


class FetchFailed(Exception):
    """A gateway does not have it, does not answer, or answers what is not it."""


class Source(Protocol):
    """A trustless gateway (https://specs.ipfs.tech/http-gateways/trustless-gateway/)."""

    def car(self, cid: Cid) -> AsyncGenerator[Buffer, None]:
        """A CAR of all that the CID reaches, unchecked. Raises FetchFailed."""
        ...

    async def block(self, cid: Cid) -> bytes:
        """One block, unchecked, at most 2 MiB. Raises FetchFailed."""
        ...


async def verified_block(sources: Sequence[Source], cid: Cid) -> bytes:
    """A block from the first gateway that has it. Raises FetchFailed with the last one's reason."""
    failed = FetchFailed("there are no gateways to fetch from: [ipfs] fetch_from")
    for source in sources:
        try:
            block = await source.block(cid)
        except FetchFailed as error:
            failed = error
            continue
        if cid.matches(block):
            return block
        failed = FetchFailed(f"a gateway sent other bytes than block {cid}")
    raise FetchFailed(f"block {cid} is not to be had: {failed}")


class ForeignBlocks:
    """What requests read of other networks (`[ipfs] offline = false`). It is in memory only."""

    def __init__(self, sources: Sequence[Source], bytes_kept: int = BYTES_KEPT) -> None:
        self._sources = sources
        self._left = bytes_kept
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()

    async def block(self, cid: Cid) -> bytes:
        """A block's bytes, at most 2 MiB. Raises FetchFailed."""
        name = cid.multihash
        block = self._kept.get(name)
        if block is None:
            block = await verified_block(self._sources, cid)
            if name not in self._kept:  # another request may have fetched it meanwhile
                self._left -= len(block)
        self._kept[name] = block
        self._kept.move_to_end(name)
        while self._left < 0:
            self._left += len(self._kept.popitem(last=False)[1])
        return block
