"""What the gateway's processes share: options, keys, links to the other processes, the pool, the
object service, endless work.
"""

import argparse
import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cdn.segments import EdgeCache
from chain.clock import Clock, system_entropy
from chain.keys.keystore import Keystore, KeystoreError
from chain.net.nodes import NodeTransport
from chain.net.shared import Arena
from chain.net.transport import Peer, Transport
from chain.process import NodeError
from gateway.catalog.client import CatalogClient
from gateway.catalog.interface import Catalog, CatalogUnavailable
from gateway.catalog.pool_records import CatalogPoolRecords
from gateway.config import ConfigError
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.ipfs.ipns.keybook import KeyBook
from gateway.keys import FileOwnerKeys, KeyRing
from gateway.network import Network, NotRunning, read_network
from gateway.objects import ObjectService
from gateway.store import StoreSettings
from gateway.view import CatalogLeases, CatalogMiners
from miner.client import MinerPeers
from miner.owner import Reports
from miner.pool import StoragePool
from miner.segments import SegmentSource

log = logging.getLogger(__name__)

Work = Mapping[str, Callable[[], Awaitable[None]]]  # that never ends, by name

# Of all workers together, for sealed segments that are read again and again; and of one at least.
EDGE_RAM_BYTES, EDGE_RAM_MIN = 128 << 20, 16 << 20
RESTART_SECONDS = 1.0
_LOOK_SECONDS = 0.2


def process_options(
    role: str, arguments: Sequence[str], *, ports: bool = False
) -> argparse.Namespace:
    """What every process is told; `ports`: and the listening sockets that it inherits."""
    parser = argparse.ArgumentParser(prog=f"python -m gateway {role}")
    parser.add_argument("--network", type=Path, required=True, help="the supervisor's network.json")
    parser.add_argument("--lifeline", type=int, help="leave when this descriptor closes")
    if ports:
        parser.add_argument("--fds", required=True, metavar="s3=5,ipfs=6,console=7")
    with suppress(BrokenPipeError):
        return parser.parse_args(arguments)
    raise SystemExit(2)


def running_network(path: Path) -> Network:
    """What the supervisor wrote. Raises NodeError."""
    try:
        return read_network(path)
    except (NotRunning, ConfigError) as error:
        raise NodeError(str(error)) from None


def keyring(data_dir: Path) -> KeyRing:
    """The keys of this network's accounts."""
    return KeyRing(FileOwnerKeys(keystore(data_dir / "keys"), system_entropy), system_entropy)


def keystore(directory: Path) -> Keystore:
    """The key files. Raises NodeError."""
    try:
        return Keystore(directory)
    except KeystoreError as error:
        raise NodeError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Links:
    """How a process beside the catalog process reaches the others."""

    transport: Transport
    owner: Peer  # the catalog process, for reports
    writer: Peer  # and for commits: neither waits behind the other
    catalog: CatalogClient
    miners: CatalogMiners
    peers: MinerPeers
    reports: Reports


@asynccontextmanager
async def linked(
    network: Network, clock: Clock, *, arena: Arena | None = None
) -> AsyncIterator[Links]:
    """Links that are closed in the end; `arena`: memory that miners of this machine share."""
    identity = keystore(network.config.data_dir / "keys").identity("gateway", system_entropy)
    async with AsyncExitStack() as stack:
        transport = NodeTransport(identity, arena=arena)
        stack.push_async_callback(transport.close)
        owner = transport.connect(network.catalog_address)
        writer = transport.connect(network.catalog_address)
        catalog = CatalogClient(network.config.data_dir / "catalog", writer)
        stack.push_async_callback(catalog.close)
        miners, peers = CatalogMiners(catalog), MinerPeers(transport, clock)
        yield Links(transport, owner, writer, catalog, miners, peers, Reports(peers, miners))


def key_book(catalog: Catalog, keys: Keystore, clock: Clock) -> KeyBook:
    """The network's own IPNS keys."""
    return KeyBook(catalog, keys.secret_or_new("ipns", system_entropy), clock, system_entropy)


def storage_pool(
    catalog: Catalog,
    miners: CatalogMiners,
    peers: MinerPeers,
    clock: Clock,
    reports: Reports,
) -> StoragePool:
    """The pool of one process."""
    records = CatalogPoolRecords(catalog)
    return StoragePool(miners, peers, records, clock, system_entropy, report=reports.note)


def object_service(
    network: Network,
    catalog: Catalog,
    pool: StoragePool,
    source: SegmentSource,
    clock: Clock,
    *,
    shares: int | None = None,
    arena: Arena | None = None,
) -> ObjectService:
    """The object path of one process; `source` is where sealed bytes are read.

    It takes one of `shares` parts of the machine's buffers, of as many as there are workers if not
    told.
    """
    config = network.config
    shares = shares or network.workers
    return ObjectService(
        catalog,
        pool,
        EdgeCache(source, ram_bytes=max(EDGE_RAM_MIN, EDGE_RAM_BYTES // shares)),
        keyring(config.data_dir),
        CatalogLeases(catalog),
        clock=clock,
        entropy=system_entropy,
        settings=StoreSettings(
            inline_max=config.inline_max,
            profile=network.profile,
            etag=config.s3_etag,
            publish_new_buckets=config.ipfs_publish_new_buckets,
            kms_auto_create=config.s3_kms_auto_create,
        ).shared_by(shares),
        publisher=IpfsPublisher(),
        arena=arena,
    )


async def work_until(stop: asyncio.Event, work: Work, catalog: Catalog, clock: Clock) -> None:
    """Have all of it done from when there is a catalog until `stop` is set."""

    async def begin() -> None:
        await _catalog_made(catalog, clock)
        async with asyncio.TaskGroup() as group:
            for name, job in work.items():
                group.create_task(steadily(name, job, clock))

    async with asyncio.TaskGroup() as group:
        working = group.create_task(begin())
        await stop.wait()
        working.cancel()


async def _catalog_made(catalog: Catalog, clock: Clock) -> None:
    """Until there is a catalog: at a network's first start its writer makes it beside us."""
    while True:
        try:
            with catalog.read():
                return
        except CatalogUnavailable:
            await clock.sleep(_LOOK_SECONDS)


def shared_arena(network: Network) -> Arena | None:
    """Memory that a worker shares with the miners of its machine: frames, and room for reads.

    Four times the address space, as places of asks that were never answered are not used again.
    What is let go stays while no more is there than the frames' budget.
    """
    settings = StoreSettings().shared_by(network.workers)
    frames, rooms = settings.frame_bytes, settings.read_bytes
    return Arena.create(4 * (frames + rooms), rooms=rooms, limit=frames)


async def steadily(name: str, work: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Run endless work again after a failure: what helps a process must not end it."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed and starts again", name)
        await clock.sleep(RESTART_SECONDS)
