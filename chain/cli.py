"""`python -m chain`: one ledger node."""

import argparse
import asyncio
from pathlib import Path

from chain.clock import SystemClock, system_entropy
from chain.config import ChainConfig
from chain.ids import InvalidId, account_id
from chain.keys.identity import Identity
from chain.net.zeromq import ZeroMqTransport
from chain.node import opened
from chain.process import run_node

EXAMPLE = """example:
  python -m chain --data-dir ~/cumulus --listen ipc:///run/cumulus/chain.ipc
"""


def main(argv: list[str] | None = None) -> int:
    """Run a ledger node until it is told to stop; the process's exit code."""
    options = _parser().parse_args(argv)
    try:
        operator = None if options.operator is None else account_id(options.operator)
    except InvalidId as error:
        _parser().error(f"--operator: {error}")
    config = ChainConfig(
        data_dir=options.data_dir.expanduser(),
        listen=options.listen,
        operator=operator,
        epoch_seconds=options.epoch_seconds,
        block_seconds=options.block_seconds,
    )

    async def run(stop: asyncio.Event) -> None:
        with opened(config, _transport, SystemClock(), system_entropy) as node:
            await node.run(stop)

    return run_node(run, name="chain", lifeline=options.lifeline)


def _transport(identity: Identity) -> ZeroMqTransport:
    # The ledger is public: whoever proves an identity may read it and send transactions.
    return ZeroMqTransport(identity, authorise=lambda _: True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chain",
        description="A ledger node with one validator.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--listen", required=True, metavar="ADDRESS", help="ipc://PATH or tcp://HOST:PORT"
    )
    parser.add_argument("--lifeline", type=int, metavar="FD", help="leave at its end-of-file")
    parser.add_argument(
        "--operator", metavar="ID", help="first start: the account that owns the network"
    )
    parser.add_argument(
        "--epoch-seconds", type=_epoch_seconds, default=3600, metavar="N", help="first start"
    )
    parser.add_argument(
        "--block-seconds", type=_block_seconds, default=0.2, metavar="S", help="at most 1"
    )
    return parser


def _epoch_seconds(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 30 * 86400:
        raise argparse.ArgumentTypeError("1 to 2592000")
    return value


def _block_seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("0 to 1")
    return value
