"""`cumulus gateway`: S3, IPFS and the catalog here; the ledger and the miners elsewhere."""

import argparse
import asyncio
import os

from chain.clock import SystemClock
from gateway.commands.options import Parsers, add_config_options
from gateway.commands.up import up
from gateway.config import LOCAL_ROWS, ConfigError, resolve

EXAMPLE = (
    "cumulus gateway --data-dir ./gateway --join ID@ledger.example:4700"
    " --listen tcp://0.0.0.0:4702 --advertise gateway.example:4702"
)


def add(parsers: Parsers) -> None:
    """Declare the command."""
    parser = parsers.add_parser(
        "gateway",
        help="run a gateway on a ledger and miners elsewhere",
        description="Run a gateway whose ledger and miners are other nodes. It stores once its"
        " account on the ledger (cumulus chain id) has a lease (cumulus market lease).",
        epilog=f"example: {EXAMPLE}",
    )
    add_config_options(parser, LOCAL_ROWS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 after an orderly end. Raises ConfigError."""
    config = resolve(vars(options), os.environ)
    if not config.join:
        raise ConfigError("--join ID@HOST:PORT is needed: the line that 'cumulus chain' printed")
    if config.join.startswith("ipc://"):
        raise ConfigError(f"--join {config.join}: ID@HOST:PORT is expected")
    return asyncio.run(up(config, SystemClock()))
