"""Values as people write them, in a file, an option or the environment: raw in, checked out.

Every parser raises ValueError with what is expected.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from miner.config import parse_duration
from miner.config import parse_size as size_from_text

_LIST_MAX = 256


def parse_port(raw: object) -> int:
    """0..65535; 0 takes a free one."""
    number = _whole(raw)
    if not 0 <= number <= 65535:
        raise ValueError("a port is 0 (any free one) to 65535")
    return number


def parse_size(raw: object) -> int:
    """Bytes from 4096, `500M`, `8GiB`, `1T`: binary units, as for a single miner."""
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise ValueError("a size is a number of bytes or like 500M, 64GiB")
    return size_from_text(str(raw))


def parse_seconds(raw: object) -> float:
    """Seconds from 600, `10min`, `1.5h`."""
    return parse_duration(str(raw))


def parse_period(raw: object) -> float:
    """Seconds as `parse_seconds`, more than 0."""
    seconds = parse_seconds(raw)
    if not seconds:
        raise ValueError("it is longer than 0 s")
    return seconds


def parse_bool(raw: object) -> bool:
    """TOML's true and false; in the environment also 1, 0, yes, no, on, off."""
    word = str(raw).lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("say true or false")


def parse_text(raw: object) -> str:
    """A string without control characters, at most 1,024 characters."""
    if not isinstance(raw, str) or len(raw) > 1024 or not raw.isprintable():
        raise ValueError("a line of printable text is expected")
    return raw


def parse_texts(raw: object) -> tuple[str, ...]:
    """A list of strings; in the environment separated by commas."""
    items = [p.strip() for p in raw.split(",")] if isinstance(raw, str) else raw
    if not isinstance(items, list | tuple) or len(items) > _LIST_MAX:
        raise ValueError("a list of texts is expected")
    return tuple(parse_text(item) for item in items if item != "")


def parse_table(raw: object) -> dict[str, str]:
    """A TOML table of text; in the environment `name=value,name=value`."""
    if isinstance(raw, str):
        pairs = [item.partition("=") for item in raw.split(",") if item]
        if any(not sep for _, sep, _ in pairs):
            raise ValueError("name=value pairs are expected")
        raw = {name.strip(): value.strip() for name, _, value in pairs}
    if not isinstance(raw, Mapping) or len(raw) > 10_000:
        raise ValueError("a table of name = text is expected")
    return {parse_text(name): parse_text(value) for name, value in raw.items()}


def parse_links(raw: object) -> dict[str, str]:
    """A table of domain names and the content paths that they lead to."""
    links = parse_table(raw)
    for name, path in links.items():
        if not path.startswith(("/ipfs/", "/ipns/")):
            raise ValueError(f"{name}: /ipfs/CID or /ipns/NAME is expected")
    return links


def parse_resolver(raw: object) -> str:
    """`off`, or the https:// address of a DNS resolver that answers in JSON."""
    text = parse_text(raw)
    if text != "off" and not (text.startswith("https://") and urlsplit(text).hostname):
        raise ValueError("it is off, or the https:// address of a resolver")
    return text


def parse_path(raw: object) -> Path:
    """An absolute path; `~` is the home directory."""
    text = parse_text(str(raw) if isinstance(raw, Path) else raw)
    if not text:
        raise ValueError("a path is expected")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def parse_paths(raw: object) -> tuple[Path, ...]:
    """A list of paths; in the environment separated by commas."""
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, list | tuple) or len(items) > _LIST_MAX:
        raise ValueError("a list of paths is expected")
    return tuple(parse_path(item) for item in items)


def _whole(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and re.fullmatch(r"\d{1,12}", raw, re.ASCII):
        return int(raw)
    raise ValueError("a whole number is expected")


def parse_between(low: int, high: int) -> Callable[[object], int]:
    """A parser of whole numbers from `low` to `high`."""

    def parse(raw: object) -> int:
        number = _whole(raw)
        if not low <= number <= high:
            raise ValueError(f"it is {low} to {high}")
        return number

    return parse


def parse_choice(*choices: str) -> Callable[[object], str]:
    """A parser of one of `choices`."""

    def parse(raw: object) -> str:
        if raw not in choices:
            raise ValueError(f"it is one of {', '.join(choices)}")
        return str(raw)

    return parse


def optional(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    """A parser that lets None through."""
    return lambda raw: None if raw is None else parse(raw)
