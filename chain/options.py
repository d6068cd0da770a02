"""Command-line pieces that every node's own command shares."""

import argparse
import os
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line; the epilog keeps its line breaks."""

    def __init__(self, *, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def add_data_dir(parser: argparse.ArgumentParser, text: str) -> None:
    """`--data-dir DIR`, or CUMULUS_DATA_DIR; an absolute path."""
    given = os.environ.get("CUMULUS_DATA_DIR")
    parser.add_argument(
        "--data-dir",
        type=_directory,
        required=not given,
        default=given,
        metavar="DIR",
        help=f"{text} (CUMULUS_DATA_DIR)",
    )


def add_join(parser: argparse.ArgumentParser) -> None:
    """`--join` and `--genesis`: which ledger, and who it must prove to be."""
    parser.add_argument(
        "--join",
        default="",
        metavar="ADDRESS",
        help="a ledger node: ID@HOST:PORT as 'cumulus chain' printed it; HOST:PORT with --genesis",
    )
    parser.add_argument(
        "--genesis", type=Path, metavar="FILE", help="a copy of the ledger's chain/genesis.json"
    )


def add_listen(parser: argparse.ArgumentParser, port: int) -> None:
    """`--listen` and `--advertise`: where the node is served, and where others reach it."""
    address = f"tcp://127.0.0.1:{port}"
    parser.add_argument(
        "--listen",
        default=address,
        metavar="ADDRESS",
        help=f"ipc://PATH or tcp://HOST:PORT (default {address})",
    )
    parser.add_argument(
        "--advertise", default="", metavar="HOST:PORT", help="where others reach it, if elsewhere"
    )


def _directory(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
