"""The `cumulus` command. Exit codes: 0 done, 1 failed, 2 wrong use.

Each group of commands is one file of gateway/commands, imported only when it is asked for: what
`cumulus --help` needs is small, so that it answers in a tenth of a second.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

# command -> what it does; its file is gateway/commands/NAME.py.
GROUPS = {
    "up": "run a whole network here",
    "gateway": "run a gateway on a ledger and miners elsewhere",
    "status": "what runs and how it is",
    "account": "users of the store: create, list, show, rotate keys, delete",
    "bucket": "create, ls, rm, public",
    "object": "cp, ls, rm, certificate",
    "catalog": "salvage a damaged one",
    "ipfs": "publish a bucket, see its state",
    "market": "lease, bid, leases, price",
    "doctor": "check this node and say what is wrong",
}
# Single nodes: what follows the name is that layer's own command line.
NODES = {
    "chain": ("run one ledger node", "chain.cli"),
    "miner": ("run one storage miner", "miner.cli"),
    "edge": ("run one edge", "cdn.cli"),
}


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser_for(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """A parser that knows the group that `arguments` name, and the names of the others."""
    parser = Parser(
        prog="cumulus",
        description="The Cumulus Encrypted Storage System.",
        epilog="example: cumulus up",
    )
    parsers = parser.add_subparsers(metavar="COMMAND", parser_class=Parser)
    asked = next((word for word in arguments if not word.startswith("-")), "")
    for name, text in GROUPS.items():
        if name == asked:
            module = importlib.import_module(f"gateway.commands.{name}")
            module.add(parsers)
        else:
            parsers.add_parser(name, help=text)
    for name, (text, _) in NODES.items():
        parsers.add_parser(name, help=text)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in NODES:
        node = importlib.import_module(NODES[given[0]][1])
        code: int = node.main(given[1:])
        return code
    parser = parser_for(given)
    options = parser.parse_args(given)
    if not hasattr(options, "run"):
        parser.print_help()
        return 2
    from gateway.commands.failures import describe  # not for --help

    try:
        code = options.run(options)
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:  # the reader of our output is gone; Python would say so at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - describe() raises what is no user's mistake
        line, code = describe(error)
        print(f"cumulus: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
