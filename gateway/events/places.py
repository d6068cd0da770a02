"""Places outside that an operator names, and users choose among: `[notify]` and `[replication]`.

Pure, and free of heavy imports: the command line reads it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar
from urllib.parse import urlsplit

PLACES_MAX = 100
BATCH_MAX = 100
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where notifications are posted."""

    url: str
    token: str = field(default="", repr=False)  # Authorization: Bearer TOKEN; with a space, as is
    ca: str = ""  # PEM file of the authority that is trusted instead of the system's
    batch: int = 1  # records of one document, at most

    def __post_init__(self) -> None:
        _check_url(self.url)
        if not 1 <= self.batch <= BATCH_MAX:
            raise ValueError(f"batch is 1 to {BATCH_MAX}")
        if not self.token.isascii() or not self.token.isprintable():
            raise ValueError("a token is printable ASCII")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An S3 endpoint that objects are replicated to."""

    url: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    ca: str = ""

    def __post_init__(self) -> None:
        _check_url(self.url)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise ValueError("url is http://… or https://… without spaces, user and password")
    if parts.port == 0:
        raise ValueError("a port is 1 to 65535")


def parse_webhooks(raw: object) -> dict[str, Webhook]:
    """NAME -> Webhook of TOML tables; in the environment `NAME=URL,NAME=URL`."""
    if isinstance(raw, str):
        pairs = [item.strip().partition("=") for item in raw.split(",") if item.strip()]
        raw = {name: {"url": url} for name, _, url in pairs}
    return _places(raw, Webhook)


def parse_endpoints(raw: object) -> dict[str, Endpoint]:
    """NAME -> Endpoint of TOML tables."""
    return _places(raw, Endpoint)


def _places(raw: object, make: Callable[..., T]) -> dict[str, T]:
    if not isinstance(raw, Mapping) or len(raw) > PLACES_MAX:
        raise ValueError(f"up to {PLACES_MAX} tables are expected")
    found = {}
    for name, values in raw.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{str(name)[:64]!r}: a name is letters, digits, - and _")
        try:
            found[name] = make(**_checked(values, make))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def _checked(values: object, make: Any) -> dict[str, Any]:
    """A table's values if they are of the right types and all that is needed."""
    if not isinstance(values, Mapping):
        raise ValueError("a table is expected")
    known = {row.name: row for row in fields(make)}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"unknown setting {name}")
        if type(value) is not known[name].type:
            raise ValueError(f"{name} is of another type")
    url_first = ["url", "access_key", "secret_key"]
    missing = [name for name in url_first if name in known and not values.get(name)]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return dict(values)
