"""`cumulus chain`: one ledger node; its account's id and transfers."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from chain.client import LedgerClient
from chain.clock import SystemClock, system_entropy
from chain.config import OPERATOR, ChainConfig
from chain.errors import LedgerError
from chain.format import StoreError
from chain.ids import InvalidId, account_id
from chain.join import Ledger, join
from chain.keys.identity import Identity
from chain.keys.keystore import Keystore, KeystoreError
from chain.ledger.transactions.accounts import Transfer
from chain.net.address import advertised, is_everywhere, with_identity
from chain.net.nodes import NodeTransport
from chain.net.rpc import AddressError
from chain.net.transport import RemoteError, Unreachable
from chain.node import ChainNode, opened
from chain.options import Parser, add_data_dir, add_join, add_listen
from chain.process import EXIT_CRASH, EXIT_OK, EXIT_REFUSED, NodeError, run_node
from chain.repair import repair
from chain.tokens import parse_tokens, tokens_text

log = logging.getLogger(__name__)

EXAMPLE = """example:
  cumulus chain --data-dir /srv/cumulus --listen tcp://0.0.0.0:4700 --advertise ledger.example:4700

Other nodes join with the line that it prints, --join ID@HOST:PORT, or with --join HOST:PORT and
--genesis FILE, a copy of DIR/chain/genesis.json: a node is only spoken to when it proves to be the
validator that is named.

also:
  cumulus chain repair --data-dir DIR           make a damaged ledger again from its blocks
  cumulus chain id --data-dir DIR               the account of this directory; made on first use
  cumulus chain transfer TO AMOUNT --data-dir DIR"""


def main(argv: list[str] | None = None) -> int:
    """Run a ledger node until it is told to stop, or one command; the exit code."""
    words = sys.argv[1:] if argv is None else argv
    commands = {"id": show_id, "transfer": transfer, "repair": repair_ledger}
    if not words or words[0] not in commands:
        return run(words)
    try:
        return commands[words[0]](words[1:])
    except (NodeError, KeystoreError, AddressError, StoreError) as error:
        print(f"cumulus chain {words[0]}: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except (LedgerError, RemoteError, Unreachable) as error:
        print(f"cumulus chain {words[0]}: {error}", file=sys.stderr)
        return EXIT_CRASH


# ---------------------------------------------------------------- the node
def run(words: list[str]) -> int:
    """One ledger node in the foreground."""
    parser = _node_parser()
    options = parser.parse_args(words)
    data_dir = options.data_dir
    try:
        told = advertised(options.listen, options.advertise)
        owner = None if options.operator is None else account_id(options.operator)
        if owner is None and not (data_dir / "chain" / "genesis.json").exists():
            owner = Keystore(data_dir / "keys").identity(OPERATOR, system_entropy).id
    except (AddressError, InvalidId, KeystoreError) as error:
        parser.error(str(error))
    config = ChainConfig(
        data_dir=data_dir,
        listen=options.listen,
        operator=owner,
        epoch_seconds=options.epoch_seconds,
        block_seconds=options.block_seconds,
    )

    async def work(stop: asyncio.Event) -> None:
        with opened(config, _transport, SystemClock(), system_entropy) as node:
            ready = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(_announce(node, config, told, options.genesis_copy, ready))
                await node.run(stop, ready)
            config.address_file.unlink(missing_ok=True)

    return run_node(work, name="chain", lifeline=options.lifeline)


def _transport(identity: Identity) -> NodeTransport:
    # The ledger is public: whoever proves an identity may read it and send transactions.
    return NodeTransport(identity, authorise=lambda _: True)


async def _announce(
    node: ChainNode, config: ChainConfig, told: str, copy: Path | None, ready: asyncio.Event
) -> None:
    """Once it listens: files for this machine, a line for other machines."""
    await ready.wait()
    here = node.address
    if is_everywhere(here):
        here = f"tcp://127.0.0.1:{here.rpartition(':')[2]}"
    _leave_files(config, here, copy)
    if here.startswith("tcp://"):
        print(f"join with --join {with_identity(node.identity, told or here)}", flush=True)


def _leave_files(config: ChainConfig, address: str, copy: Path | None) -> None:
    try:
        config.address_file.write_text(address + "\n")
    except OSError as error:  # a full disk: the ledger can be read all the same
        log.warning("%s: %s", error.filename, error.strerror)
    try:
        if copy is not None:
            copy.write_bytes(config.genesis_file.read_bytes())
    except OSError as error:
        raise NodeError(f"{error.filename}: {error.strerror}") from None


def _node_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="cumulus chain", description="Run a ledger node with one validator.", epilog=EXAMPLE
    )
    add_data_dir(parser, "everything lives here")
    add_listen(parser, 4700)
    parser.add_argument(
        "--genesis-copy", type=Path, metavar="FILE", help="where others take the genesis from"
    )
    parser.add_argument("--lifeline", type=int, metavar="FD", help=argparse.SUPPRESS)
    parser.add_argument(
        "--operator",
        metavar="ID",
        help="first start: the account that owns the network (default: that of DIR/keys)",
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


# ---------------------------------------------------------------- the account
def show_id(words: list[str]) -> int:
    """Print the id of the directory's account on the ledger."""
    options = _command_parser(
        "id",
        "Show the id of this directory's account on the ledger; it is made on first use.",
        "cumulus chain id --data-dir /srv/gateway",
    ).parse_args(words)
    print(_account(options.data_dir).id.hex())
    return EXIT_OK


