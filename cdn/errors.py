"""Why an edge refuses. The codes travel in RemoteError; docs/specs/edge.md lists them."""

from chain.net.transport import RemoteError

BAD_REQUEST = "BadRequest"
UNAVAILABLE = "Unavailable"
BUSY = "Busy"


class ConfigError(ValueError):
    """An option has a value it cannot have."""


def bad_request(reason: str) -> RemoteError:
    """The request breaks the protocol's limits."""
    return RemoteError(BAD_REQUEST, reason)
