"""The gateway's two kinds of process, put together from their parts.

catalog: the one writer, the storage pool's records, administration, the ledger outbox, jobs.
worker: the S3, IPFS and console ports over the catalog's mmap, an edge cache and the pool.
"""

import argparse
import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from cdn.client import EdgeClient
from cdn.segments import EdgeCache
from cdn.service import SegmentService
from chain.clock import SystemClock, system_entropy
from chain.keys.keystore import Keystore, KeystoreError
from chain.members import Members
from chain.net.address import advertised, split_identity
from chain.net.http import HttpLimits, reload_certificate, serve, tls_context
from chain.net.http_exchange import plain_error
from chain.net.transport import Handlers, Peer, RemoteError, Server, Transport, Unreachable
from chain.net.zeromq import ZeroMqTransport
from chain.process import NodeError, run_node
from gateway.accounts import AccountService
from gateway.admin import AdminService
from gateway.catalog.client import CatalogClient
from gateway.catalog.interface import Catalog, CatalogUnavailable
from gateway.catalog.local import LocalCatalog
from gateway.catalog.pool_records import CatalogPoolRecords
from gateway.catalog.service import run_catalog as serve_catalog
from gateway.config import ConfigError
from gateway.console.app import ConsoleApp
from gateway.credentials import read_credentials
from gateway.ipfs.app import IpfsApp, IpfsConfig
from gateway.ipfs.directories import IpfsDirectory
from gateway.ipfs.indexer import Indexer
from gateway.ipfs.publish import IpfsPublisher
from gateway.keys import FileOwnerKeys, KeyRing
from gateway.ledger import NetworkWatch, pump
from gateway.network import Network, NotRunning, read_network
from gateway.objects import ObjectService
from gateway.outbox import Outbox
from gateway.s3.app import S3App
from gateway.s3.config import S3Config
from gateway.s3.refusals import protocol_error
from gateway.status import NetworkStatus, WorkerMetrics, space_of
from gateway.store import StoreSettings
from gateway.versions import version_uid
from gateway.view import CatalogLeases, CatalogMiners
from miner.client import MinerPeers
from miner.owner import PoolOwner, Releaser, Reports
from miner.pool import StoragePool
from miner.protocol import ReportMissing
from miner.segments import PROFILES, SegmentSource

log = logging.getLogger(__name__)

FIRST_ACCOUNT = "owner"
# Of each worker, for sealed segments that are read again and again.
EDGE_RAM_BYTES = 64 << 20
_READY_SECONDS = 2.0
_RESTART_SECONDS = 1.0
_LET_GO_SECONDS = 2.0


def run_catalog(arguments: list[str]) -> int:
    """`python -m gateway catalog`; the exit code."""
    options = _options("catalog", arguments)

    async def main(stop: asyncio.Event) -> None:
        await _catalog(_network(options.network), stop)

    return run_node(main, name="catalog", lifeline=options.lifeline)


def run_worker(arguments: list[str]) -> int:
    """`python -m gateway worker`; the exit code."""
    options = _options("worker", arguments)
    hangup = _Hangup()

    async def main(stop: asyncio.Event) -> None:
        await _worker(_network(options.network), _sockets(options.fds), stop, hangup)

    return run_node(main, name="worker", lifeline=options.lifeline, on_hangup=hangup)


