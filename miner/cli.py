"""`cumulus miner`: one miner as a process; all its state is in its own directory."""

import argparse
import asyncio
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from chain.clock import SystemClock, system_entropy
from chain.ids import InvalidId, account_id
from chain.join import Ledger, join_as
from chain.keys.identity import Identity
from chain.keys.keystore import Keystore, KeystoreError
from chain.members import Members
from chain.net.address import advertised
from chain.net.nodes import NodeTransport
from chain.net.rpc import AddressError
from chain.net.transport import Transport
from chain.options import Parser, add_data_dir, add_join, add_listen
from chain.process import EXIT_REFUSED, NodeError, run_node
from miner.access import Access
from miner.config import InvalidConfig, MinerConfig, parse_duration, parse_size
from miner.node import MinerNode
from miner.registrar import LedgerRegistrar
from miner.scrub_state import ScrubFile
from miner.store.volumes import VolumeStore

# What `--pledge auto` leaves of the file system for everything else.
_AUTO_SHARE = 0.8
_EXAMPLE = """example:
  cumulus miner --data-dir /srv/miner --join ID@ledger.example:4700 \\
      --listen tcp://0.0.0.0:4701 --advertise miner1.example:4701 --pledge 500G \\
      --domain ann/rack1/disk1"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a miner; the exit code. Errors of the operator are one line on stderr, code 2."""
    options = _parser().parse_args(arguments)
    try:
        config = _config(options)
    except (InvalidConfig, InvalidId, AddressError) as error:
        sys.stderr.write(f"miner: {error}\n")
        return EXIT_REFUSED

    async def run(stop: asyncio.Event) -> None:
        await _serve(config, stop)

    return run_node(run, name=f"miner-{config.name}", lifeline=options.lifeline)


async def _serve(config: MinerConfig, stop: asyncio.Event) -> None:
    clock = SystemClock()
    try:
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = Keystore(config.data_dir / "keys").identity("miner", system_entropy)
    except (KeystoreError, OSError) as error:
        raise NodeError(f"{config.data_dir}: {error}") from error
    ledger: Ledger | None = None
    if config.join:
        ledger = await join_as(identity, config.join, config.data_dir, clock, config.genesis)
    try:
        store = VolumeStore.open(
            config.data_dir / "fragments",
            pledge=config.pledge,
            clock=clock,
            entropy=system_entropy,
        )
    except OSError as error:
        raise NodeError(f"{config.data_dir}: {error}") from error
    access = Access(config.allowed)
    transport = NodeTransport(identity, authorise=lambda account: access.may_read(account))
    try:
        if ledger is not None and config.listen.startswith("tcp://"):
            members = Members(ledger.client(transport), clock, config.data_dir / "members.json")
            access = Access(config.allowed, members)
        registrar = _registrar(config, ledger, transport, identity)
        node = MinerNode(
            config,
            transport,
            clock,
            store,
            identity,
            registrar=registrar,
            access=access,
            in_place=store.in_place,
            scrub=ScrubFile(config.data_dir / "scrub.json"),
        )
        await node.run(stop)
    finally:
        await transport.close()
        await store.close()


def _registrar(
    config: MinerConfig, ledger: Ledger | None, transport: Transport, identity: Identity
) -> LedgerRegistrar | None:
    if ledger is None:
        return None
    domain = config.domain or f"{identity.id.hex()[:16]}/{config.name}"
    return LedgerRegistrar(
        ledger.client(transport), identity, domain=domain, price=config.min_price
    )


def _config(options: argparse.Namespace) -> MinerConfig:
    return MinerConfig(
        name=options.name,
        data_dir=options.data_dir,
        listen=options.listen,
        pledge=_pledge(options.pledge, options.data_dir),
        owner=options.owner,
        join=options.join,
        genesis=options.genesis,
        domain=options.domain,
        min_price=options.min_price,
        advertise=advertised(options.listen, options.advertise),
        allowed=frozenset(account_id(text) for text in options.allow),
        scrub_rate=parse_size(options.scrub_rate),
        scrub_cycle=parse_duration(options.scrub_cycle),
    )


def _pledge(text: str, directory: Path) -> int:
    if text != "auto":
        return parse_size(text)
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return int(shutil.disk_usage(existing).free * _AUTO_SHARE)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="cumulus miner",
        description="Store fragments for a Cumulus network: for the gateways on its ledger.",
        epilog=_EXAMPLE,
    )
    add_data_dir(parser, "everything lives here")
    add_join(parser)
    add_listen(parser, 4701)
    parser.add_argument(
        "--pledge",
        default="auto",
        metavar="SIZE",
        help="space to pledge: 500M, 8G, 1T (default: four fifths of what is free)",
    )
    parser.add_argument(
        "--domain", default="", help="what fails together, operator/host/disk (default: alone)"
    )
    parser.add_argument(
        "--min-price",
        type=int,
        default=0,
        metavar="UNITS",
        help="vote, units of 10^-8 token per GiB-month (default: today's price)",
    )
    parser.add_argument("--name", default="miner", help="what its log lines say (default miner)")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="ID", help="who else may use it over tcp://"
    )
    parser.add_argument(
        "--scrub-rate",
        default="20M",
        metavar="SIZE",
        help="read at most so much a second to check what is stored; 0: never (default 20M)",
    )
    parser.add_argument(
        "--scrub-cycle",
        default="14d",
        metavar="TIME",
        help="time in which everything is checked once: 12h, 14d (default 14d)",
    )
    parser.add_argument("--owner", default="", help=argparse.SUPPRESS)  # its own machine's gateway
    parser.add_argument("--lifeline", type=int, help=argparse.SUPPRESS)
    return parser
