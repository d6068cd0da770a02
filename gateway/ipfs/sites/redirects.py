"""`_redirects` of a website: parse and match. Pure.

https://specs.ipfs.tech/http-gateways/web-redirects-file/ (IPIP-2, IPIP-386). One rule a line:
FROM TO [STATUS]. FROM may hold placeholders (`/:year/`) and end with a splat (`*`); TO may use both
(`:year`, `:splat`). The first rule that matches counts. Rules are asked only for a path that is
not there, and only where the website has an origin of its own.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import quote, unquote, urlsplit

from gateway.ipfs.errors import IpfsError

FILE_BYTES_MAX = 64 << 10
STATUSES = frozenset({200, 301, 302, 303, 307, 308, 404, 410, 451})
_SCHEMES = ("http", "https", "ipfs", "ipns")
_SAFE = "/%!$&'()*+,;=:@?#[]~"
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadRedirects(IpfsError):
    """The website's `_redirects` cannot be used."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(frozen=True, slots=True)
class Rule:
    """A line."""

    segments: tuple[str, ...]  # of FROM; `:name` is a placeholder
    splat: bool
    to: str
    status: int

    def match(self, path: tuple[str, ...]) -> dict[str, str] | None:
        """What placeholders (and `splat`) stand for; None if the path is another. Decoded."""
        count = len(self.segments)
        # A splat stands for one segment at least, as Kubo has it.
        if not (len(path) > count if self.splat else len(path) == count):
            return None
        values = {}
        for mine, theirs in zip(self.segments, path, strict=False):
            if mine.startswith(":"):
                values[mine[1:]] = theirs
            elif mine != theirs:
                return None
        values["splat"] = "/".join(path[count:])
        return values


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the client elsewhere."""

    status: int
    location: str


@dataclass(frozen=True, slots=True)
class Page:
    """Serve another page of the website under this status (200, 404, 410, 451)."""

    status: int
    path: tuple[str, ...]


@lru_cache(maxsize=64)
def parse(data: bytes) -> tuple[Rule, ...]:
    """The rules in order. Raises BadRedirects."""
    if len(data) > FILE_BYTES_MAX:
        raise _bad(f"redirects file size cannot exceed {FILE_BYTES_MAX} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("not UTF-8") from None
    lines = (line.strip() for line in text.split("\n"))
    return tuple(_rule(line) for line in lines if line and not line.startswith("#"))


def answer(rules: tuple[Rule, ...], path: tuple[str, ...], query: str) -> Redirect | Page | None:
    """What the first rule that matches says of a path (decoded segments); None: no rule does.

    `query` goes on to where a redirect leads.
    """
    for rule in rules:
        values = rule.match(path)
        if values is None:
            continue
        if 301 <= rule.status <= 308:
            to = _filled(rule.to, {name: quote(value, safe="/") for name, value in values.items()})
            return Redirect(rule.status, _with_query(quote(to, safe=_SAFE), query))
        if not rule.to.startswith("/"):
            return None  # pages of other origins are not fetched
        target = urlsplit("http://site" + rule.to).path
        parts = unquote(target, errors="replace").split("/") if "%" in target else target.split("/")
        filled = [_filled(part, values) for part in parts]
        return Page(rule.status, tuple(part for part in "/".join(filled).split("/") if part))
    return None


def _rule(line: str) -> Rule:
    parts = line.split()
    if len(parts) < 2:
        raise _bad("missing 'to' path")
    if len(parts) > 3:
        raise _bad("must match format 'from to [status]'")
    source, to = parts[0], parts[1]
    status = _status(parts[2]) if len(parts) == 3 else 301
    if not source.startswith("/"):
        raise _bad("parsing 'from': path must begin with '/'")
    if "*" in source and not source.endswith("*"):
        raise _bad("parsing 'from': path must end with asterisk")
    if source.count("*") > 1:
        raise _bad("parsing 'from': path can have at most one asterisk")
    if _ESCAPE.search(source) or _ESCAPE.search(to):
        raise _bad("invalid URL escape")
    if not to.startswith("/"):
        try:
            scheme = urlsplit(to).scheme
        except ValueError:
            scheme = ""
        if scheme not in _SCHEMES:
            raise _bad("parsing 'to': invalid URL scheme")
    segments = tuple(part for part in unquote(source).split("/") if part)
    splat = segments[-1:] == ("*",)
    return Rule(segments[:-1] if splat else segments, splat, to, status)


def _status(text: str) -> int:
    if text.endswith("!"):
        raise _bad(f'parsing status {text!r}: forced redirects (or "shadowing") are not supported')
    if not (text.isascii() and text.isdigit() and int(text[:9]) in STATUSES and len(text) == 3):
        raise _bad(f"parsing status {text[:20]!r}: status code is not supported")
    return int(text)


def _bad(why: str) -> BadRedirects:
    return BadRedirects(f"could not parse _redirects: {why}")


def _filled(text: str, values: dict[str, str]) -> str:
    """Placeholders replaced, once: what a client wrote is never read as one."""
    if ":" not in text:
        return text
    return _names(tuple(values)).sub(lambda match: values[match[1]], text)


@lru_cache(maxsize=256)
def _names(names: tuple[str, ...]) -> re.Pattern[str]:
    longest = sorted(names, key=len, reverse=True)
    return re.compile(":(" + "|".join(map(re.escape, longest)) + ")")


def _with_query(location: str, query: str) -> str:
    if not query:
        return location
    head, mark, fragment = location.partition("#")
    return f"{head}{'&' if '?' in head else '?'}{query}{mark}{fragment}"