# ---------------------------------------------------------------- the catalog process
async def _catalog(network: Network, stop: asyncio.Event) -> None:
    config, clock = network.config, SystemClock()
    keys = _keystore(config.data_dir / "keys")
    async with AsyncExitStack() as stack:
        gateway = keys.identity("gateway", system_entropy)
        transport = ZeroMqTransport(gateway, authorise=lambda account: members.is_node(account))
        stack.push_async_callback(transport.close)
        ledger = network.ledger().client(transport)
        members = Members(ledger, clock, config.data_dir / "members.json")
        catalog = LocalCatalog.open(config.data_dir / "catalog")
        stack.push_async_callback(catalog.close)
        miners, peers = CatalogMiners(catalog), MinerPeers(transport, clock)
        pool = _pool(catalog, miners, peers, clock, Reports(peers, miners))
        objects = _objects(network, catalog, pool, pool, clock)
        stack.callback(objects.close)
        accounts = AccountService(
            catalog, _keyring(config.data_dir), clock=clock, entropy=system_entropy
        )
        access, secret = read_credentials(network.credentials_path)
        await accounts.bootstrap(FIRST_ACCOUNT, access_key=access, secret_key=secret)
        outbox = Outbox(catalog, ledger, gateway)
        records = CatalogPoolRecords(catalog)
        status = NetworkStatus(catalog, ledger, network, miners, peers)

        async def certify(bucket: str, key: str) -> bytes:
            version = objects.head(objects.bucket(bucket), key)
            return await outbox.certificate(version_uid(version))

        admin = AdminService(
            accounts,
            objects,
            progress=IpfsDirectory(objects, catalog, clock).progress,
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
        )
        handlers = owner.handlers(admin.add_to(Handlers()))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(steadily("watch", watch.run, clock)),
                group.create_task(steadily("outbox", lambda: pump(outbox, clock), clock)),
                group.create_task(
                    steadily("publishing", Indexer(objects, catalog, clock).run, clock)
                ),
                group.create_task(
                    steadily("releases", Releaser(records, miners, peers, clock).run, clock)
                ),
                group.create_task(steadily("deletions", lambda: _let_go(objects, clock), clock)),
            ]
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


# ---------------------------------------------------------------- a worker process
async def _worker(
    network: Network, sockets: dict[str, socket.socket], stop: asyncio.Event, hangup: "_Hangup"
) -> None:
    config, clock = network.config, SystemClock()
    async with AsyncExitStack() as stack:
        transport = ZeroMqTransport(
            _keystore(config.data_dir / "keys").identity("gateway", system_entropy)
        )
        stack.push_async_callback(transport.close)
        owner = transport.connect(network.catalog_address)
        writer = transport.connect(network.catalog_address)
        catalog = CatalogClient(config.data_dir / "catalog", writer)
        stack.push_async_callback(catalog.close)
        miners, peers = CatalogMiners(catalog), MinerPeers(transport, clock)
        reports = Reports(peers, miners)
        pool = _pool(catalog, miners, peers, clock, reports)
        source = _source(network, pool, transport, clock)
        objects = _objects(network, catalog, pool, source, clock)
        stack.callback(objects.close)
        accounts = AccountService(
            catalog, _keyring(config.data_dir), clock=clock, entropy=system_entropy
        )
        apps: dict[str, Any] = {
            "s3": S3App(
                objects,
                accounts.credential,
                S3Config(
                    domains=config.s3_domain,
                    region=config.s3_region,
                    sigv2=config.s3_sigv2,
                ),
                clock,
            ),
            "ipfs": IpfsApp(objects, catalog, IpfsConfig(), clock),
            "console": ConsoleApp(
                _readiness(network, catalog, writer, transport, miners, peers),
                WorkerMetrics(miners, peers),
            ),
        }
        tls = None
        if network.cert and network.key:
            cert, key = network.cert, network.key
            tls = tls_context(cert, key)
            context = tls
            hangup.action = lambda: reload_certificate(context, cert, key)
        async with asyncio.TaskGroup() as group:
            reporting = group.create_task(
                steadily("reports", lambda: reports.run(owner, clock), clock)
            )
            async with asyncio.TaskGroup() as ports:
                for face, listener in sockets.items():
                    ports.create_task(
                        serve(
                            apps[face],
                            [listener],
                            tls=tls,
                            limits=HttpLimits(),
                            stop=stop,
                            error_body=protocol_error if face == "s3" else plain_error,
                        )
                    )
            reporting.cancel()


