"""`cumulus bucket limit` and `cumulus account limit`: the same options and the same answer."""

import argparse

from gateway.commands.failures import WrongUse
from gateway.commands.session import ask, network_of, show, size_text
from gateway.protocol import LimitState, SetLimits
from gateway.values import parse_size

# Counting what a bucket of millions of objects holds takes a while.
COUNT_SECONDS = 600.0


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--bytes", metavar="SIZE", help="10GiB; off: no limit")
    parser.add_argument("--requests", metavar="N", help="a second, over all; off: no limit")


def set_limits(options: argparse.Namespace, *, bucket: str = "", account: str = "") -> int:
    """Set what is given, and print what is so."""
    message = SetLimits(account, bucket, _size(options.bytes), _count(options.requests))
    state = ask(network_of(options), message, COUNT_SECONDS)
    return show(options, state, lambda: _text(state))


def _size(text: str | None) -> int | None:
    if text in (None, "off"):
        return None if text is None else 0
    try:
        return parse_size(text)
    except ValueError as error:
        raise WrongUse(f"--bytes {text}: {error}") from None


def _count(text: str | None) -> int | None:
    if text in (None, "off"):
        return None if text is None else 0
    assert text is not None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise WrongUse(f"--requests {text}: a number is expected, or off")
    return int(text)


def _text(state: LimitState) -> str:
    size = size_text(state.bytes) if state.bytes else "no limit"
    held = "" if state.used is None else f", {size_text(state.used)} held"
    rate = f"{state.requests} a second" if state.requests else "no limit"
    return f"bytes     {size}{held}\nrequests  {rate}"
