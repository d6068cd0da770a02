"""Options that several commands share."""

import argparse

from gateway.config import ROWS


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Every setting that has a command-line option; values stay raw for gateway.config.resolve."""
    add_data_dir(parser)
    parser.add_argument("--config", metavar="FILE", help="settings as TOML (DIR/cumulus.toml)")
    for name, row in ROWS.items():
        flag, text = row.metadata["flag"], row.metadata["help"]
        if not flag:
            continue
        if isinstance(row.default, bool):
            parser.add_argument(flag, dest=name, action="store_true", default=None, help=text)
        elif isinstance(row.default, tuple):
            parser.add_argument(flag, dest=name, action="append", metavar="X", help=text)
        else:
            shown = "" if row.default in (None, "") else f" (default {row.default})"
            parser.add_argument(flag, dest=name, metavar="X", help=text.replace("%", "%%") + shown)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Where the network lives."""
    parser.add_argument("--data-dir", metavar="DIR", help="the network's data (CUMULUS_DATA_DIR)")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Output for machines."""
    parser.add_argument("--json", action="store_true", help="print JSON")