def _readiness(
    network: Network,
    catalog: Catalog,
    writer: Peer,
    transport: Transport,
    miners: CatalogMiners,
    peers: MinerPeers,
) -> Callable[[], Any]:
    """The probe of /health/ready: what is missing, one sentence each.

    `writer` is the connection of this worker's commits: the index alone is read without a writer.
    """
    ledger = network.ledger().client(transport)
    leases = CatalogLeases(catalog)
    quorum = PROFILES[network.profile].quorum

    async def missing() -> list[str]:
        found: list[str] = []
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await ledger.status()
        except (RemoteError, Unreachable, TimeoutError):
            found.append("the ledger does not answer")
        try:
            await writer.ask(ReportMissing(()), timeout=_READY_SECONDS)
        except (RemoteError, Unreachable):
            found.append("the catalog does not answer")
        try:
            if leases.lease("") is None:
                found.append("no storage lease is reserved yet")
            up = [miner for miner, space in await space_of(miners, peers) if space is not None]
        except CatalogUnavailable:
            return [*found, "there is no catalog yet"]
        if len(up) < quorum:
            found.append(f"{len(up)} miners are up, a write needs {quorum}")
        return found

    return missing


# ---------------------------------------------------------------- parts of both
def _pool(
    catalog: Catalog,
    miners: CatalogMiners,
    peers: MinerPeers,
    clock: SystemClock,
    reports: Reports,
) -> StoragePool:
    records = CatalogPoolRecords(catalog)
    return StoragePool(miners, peers, records, clock, system_entropy, report=reports.note)


def _source(
    network: Network, pool: StoragePool, transport: Transport, clock: SystemClock
) -> SegmentSource:
    """Where sealed bytes are read: an edge elsewhere when one is named, then the pool."""
    if not network.config.edge:
        return pool
    identity, address = split_identity(network.config.edge)
    return EdgeClient(transport.connect(address, identity), pool, clock)


def _objects(
    network: Network,
    catalog: Catalog,
    pool: StoragePool,
    source: SegmentSource,
    clock: SystemClock,
) -> ObjectService:
    config = network.config
    return ObjectService(
        catalog,
        pool,
        EdgeCache(source, ram_bytes=EDGE_RAM_BYTES),
        _keyring(config.data_dir),
        CatalogLeases(catalog),
        clock=clock,
        entropy=system_entropy,
        settings=StoreSettings(
            inline_max=config.inline_max,
            profile=network.profile,
            etag=config.s3_etag,
            publish_new_buckets=config.ipfs_publish_new_buckets,
        ),
        publisher=IpfsPublisher(),
    )


async def steadily(name: str, work: Callable[[], Awaitable[None]], clock: SystemClock) -> None:
    """Run endless work again after a failure: what helps a process must not end it."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed and starts again", name)
        await clock.sleep(_RESTART_SECONDS)


async def _let_go(objects: ObjectService, clock: SystemClock) -> None:
    """Work off the jobs that deletions too large for one commit left behind."""
    while True:
        if not await objects.release_some():
            await clock.sleep(_LET_GO_SECONDS)


def _keyring(data_dir: Path) -> KeyRing:
    return KeyRing(FileOwnerKeys(_keystore(data_dir / "keys"), system_entropy), system_entropy)


def _keystore(directory: Path) -> Keystore:
    try:
        return Keystore(directory)
    except KeystoreError as error:
        raise NodeError(str(error)) from None


class _Hangup:
    """What SIGHUP does, once it is known."""

    def __init__(self) -> None:
        self.action: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self.action is None:
            return
        try:
            self.action()
        except OSError as error:
            log.error("the certificate stays as it was: %s", error)


def _network(path: Path) -> Network:
    try:
        return read_network(path)
    except (NotRunning, ConfigError) as error:
        raise NodeError(str(error)) from None


def _sockets(text: str) -> dict[str, socket.socket]:
    """`s3=5,ipfs=6` as listening sockets."""
    pairs = [item.partition("=") for item in text.split(",") if item]
    return {face: socket.socket(fileno=int(fd)) for face, _, fd in pairs}


def _options(role: str, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m gateway {role}")
    parser.add_argument("--network", type=Path, required=True, help="the supervisor's network.json")
    parser.add_argument("--lifeline", type=int, help="leave when this descriptor closes")
    if role == "worker":
        parser.add_argument("--fds", required=True, metavar="s3=5,ipfs=6,console=7")
    with suppress(BrokenPipeError):
        return parser.parse_args(arguments)
    raise SystemExit(2)
