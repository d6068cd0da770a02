"""The background jobs of IPFS over a World, and what they leave."""

from gateway.catalog.interface import Space
from gateway.ipfs.index import rows
from gateway.ipfs.index.directories import Directories
from gateway.ipfs.index.indexer import Indexer
from tests.unit.object_parts import World


async def settle(world: World) -> int:
    """Step to the end, each step by jobs that know nothing of the last one; how many it took."""
    for count in range(2000):
        busy = await Indexer(world.objects, world.catalog, world.clock).step()
        if not await Directories(world.catalog, world.clock).step() and not busy:
            return count
    raise AssertionError("the jobs never come to rest")


def file_rows(world: World) -> list[tuple[bytes, bytes]]:
    """Rows of IPFS that belong to no directory."""
    found = world.rows(Space.BLOCKS)
    return [row for row in found if row[0][0] != 8 and row[1][:1] != rows.DIRECTORY]
