"""`python -m cdn`: one edge in the foreground."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from cdn.config import EdgeConfig, parse_size
from cdn.errors import ConfigError
from cdn.node import EdgeNode
from chain.clock import SystemClock, system_entropy
from chain.ids import InvalidId, account_id
from chain.keys.keystore import Keystore, KeystoreError
from chain.net.zeromq import ZeroMqTransport
from chain.process import EXIT_REFUSED, NodeError, run_node

_EXAMPLE = """example:
  python -m cdn --data-dir edge --listen tcp://0.0.0.0:4702 --reader GATEWAY_ID \\
      --origin tcp://gateway.example:4703 --origin-identity GATEWAY_ID --max-bytes 100GiB"""


def parse(arguments: Sequence[str]) -> tuple[EdgeConfig, int | None]:
    """The configuration, and the lifeline. Exits with 2 on wrong use, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python -m cdn",
        description="Run an edge: a cache of sealed segments between gateways and miners.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="where the cache lies")
    parser.add_argument("--listen", required=True, metavar="ADDRESS", help="ipc:// or tcp://")
    parser.add_argument("--origin", required=True, metavar="ADDRESS", help="who has the segments")
    parser.add_argument("--origin-identity", metavar="ID", help="its id (tcp:// only)")
    parser.add_argument("--max-bytes", default="8GiB", metavar="SIZE", help="disk (0: none)")
    parser.add_argument("--ram-bytes", default="256MiB", metavar="SIZE", help="memory")
    parser.add_argument(
        "--reader", action="append", default=[], metavar="ID", help="who may read over tcp://"
    )
    parser.add_argument("--lifeline", type=int, metavar="FD", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        config = EdgeConfig(
            data_dir=given.data_dir,
            listen=given.listen,
            origin=given.origin,
            origin_identity=account_id(given.origin_identity) if given.origin_identity else None,
            max_bytes=parse_size(given.max_bytes),
            ram_bytes=parse_size(given.ram_bytes),
            readers=frozenset(account_id(reader) for reader in given.reader),
        )
    except (ConfigError, InvalidId) as error:
        parser.error(str(error))
    return config, given.lifeline


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an edge until it is told to stop; the exit code."""
    config, lifeline = parse(sys.argv[1:] if arguments is None else arguments)

    async def work(stop: asyncio.Event) -> None:
        try:
            identity = Keystore(config.data_dir / "keys").identity("edge", system_entropy)
        except KeystoreError as error:
            raise NodeError(str(error)) from None
        transport = ZeroMqTransport(identity, authorise=config.readers.__contains__)
        try:
            await EdgeNode(config, transport, SystemClock()).run(stop)
        finally:
            await transport.close()

    try:
        return run_node(work, name="edge", lifeline=lifeline)
    except KeyboardInterrupt:
        return EXIT_REFUSED
