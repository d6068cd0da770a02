"""The entries of a directory: those of one page, or all one after the other.

A directory of one block is in its own order (by name) and paged by number. A HAMT that is small
enough for one page is sorted by name; a larger one is paged in the order of its names' hashes,
which is the order of its blocks: a page reads the blocks of its own entries and no more, wherever
it starts. Its place is the slots that lead to its first entry, in hexadecimal digits.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.codecs.shards import Shard
from gateway.ipfs.errors import BadRequest, NotAcceptable
from gateway.ipfs.web.walk import Folder, Walker

# A HAMT of more entries is not sorted, and its pages have so many: below 50 ms of CPU either way,
# also where 100,000 entries have 30,000 blocks in packs (docs/adr/195).
SORTED_MAX = 3000
HASHED_MAX = 1000
_SLOTS = re.compile(r"[0-9A-F]{0,64}")
_NUMBER = re.compile(r"[0-9]{0,9}")


class Page(NamedTuple):
    """Entries, and where the next page starts; "" for the last."""

    entries: Sequence[Link]
    more: str


async def page(walker: Walker, folder: Folder, start: str, limit: int) -> Page:
    """At most `limit` entries from the place `start` on; "" is the first page.

    Raises BadRequest (no such place), NotFound, NotAcceptable, StoreError.
    """
    shard = folder.shard
    if not (_NUMBER if shard is None else _SLOTS).fullmatch(start):
        raise BadRequest("from is the place where a page of this directory starts")
    if shard is None:
        first = int(start or "0")
        end = first + limit
        return Page(folder.links[first:end], str(end) if end < len(folder.links) else "")
    few, limit = min(limit, HASHED_MAX), min(limit, SORTED_MAX)
    found: list[Link] = []
    places: list[str] = []
    async for place, link in _hashed(walker, folder, shard, start):
        found.append(link)
        places.append(place)
        if len(found) == few + 1 and (start or _expected(place, few) > limit):
            break
        if len(found) > limit:
            break
    else:
        ordered = sorted(found, key=lambda link: link.name) if not start else found
        return Page(ordered, "")
    return Page(found[:few], places[few])


async def in_order(walker: Walker, folder: Folder) -> AsyncGenerator[Link, None]:
    """All entries, however many, in the order of the directory's blocks.

    Raises NotFound, NotAcceptable, StoreError.
    """
    if folder.shard is None:
        for link in folder.links:
            yield link
        return
    async with aclosing(_hashed(walker, folder, folder.shard, "")) as found:
        async for _, link in found:
            yield link


def _expected(place: str, count: int) -> float:
    """How many entries a HAMT has of which `count` are before `place`: hashes are even."""
    return float(count * 16 ** len(place) / max(int(place, 16), 1))


async def _hashed(
    walker: Walker, folder: Folder, shard: Shard, start: str
) -> AsyncGenerator[tuple[str, Link], None]:
    """(place, entry) from `start` on, in the order of the places."""
    waiting = [("", link) for link in reversed(shard.links)]
    seen = {folder.cid.raw}
    width = shard.width
    while waiting:
        above, link = waiting.pop()
        place = above + link.name[:width]
        if place < start[: len(place)]:
            continue
        if len(link.name) > width:
            if place >= start:
                yield place, link._replace(name=link.name[width:])
            continue
        if link.cid.raw in seen:
            raise NotAcceptable(f"{folder.cid}: a HAMT with one shard twice")
        seen.add(link.cid.raw)
        below = await walker.shard(link.cid)
        if below.width != width:
            raise NotAcceptable(f"{folder.cid}: a HAMT of several fan-outs")
        waiting += [(place, link) for link in reversed(below.links)]