def repair_ledger(words: list[str]) -> int:
    """Make the directory's ledger again from its blocks."""
    parser = Parser(
        prog="cumulus chain repair",
        description="Make a damaged ledger again from its blocks; the network must be stopped.",
        epilog="example: cumulus chain repair --data-dir /srv/cumulus",
    )
    add_data_dir(parser, "the directory of the network, or of the ledger node")
    directory = parser.parse_args(words).data_dir / "chain"
    height = repair(directory)
    print(f"made again up to height {height}; the damaged files: {directory}/ledger/lmdb.damaged")
    return EXIT_OK


def transfer(words: list[str]) -> int:
    """Pay tokens from the directory's account to another."""
    parser = _command_parser(
        "transfer",
        "Pay tokens from this directory's account to another, which this opens.",
        "cumulus chain transfer 3f…c2 100 --data-dir /srv/cumulus",
    )
    parser.add_argument("to", metavar="TO", help="an account id, 64 hexadecimal digits")
    parser.add_argument("amount", metavar="AMOUNT", help="tokens, like 12.5")
    add_join(parser)
    options = parser.parse_args(words)
    try:
        to, units = account_id(options.to), parse_tokens(options.amount)
    except ValueError as error:
        parser.error(f"TO AMOUNT: {error}")
    payer = _account(options.data_dir)

    async def pay(client: LedgerClient) -> int:
        await client.submit(payer, Transfer(to=to, amount=units))
        return (await client.account(payer.id)).balance

    left = asyncio.run(_with_ledger(options, payer, pay))
    print(f"paid {tokens_text(units)} tokens to {to.hex()}; {tokens_text(left)} are left")
    return EXIT_OK


async def _with_ledger(
    options: argparse.Namespace, identity: Identity, use: Callable[[LedgerClient], Awaitable[int]]
) -> int:
    data_dir = options.data_dir
    where = options.join or _own_node(data_dir)
    transport = NodeTransport(identity)
    try:
        ledger: Ledger = await join(where, data_dir, transport, SystemClock(), options.genesis)
        return await use(ledger.client(transport))
    finally:
        await transport.close()


def _own_node(data_dir: Path) -> str:
    try:
        return (data_dir / "chain" / "address").read_text().strip()
    except OSError:
        raise NodeError(
            f"no ledger node runs on {data_dir}: say --join ID@HOST:PORT of one"
        ) from None


def _account(data_dir: Path) -> Identity:
    return Keystore(data_dir / "keys").identity(OPERATOR, system_entropy)


def _command_parser(name: str, text: str, example: str) -> argparse.ArgumentParser:
    parser = Parser(prog=f"cumulus chain {name}", description=text, epilog=f"example: {example}")
    add_data_dir(parser, "the directory whose keys/operator.key it is")
    return parser
