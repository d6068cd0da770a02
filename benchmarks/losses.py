"""Losing fragments on purpose, by the miners' own protocol, and saying so."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import uvloop

from chain.net.nodes import NodeTransport
from gateway.network import Network, read_network
from miner.fragment import FragmentRecord, split_key
from miner.protocol import (
    KEYS_MAX,
    DropFragments,
    Inventory,
    Missing,
    ReportMissing,
    SpaceReport,
)
from tests.clients.running import RunningNetwork


class Lost(NamedTuple):
    """A fragment that its miner forgot, and its bytes."""

    missing: Missing
    size: int


def drop_shards(network: RunningNetwork, indexes: tuple[int, ...]) -> list[Lost]:
    """Make every miner forget the shards of these indexes, of every segment that it holds."""
    addresses = [miner.address for miner in _running(network).miners]
    return uvloop.run(_drop_everywhere(addresses, frozenset(indexes)))


def report_lost(network: RunningNetwork, lost: Sequence[Lost]) -> None:
    """Queue the repair of them, as readers do that miss them."""
    uvloop.run(_report(_running(network).catalog_address, [each.missing for each in lost]))


def _running(network: RunningNetwork) -> Network:
    return read_network(network.data_dir / "run" / "network.json")


async def _drop_everywhere(addresses: list[str], indexes: frozenset[int]) -> list[Lost]:
    transport = NodeTransport()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_drop(transport, each, indexes)) for each in addresses]
        return [lost for task in tasks for lost in task.result()]
    finally:
        await transport.close()


async def _drop(transport: NodeTransport, address: str, indexes: frozenset[int]) -> list[Lost]:
    peer = transport.connect(address)
    miner = (await peer.ask(SpaceReport())).miner
    after, lost = b"", list[Lost]()
    while page := (await peer.ask(Inventory(after, KEYS_MAX))).held:
        after = page[-1].key
        found = {each.key: FragmentRecord.parse(each.record) for each in page}
        keys = [key for key, record in found.items() if record.index in indexes]
        await peer.ask(DropFragments(tuple(keys)))
        lost += [Lost(Missing(*split_key(key), miner), found[key].size) for key in keys]
    return lost


async def _report(address: str, missing: Sequence[Missing]) -> None:
    transport = NodeTransport()
    try:
        peer = transport.connect(address)
        for at in range(0, len(missing), KEYS_MAX):
            await peer.ask(ReportMissing(tuple(missing[at : at + KEYS_MAX])), timeout=60.0)
    finally:
        await transport.close()
