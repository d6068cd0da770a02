"""The catalog process: the one writer, the pool's records, administration, the outbox, jobs."""

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path

from cdn.service import SegmentService
from chain.clock import Clock, SystemClock, system_entropy
from chain.members import Members
from chain.net.address import advertised
from chain.net.nodes import NodeTransport
from chain.net.transport import Handlers, Server, Transport
from chain.process import NodeError, run_node
from gateway.accounts import AccountService
from gateway.admin import AdminService
from gateway.catalog.interface import CatalogDamaged
from gateway.catalog.local import LocalCatalog
from gateway.catalog.pool_records import CatalogPoolRecords
from gateway.catalog.service import run_catalog as serve_catalog
from gateway.catalog.warming import warm
from gateway.credentials import read_credentials
from gateway.ipfs.index.directories import Directories
from gateway.ipfs.index.indexer import Indexer
from gateway.ipfs.index.tokens import Tokens
from gateway.ipfs.ipns.store import IpnsRecords
from gateway.ledger import NetworkWatch, pump
from gateway.network import Network
from gateway.nodes.ipfs_jobs import IpfsJobs
from gateway.nodes.parts import (
    keyring,
    keystore,
    object_service,
    process_options,
    running_network,
    steadily,
    storage_pool,
)
from gateway.objects import ObjectService
from gateway.outbox import Outbox
from gateway.status import NetworkStatus
from gateway.view import CatalogMiners
from miner.client import MinerPeers
from miner.owner import PoolOwner, Reports
from miner.pool import StoragePool

FIRST_ACCOUNT = "owner"
LET_GO_SECONDS = 2.0

log = logging.getLogger(__name__)


def run(arguments: list[str]) -> int:
    """`python -m gateway catalog`; the exit code."""
    options = process_options("catalog", arguments)

    async def main(stop: asyncio.Event) -> None:
        await _catalog(running_network(options.network), stop)

    return run_node(main, name="catalog", lifeline=options.lifeline)


def _opened(data_dir: Path) -> LocalCatalog:
    """The catalog. Raises NodeError, with one line that says what to do, when it is damaged."""
    try:
        return LocalCatalog.open(data_dir / "catalog")
    except CatalogDamaged as error:
        raise NodeError(
            f"{error}. Restore a copy of {data_dir / 'catalog'}, or go on without what is lost: "
            f"cumulus catalog salvage --data-dir {data_dir}"
        ) from None


async def _catalog(network: Network, stop: asyncio.Event) -> None:
    config, clock = network.config, SystemClock()
    keys = keystore(config.data_dir / "keys")
    async with AsyncExitStack() as stack:
        gateway = keys.identity("gateway", system_entropy)
        transport = NodeTransport(gateway, authorise=lambda account: members.is_node(account))
        stack.push_async_callback(transport.close)
        ledger = network.ledger().client(transport)
        members = Members(ledger, clock, config.data_dir / "members.json")
        catalog = _opened(config.data_dir)
        stack.push_async_callback(catalog.close)
        miners, peers = CatalogMiners(catalog), MinerPeers(transport, clock)
        reports = Reports(peers, miners)
        pool = storage_pool(catalog, miners, peers, clock, reports)
        objects = object_service(network, catalog, pool, pool, clock)
        stack.callback(objects.close)
        accounts = AccountService(
            catalog, keyring(config.data_dir), clock=clock, entropy=system_entropy
        )
        access, secret = read_credentials(network.credentials_path)
        await accounts.bootstrap(FIRST_ACCOUNT, access_key=access, secret_key=secret)
        outbox = Outbox(catalog, ledger, gateway)
        records = CatalogPoolRecords(catalog)
        status = NetworkStatus(catalog, ledger, network, miners, peers)

        async def certify(bucket: str, key: str) -> bytes:
            version = objects.head(objects.bucket(bucket), key)
            return await outbox.certificate(version)

        directories = Directories(catalog, clock)
        admin = AdminService(
            accounts,
            objects,
            Tokens(catalog, clock, system_entropy),
            IpnsRecords(catalog, clock),
            progress=directories.progress,
            network=status.state,
            certify=certify,
        )
        owner = PoolOwner(records, miners)
        face = await _node_face(network, transport, owner, pool)
        if face is not None:
            stack.push_async_callback(face.close)
        watch = NetworkWatch(
            catalog,
            ledger,
            peers,
            clock,
            operator=keys.identity("operator", system_entropy),
            gateway=gateway,
            address=_advertised(network, face),
            grace=config.repair_grace,
        )
        itself = transport.connect(network.catalog_address)
        handlers = owner.handlers(admin.add_to(Handlers()))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_warm(config.data_dir / "catalog" / "index")),
                group.create_task(steadily("watch", watch.run, clock)),
                group.create_task(steadily("reports", lambda: reports.run(itself, clock), clock)),
                group.create_task(steadily("outbox", lambda: pump(outbox, clock), clock)),
                group.create_task(
                    steadily("publishing", Indexer(objects, catalog, clock).run, clock)
                ),
                group.create_task(steadily("directories", directories.run, clock)),
                group.create_task(steadily("deletions", lambda: let_go(objects, clock), clock)),
            ]
            if network.config.background == "off":  # there is no process for jobs
                gateways = network.config.ipfs_fetch_from
                pinning = IpfsJobs(objects, catalog, clock).pinning(gateways, stack)
                tasks.append(group.create_task(steadily("pinning", pinning.run, clock)))
            if face is not None:
                tasks.append(group.create_task(steadily("members", members.run, clock)))
            await serve_catalog(
                catalog, transport, network.catalog_address, clock, stop, more=handlers
            )
            for task in tasks:
                task.cancel()


async def _node_face(
    network: Network, transport: Transport, owner: PoolOwner, pool: StoragePool
) -> Server | None:
    """What registered nodes may ask a gateway that joined a ledger; never commits nor commands.

    Miners ask about their fragments, edges read sealed segments.
    """
    if not network.joined:
        return None
    handlers = owner.handlers(SegmentService(pool).handlers())
    return await transport.serve(network.config.listen, handlers)


def _advertised(network: Network, face: Server | None) -> str:
    """The address that the ledger is told."""
    if face is None:
        return network.catalog_address
    return advertised(network.config.listen, network.config.advertise) or face.address


async def let_go(objects: ObjectService, clock: Clock) -> None:
    """Work off the jobs that deletions too large for one commit left behind."""
    while True:
        if not await objects.release_some():
            await clock.sleep(LET_GO_SECONDS)


async def _warm(index: Path) -> None:
    """Bring the index into memory beside the first requests."""
    try:
        size = await asyncio.to_thread(warm, index)
    except OSError as error:
        log.warning("the index is not read ahead: %s", error)
    else:
        log.info("read %d bytes of the index ahead", size)
