"""Losing fragments on purpose, by the miners' own protocol."""

import asyncio

import uvloop

from chain.net.nodes import NodeTransport
from gateway.network import read_network
from miner.fragment import FragmentRecord
from miner.protocol import KEYS_MAX, DropFragments, Inventory
from tests.clients.running import RunningNetwork


def drop_shards(network: RunningNetwork, indexes: tuple[int, ...]) -> None:
    """Make every miner forget the shards of these indexes, of every segment that it holds."""
    known = read_network(network.data_dir / "run" / "network.json")
    addresses = [miner.address for miner in known.miners]
    uvloop.run(_drop_everywhere(addresses, frozenset(indexes)))


async def _drop_everywhere(addresses: list[str], indexes: frozenset[int]) -> None:
    transport = NodeTransport()
    try:
        async with asyncio.TaskGroup() as group:
            for address in addresses:
                group.create_task(_drop(transport, address, indexes))
    finally:
        await transport.close()


async def _drop(transport: NodeTransport, address: str, indexes: frozenset[int]) -> None:
    peer = transport.connect(address)
    after = b""
    while page := (await peer.ask(Inventory(after, KEYS_MAX))).held:
        after = page[-1].key
        keys = [each.key for each in page if FragmentRecord.parse(each.record).index in indexes]
        await peer.ask(DropFragments(tuple(keys)))
