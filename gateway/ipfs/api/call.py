"""One call of a command, parsed: arguments, options, body. Pure but for the body's bytes.

`/api/v0/COMMAND/SUBCOMMAND?arg=A&arg=B&option=value`, as Kubo reads it: an option may come by a
short name, a switch without a value is on, what a command does not know is ignored.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from chain.net.transport import Buffer
from gateway.ipfs.api.errors import BadCall, UnknownCommand

PREFIX = b"/api/v0/"
QUERY_BYTES_MAX = 32 << 10
FIELDS_MAX = 1024
_COMMAND = re.compile(rb"[a-z0-9-]+(/[a-z0-9-]+){0,3}")
_TRUE, _FALSE = {"", "1", "t", "true", "TRUE", "True"}, {"0", "f", "false", "FALSE", "False"}
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Call:
    """What the client asked for. `bucket` is where a token writes; "": the default."""

    command: str
    arguments: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    body: AsyncIterator[Buffer] | None = None
    bucket: str = ""

    def argument(self, at: int, name: str) -> str:
        """A required argument. Raises BadCall."""
        if at >= len(self.arguments):
            raise BadCall(f'argument "{name}" is required')
        return self.arguments[at]

    def text(self, *names: str, default: str = "") -> str:
        """An option by any of its names."""
        return next((self.options[name] for name in names if name in self.options), default)

    def flag(self, *names: str, default: bool = False) -> bool:
        """A switch. Raises BadCall."""
        value = self.text(*names, default="1" if default else "0")
        if value not in _TRUE | _FALSE:
            raise BadCall(
                f'could not convert value {value[:40]!r} to bool (for option "{names[0]}")'
            )
        return value in _TRUE

    def is_set(self, *names: str) -> bool:
        """Whether the option was given."""
        return any(name in self.options for name in names)

    def number(self, *names: str, default: int = 0, least: int = 0) -> int:
        """A number from `least` on. Raises BadCall."""
        value = self.text(*names, default=str(default))
        if not _NUMBER.fullmatch(value):
            raise BadCall(
                f'could not convert value {value[:40]!r} to int (for option "{names[0]}")'
            )
        if int(value) < least:
            raise BadCall(f"{names[0]} is at least {least}")
        return int(value)


def parse_command(path: bytes) -> str:
    """The command that a path names. Raises UnknownCommand."""
    name = path[len(PREFIX) :].rstrip(b"/")
    if not path.startswith(PREFIX) or not _COMMAND.fullmatch(name):
        raise UnknownCommand("404 page not found")
    return name.decode("ascii")


def parse_query(query: bytes) -> tuple[tuple[str, ...], dict[str, str]]:
    """(arguments, options); of an option that comes twice the last is taken. Raises BadCall."""
    if len(query) > QUERY_BYTES_MAX:
        raise BadCall("the query is too long")
    if _ESCAPE.search(query):
        raise BadCall("invalid URL escape in the query")
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=FIELDS_MAX,
            errors="strict",
        )
    except ValueError:
        raise BadCall("the query is not UTF-8, or has too many fields") from None
    if any("\x00" in value for _, value in pairs):
        raise BadCall("an argument holds NUL")
    arguments = tuple(value for name, value in pairs if name == "arg")
    return arguments, {name: value for name, value in pairs if name != "arg"}


@dataclass(frozen=True, slots=True)
class Value:
    """One JSON document."""

    value: Any


@dataclass(frozen=True, slots=True)
class Lines:
    """JSON documents, one a line, as they come."""

    values: AsyncGenerator[Any, None]


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes as they come; `size` where it is known."""

    body: AsyncGenerator[Buffer, None]
    content_type: str = "text/plain"
    size: int | None = None


Reply = Value | Lines | Data


async def each(values: Iterable[Any]) -> AsyncGenerator[Any, None]:
    """Values that are known, as they come."""
    for value in values:
        yield value


async def whole(data: bytes) -> AsyncGenerator[Buffer, None]:
    """Bytes that are known, as they come."""
    yield data
