"""`cumulus edge`: one edge in the foreground."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from cdn.config import EdgeConfig, parse_size
from cdn.errors import ConfigError
from cdn.node import EdgeNode
from cdn.registrar import register_edge
from chain.clock import SystemClock, system_entropy
from chain.ids import AccountId, InvalidId, account_id
from chain.join import Ledger, join_as
from chain.keys.keystore import Keystore, KeystoreError
from chain.members import Members
from chain.net.address import advertised, split_identity
from chain.net.nodes import NodeTransport
from chain.net.rpc import AddressError
from chain.options import Parser, add_data_dir, add_join, add_listen
from chain.process import EXIT_REFUSED, NodeError, run_node

_EXAMPLE = """example:
  cumulus edge --data-dir /srv/edge --join ID@ledger.example:4700 \\
      --listen tcp://0.0.0.0:4703 --advertise edge.example:4703 \\
      --origin GATEWAY_ID@gateway.example:4702 --max-bytes 100GiB

The gateways on the ledger may read through it: cumulus gateway --edge EDGE_ID@edge.example:4703."""


def parse(arguments: Sequence[str]) -> tuple[EdgeConfig, int | None]:
    """The configuration, and the lifeline. Exits with 2 on wrong use, as argparse does."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        identity, origin = _origin(given.origin)
        config = EdgeConfig(
            data_dir=given.data_dir,
            listen=given.listen,
            origin=origin,
            origin_identity=identity,
            max_bytes=parse_size(given.max_bytes),
            ram_bytes=parse_size(given.ram_bytes),
            readers=frozenset(account_id(reader) for reader in given.reader),
            join=given.join,
            genesis=given.genesis,
            advertise=advertised(given.listen, given.advertise),
        )
    except (ConfigError, InvalidId, AddressError) as error:
        parser.error(str(error))
    return config, given.lifeline


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an edge until it is told to stop; the exit code."""
    config, lifeline = parse(sys.argv[1:] if arguments is None else arguments)

    async def work(stop: asyncio.Event) -> None:
        await _serve(config, stop)

    try:
        return run_node(work, name="edge", lifeline=lifeline)
    except KeyboardInterrupt:
        return EXIT_REFUSED


async def _serve(config: EdgeConfig, stop: asyncio.Event) -> None:
    clock = SystemClock()
    try:
        identity = Keystore(config.data_dir / "keys").identity("edge", system_entropy)
    except KeystoreError as error:
        raise NodeError(str(error)) from None
    ledger: Ledger | None = None
    if config.join:
        ledger = await join_as(identity, config.join, config.data_dir, clock, config.genesis)
    members: Members | None = None

    def may_read(account: AccountId) -> bool:
        return account in config.readers or (members is not None and members.is_reader(account))

    transport = NodeTransport(identity, authorise=may_read)
    try:
        node = EdgeNode(config, transport, clock)
        if ledger is None:
            await node.run(stop)
            return
        client = ledger.client(transport)
        members = Members(client, clock, config.data_dir / "members.json")
        ready = asyncio.Event()

        async def register() -> None:
            await ready.wait()
            await register_edge(client, identity, config.advertise or node.address, clock)

        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(members.run()), group.create_task(register())]
            await node.run(stop, ready)
            for helper in helpers:
                helper.cancel()
    finally:
        await transport.close()


def _origin(text: str) -> tuple[AccountId | None, str]:
    if text.startswith("ipc://"):
        return None, text
    return split_identity(text)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="cumulus edge",
        description="Run an edge: a cache of sealed segments between gateways and miners.",
        epilog=_EXAMPLE,
    )
    add_data_dir(parser, "where the cache lies")
    add_join(parser)
    add_listen(parser, 4703)
    parser.add_argument(
        "--origin",
        required=True,
        metavar="ADDRESS",
        help="who has the segments: ID@HOST:PORT of a gateway or another edge, or ipc://PATH",
    )
    parser.add_argument("--max-bytes", default="8GiB", metavar="SIZE", help="disk (0: none)")
    parser.add_argument("--ram-bytes", default="256MiB", metavar="SIZE", help="memory")
    parser.add_argument(
        "--reader", action="append", default=[], metavar="ID", help="who else may read over tcp://"
    )
    parser.add_argument("--lifeline", type=int, metavar="FD", help=argparse.SUPPRESS)
    return parser
