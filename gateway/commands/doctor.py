"""`cumulus doctor`: checks a node and says in words what is wrong."""

import argparse

from chain.clock import SystemClock
from gateway.commands.options import Parsers, action
from gateway.commands.session import data_dir_of, show
from gateway.commands.status import collect
from gateway.doctor import Level, examine

_MARKS = {Level.OK: "ok  ", Level.WARNING: "warn", Level.FAILURE: "FAIL"}


def add(parsers: Parsers) -> None:
    """Declare the command."""
    action(parsers, "doctor", doctor, "check this node and say what is wrong", "cumulus doctor")


def doctor(options: argparse.Namespace) -> int:
    """Print every finding; exit code 1 when one is a failure."""
    found = examine(data_dir_of(options), SystemClock(), collect)
    plain = [{"check": f.check, "level": f.level.value, "text": f.text} for f in found]
    show(options, plain, lambda: "\n".join(f"{_MARKS[f.level]}  {f.text}" for f in found))
    return 1 if any(f.level is Level.FAILURE for f in found) else 0
