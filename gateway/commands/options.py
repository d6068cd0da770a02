"""Options that several commands share."""

import argparse
from collections.abc import Callable, Set
from typing import Any

from gateway.config import ROWS

# What argparse calls the object that makes subcommands.
Parsers = Any
Run = Callable[[argparse.Namespace], int]


def group(parsers: Parsers, name: str, text: str, example: str) -> Parsers:
    """A command with subcommands; without one it prints its help and ends with code 2."""
    parser = parsers.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example: {example}",
    )

    def usage(_: argparse.Namespace) -> int:
        parser.print_help()
        return 2

    parser.set_defaults(run=usage)
    return parser.add_subparsers(metavar="ACTION")


def action(
    parsers: Parsers, name: str, run: Run, text: str, example: str
) -> argparse.ArgumentParser:
    """One thing to do, with `--data-dir`, `--json` and an example in its help."""
    parser: argparse.ArgumentParser = parsers.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example: {example}",
    )
    add_data_dir(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Where the network lives."""
    parser.add_argument("--data-dir", metavar="DIR", help="the network's data (CUMULUS_DATA_DIR)")


def add_config_options(parser: argparse.ArgumentParser, without: Set[str]) -> None:
    """Every setting that has a command-line option; values stay raw for gateway.config.resolve."""
    add_data_dir(parser)
    parser.add_argument("--config", metavar="FILE", help="settings as TOML (DIR/cumulus.toml)")
    for name, row in ROWS.items():
        flag, text = row.metadata["flag"], row.metadata["help"]
        if not flag or name in without:
            continue
        if isinstance(row.default, bool):
            parser.add_argument(flag, dest=name, action="store_true", default=None, help=text)
        elif isinstance(row.default, tuple):
            parser.add_argument(flag, dest=name, action="append", metavar="X", help=text)
        else:
            shown = "" if row.default in (None, "") else f" (default {row.default})"
            parser.add_argument(flag, dest=name, metavar="X", help=text + shown)
