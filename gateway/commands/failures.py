"""What went wrong, in one line and an exit code."""

from chain.net.transport import RemoteError, Unreachable
from gateway.config import ConfigError
from gateway.errors import StoreError
from gateway.network import NotRunning


class Failed(Exception):
    """A command could not do its work: one line, exit code 1."""


class WrongUse(Exception):
    """A command was used wrongly: one line, exit code 2."""


def describe(error: Exception) -> tuple[str, int]:
    """(line, exit code) of a mistake of the user or of the world; raises anything else."""
    if isinstance(error, ConfigError | WrongUse):
        return str(error), 2
    if isinstance(error, Failed | NotRunning):
        return str(error), 1
    if isinstance(error, StoreError):
        return error.text, 1
    if isinstance(error, RemoteError):
        return error.reason or error.code, 1
    if isinstance(error, Unreachable):
        return "the network does not answer: is 'cumulus up' running on this data directory?", 1
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", 1
    raise error
