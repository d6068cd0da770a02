"""`python -m miner`: one miner as a process; all its state is in its own directory."""

import argparse
import asyncio
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from chain.client import LedgerClient
from chain.clock import SystemClock, system_entropy
from chain.ids import InvalidId, account_id
from chain.keys.keystore import Keystore, KeystoreError
from chain.net.zeromq import ZeroMqTransport
from chain.process import EXIT_REFUSED, NodeError, run_node
from miner.config import InvalidConfig, MinerConfig, parse_size
from miner.node import MinerNode
from miner.registrar import LedgerRegistrar
from miner.store.volumes import VolumeStore

# What `--pledge auto` leaves of the file system for everything else.
_AUTO_SHARE = 0.8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a miner; the exit code. Errors of the operator are one line on stderr, code 2."""
    options = _parser().parse_args(arguments)
    try:
        config = _config(options)
    except (InvalidConfig, InvalidId) as error:
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
        store = VolumeStore.open(
            config.data_dir / "fragments",
            pledge=config.pledge,
            clock=clock,
            entropy=system_entropy,
        )
    except (KeystoreError, OSError) as error:
        raise NodeError(f"{config.data_dir}: {error}") from error
    transport = ZeroMqTransport(identity, authorise=config.allowed.__contains__)
    try:
        registrar = None
        if config.ledger:
            registrar = LedgerRegistrar(
                LedgerClient(transport.connect(config.ledger)),
                identity,
                domain=config.domain or f"{identity.id.hex()[:16]}/{config.name}",
                price=config.min_price,
            )
        node = MinerNode(config, transport, clock, store, identity, registrar=registrar)
        await node.run(stop)
    finally:
        await transport.close()
        await store.close()


def _config(options: argparse.Namespace) -> MinerConfig:
    return MinerConfig(
        name=options.name,
        data_dir=options.data_dir,
        listen=options.listen,
        pledge=_pledge(options.pledge, options.data_dir),
        owner=options.owner,
        ledger=options.ledger,
        domain=options.domain,
        min_price=options.min_price,
        advertise=options.advertise,
        allowed=frozenset(account_id(text) for text in options.allow),
    )


def _pledge(text: str, directory: Path) -> int:
    if text != "auto":
        return parse_size(text)
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return int(shutil.disk_usage(existing).free * _AUTO_SHARE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m miner",
        description="Store fragments for a Cumulus network.",
        epilog="example: python -m miner --data-dir /srv/miner --name one "
        "--listen tcp://0.0.0.0:4701 --pledge 500G",
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="everything lives here")
    parser.add_argument("--name", required=True, help="how people call this miner")
    parser.add_argument("--listen", required=True, help="ipc://PATH or tcp://HOST:PORT")
    parser.add_argument("--pledge", default="auto", help="space to pledge: 500M, 8G, 1T or auto")
    parser.add_argument("--ledger", default="", help="address of a ledger node to register with")
    parser.add_argument(
        "--domain", default="", help="what fails together, operator/host/disk (default: alone)"
    )
    parser.add_argument(
        "--min-price", type=int, default=0, help="vote per GiB-month (default: today's price)"
    )
    parser.add_argument("--owner", default="", help="address that knows which objects exist")
    parser.add_argument("--advertise", default="", help="address to register, if not --listen")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="ID", help="who may use it over tcp://"
    )
    parser.add_argument("--lifeline", type=int, help="stop when this descriptor closes")
    return parser
