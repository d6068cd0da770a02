"""A worker process: the S3, IPFS and console ports over the catalog's mmap."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from cdn.client import EdgeClient
from chain.clock import Clock, SystemClock, system_entropy
from chain.net.address import split_identity
from chain.net.http import HttpLimits, reload_certificate, serve, tls_context
from chain.net.http_exchange import plain_error
from chain.net.transport import RemoteError, Transport, Unreachable
from chain.process import run_node
from gateway.access_log import ACCESS_DIR, AccessLog
from gateway.accounts import AccountService
from gateway.catalog.interface import Catalog, CatalogUnavailable
from gateway.config import Config
from gateway.console.app import ConsoleApp
from gateway.iam.face import IamFace
from gateway.iam.fetching import Fetcher
from gateway.iam.issuers import FetchFailed, Issuers
from gateway.ipfs.api.app import ApiApp
from gateway.ipfs.api.commands import COMMANDS
from gateway.ipfs.api.node import Node
from gateway.ipfs.foreign.blocks import ForeignBlocks
from gateway.ipfs.foreign.trustless import gateways
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.deny_files import DenyFiles
from gateway.ipfs.ipns.keys import name_of_identity
from gateway.ipfs.ipns.store import IpnsRecords
from gateway.ipfs.names import Names
from gateway.ipfs.sites.dnslink import DnsLinks
from gateway.ipfs.web.app import IpfsApp
from gateway.ipfs.web.routing import Routing
from gateway.ipfs.web.serving import IpfsConfig
from gateway.listeners import is_loopback
from gateway.network import Network
from gateway.nodes.parts import (
    Links,
    key_book,
    keyring,
    keystore,
    linked,
    object_service,
    process_options,
    running_network,
    shared_arena,
    steadily,
    storage_pool,
)
from gateway.s3.app import S3App
from gateway.s3.config import S3Config
from gateway.s3.refusals import protocol_error
from gateway.status import WorkerMetrics, space_of
from gateway.view import CatalogLeases
from miner.pool import StoragePool
from miner.protocol import ReportMissing
from miner.segments import PROFILES, SegmentSource

log = logging.getLogger(__name__)

_READY_SECONDS = 2.0


def run(arguments: list[str]) -> int:
    """`python -m gateway worker`; the exit code."""
    options = process_options("worker", arguments, ports=True)
    hangup = _Hangup()

    async def main(stop: asyncio.Event) -> None:
        network = running_network(options.network)
        await _worker(network, _sockets(options.fds), stop, hangup)

    return run_node(main, name="worker", lifeline=options.lifeline, on_hangup=hangup)


async def _worker(
    network: Network, sockets: dict[str, socket.socket], stop: asyncio.Event, hangup: "_Hangup"
) -> None:
    config, clock = network.config, SystemClock()
    async with AsyncExitStack() as stack:
        keys, arena = keystore(config.data_dir / "keys"), shared_arena(network)
        links = await stack.enter_async_context(linked(network, clock, arena=arena))
        catalog, reports = links.catalog, links.reports
        pool = storage_pool(catalog, links.miners, links.peers, clock, reports)
        source = _source(network, pool, links.transport, clock)
        objects = object_service(network, catalog, pool, source, clock, arena=arena)
        stack.callback(objects.close)
        accounts = AccountService(
            catalog, keyring(config.data_dir), clock=clock, entropy=system_entropy
        )
        fetcher = Fetcher(clock)
        stack.callback(fetcher.close)
        access = AccessLog(
            config.data_dir / ACCESS_DIR,
            clock,
            config.logging_roll_seconds,
            owner=f"{clock.now_ns()}-{os.getpid()}",
        )
        deny = DenyFiles(config.ipfs_denylist, clock)
        lookups = Fetcher(clock)
        stack.callback(lookups.close)
        names = _names(config, catalog, lookups, clock)
        apps: dict[str, Any] = {
            "s3": S3App(
                objects,
                accounts.credential,
                S3Config(
                    domains=config.s3_domain,
                    region=config.s3_region,
                    sigv2=config.s3_sigv2,
                    workers=config.workers,
                    targets=frozenset(config.notify),
                    sse_requires_tls=config.s3_sse_requires_tls,
                    endpoints=frozenset(config.replication),
                ),
                clock,
                iam=IamFace(
                    catalog,
                    accounts.credential,
                    token_key=keys.secret_or_new("sessions", system_entropy),
                    issuers=Issuers(fetcher.fetch, clock),
                    clock=clock,
                    entropy=system_entropy,
                ),
                access=access,
            ),
            "ipfs": Routing(
                IpfsApp(
                    objects,
                    catalog,
                    IpfsConfig(
                        timeout=config.ipfs_timeout,
                        requests_max=config.ipfs_requests_max,
                        client_requests_max=config.ipfs_client_requests_max,
                        range_size_max=config.ipfs_range_size_max,
                    ),
                    clock,
                    names,
                    deny,
                    foreign=_foreign(config, clock, stack),
                ),
                BlockIndex(objects, catalog, deny),
                IpnsRecords(catalog, clock),
                names,
                name_of_identity(keys.identity("gateway", system_entropy).id),
                clock,
            ),
            "ipfs_api": ApiApp(
                Node.over(
                    objects,
                    catalog,
                    clock,
                    system_entropy,
                    owner=accounts.first,
                    public_key=bytes(keys.identity("gateway", system_entropy).id),
                    names=names,
                    keys=key_book(catalog, keys, clock),
                    deny=deny,
                ),
                COMMANDS,
                open=is_loopback(sockets["ipfs_api"]),
            ),
            "console": ConsoleApp(
                _readiness(network, links),
                WorkerMetrics(
                    str(os.getpid()), catalog, links.miners, links.peers, pool.read_counts
                ),
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
                steadily("reports", lambda: reports.run(links.owner, clock), clock)
            )
            logging_access = group.create_task(access.run())
            denying = group.create_task(deny.run())
            async with asyncio.TaskGroup() as ports:
                for face, listener in sockets.items():
                    ports.create_task(
                        serve(
                            apps[face],
                            [listener],
                            tls=tls,
                            limits=HttpLimits(tunnels=face == "ipfs"),
                            stop=stop,
                            error_body=protocol_error if face == "s3" else plain_error,
                        )
                    )
            reporting.cancel()
            logging_access.cancel()
            denying.cancel()


def _readiness(network: Network, links: Links) -> Callable[[], Any]:
    """The probe of /health/ready: what is missing, one sentence each.

    The connection of this worker's commits is asked: the index alone is read without a writer.
    """
    ledger = network.ledger().client(links.transport)
    leases = CatalogLeases(links.catalog)
    quorum = PROFILES[network.profile].quorum

    async def missing() -> list[str]:
        found: list[str] = []
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await ledger.status()
        except (RemoteError, Unreachable, TimeoutError):
            found.append("the ledger does not answer")
        try:
            await links.writer.ask(ReportMissing(()), timeout=_READY_SECONDS)
        except (RemoteError, Unreachable):
            found.append("the catalog does not answer")
        try:
            if leases.lease("") is None:
                found.append("no storage lease is reserved yet")
            spaces = await space_of(links.miners, links.peers)
            up = [miner for miner, space in spaces if space is not None]
        except CatalogUnavailable:
            return [*found, "there is no catalog yet"]
        if len(up) < quorum:
            found.append(f"{len(up)} miners are up, a write needs {quorum}")
        return found

    return missing


def _names(config: Config, catalog: Catalog, fetcher: Fetcher, clock: Clock) -> Names:
    """IPNS records of the catalog, DNSLink names and hosts of the configuration."""

    async def fetch(url: str) -> bytes:
        try:
            return await fetcher.fetch(url)
        except FetchFailed as error:
            raise OSError(str(error)) from None

    links = DnsLinks(config.ipfs_dnslinks, clock, config.ipfs_dns_resolver, fetch)
    return Names(IpnsRecords(catalog, clock), links, config.ipfs_subdomain_hosts, clock)


def _foreign(config: Config, clock: Clock, stack: AsyncExitStack) -> ForeignBlocks | None:
    """What the IPFS gateway fetches of other networks: nothing, unless that is switched on."""
    if config.ipfs_offline or not config.ipfs_fetch_from:
        return None
    return ForeignBlocks(gateways(config.ipfs_fetch_from, clock, stack))


def _source(
    network: Network, pool: StoragePool, transport: Transport, clock: Clock
) -> SegmentSource:
    """Where sealed bytes are read: an edge elsewhere when one is named, then the pool."""
    if not network.config.edge:
        return pool
    identity, address = split_identity(network.config.edge)
    return EdgeClient(transport.connect(address, identity), pool, clock)


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


def _sockets(text: str) -> dict[str, socket.socket]:
    """`s3=5,ipfs=6` as listening sockets."""
    pairs = [item.partition("=") for item in text.split(",") if item]
    return {face: socket.socket(fileno=int(fd)) for face, _, fd in pairs}
