"""An HTTP request on the path gateway, parsed once into a typed value. Pure.

https://specs.ipfs.tech/http-gateways/path-gateway/ and trustless-gateway/.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl, quote_from_bytes, unquote_to_bytes

from chain.cids import Cid, InvalidCid
from gateway.ipfs.errors import BadRequest, NotAcceptable, NotFound, NotSupported

PATH_BYTES_MAX = 16 << 10
SEGMENTS_MAX = 256
QUERY_BYTES_MAX = 8 << 10
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Format(Enum):
    """What the client wants of the content."""

    CONTENT = ""
    RAW = "raw"
    CAR = "car"


class Scope(Enum):
    """`dag-scope` of a CAR (IPIP-402)."""

    ALL = "all"
    ENTITY = "entity"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class CarOptions:
    """What goes into a CAR."""

    scope: Scope = Scope.ALL
    duplicates: bool = False
    first: int = 0  # entity-bytes: negative counts from the end
    last: int | None = None  # inclusive; None is the end


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """A GET or HEAD of `/ipfs/CID[/path]`."""

    root: Cid
    root_text: str  # as the client wrote it
    path: tuple[str, ...]
    trailing_slash: bool
    raw_path: str  # percent-encoded, as it came
    query: str
    format: Format
    by_accept: bool  # the format was chosen by the Accept header
    car: CarOptions
    filename: str
    download: bool


def parse_request(raw_path: bytes, query: bytes, headers: Mapping[bytes, bytes]) -> GatewayRequest:
    """Parse. `headers` has lower-case names. Raises BadRequest, NotFound, NotSupported, …"""
    if len(raw_path) > PATH_BYTES_MAX or len(query) > QUERY_BYTES_MAX:
        raise BadRequest("the URL is too long")
    if raw_path.startswith(b"/ipns/"):
        raise NotSupported("IPNS names are not served here")
    if not raw_path.startswith(b"/ipfs/"):
        raise NotFound("not found: paths start with /ipfs/")
    if headers.get(b"service-worker") == b"script":
        raise BadRequest("navigator.serviceWorker: a worker may not be registered in this scope")
    segments = _segments(raw_path[len(b"/ipfs/") :])
    try:
        root = Cid.parse(segments[0])
    except InvalidCid as error:
        raise BadRequest(f"invalid path: {error}") from None
    options = _query(query)
    wanted, by_accept, parameters = _format(options, headers.get(b"accept", b""))
    return GatewayRequest(
        root=root,
        root_text=segments[0],
        path=tuple(part for part in segments[1:] if part),
        trailing_slash=len(segments) > 1 and segments[-1] == "",
        raw_path=quote_from_bytes(raw_path, safe="/%!$&'()*+,;=:@"),
        query=query.decode("latin-1"),
        format=wanted,
        by_accept=by_accept,
        car=_car_options(options, parameters) if wanted is Format.CAR else CarOptions(),
        filename=options.get("filename", "")[:255],
        download=options.get("download") == "true",
    )


def _segments(raw: bytes) -> list[str]:
    if _ESCAPE.search(raw):
        raise BadRequest("invalid path: a % without two hexadecimal digits")
    parts = raw.split(b"/")
    if len(parts) > SEGMENTS_MAX:
        raise BadRequest("invalid path: too many segments")
    try:
        segments = [unquote_to_bytes(part).decode("utf-8") for part in parts]
    except UnicodeDecodeError:
        raise BadRequest("invalid path: not UTF-8") from None
    if any("\x00" in part or "/" in part for part in segments):
        raise BadRequest("invalid path: a segment holds / or NUL")
    return segments


def _query(query: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise BadRequest("invalid query") from None
    options: dict[str, str] = {}
    for name, value in pairs:
        options.setdefault(name, value)
    return options


_RAW, _CAR = "application/vnd.ipld.raw", "application/vnd.ipld.car"


def _format(options: Mapping[str, str], accept: bytes) -> tuple[Format, bool, dict[str, str]]:
    """(format, chosen by Accept?, parameters of the accepted type). The query wins."""
    accepted = _accept(accept)
    name = options.get("format")
    if name is not None:
        if name not in {"raw", "car"}:
            raise NotAcceptable(f"format {name[:40]!r} is not served here: raw and car are")
        wanted = Format(name)
        media = _RAW if wanted is Format.RAW else _CAR
        return wanted, False, next((p for t, p in accepted if t == media), {})
    for media, parameters in accepted:
        if media == _RAW:
            return Format.RAW, True, {}
        if media == _CAR:
            return Format.CAR, True, parameters
        if media.startswith(("application/vnd.ipfs.", "application/vnd.ipld.")):
            raise NotAcceptable(f"{media[:80]} is not served here")
    return Format.CONTENT, False, {}


def _accept(header: bytes) -> list[tuple[str, dict[str, str]]]:
    """Media types with their parameters, in order; at most 32."""
    out = []
    for item in header.decode("latin-1").split(",")[:32]:
        media, *parameters = item.split(";")
        pairs = (parameter.partition("=") for parameter in parameters[:16])
        values = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        out.append((media.strip().lower(), values))
    return out


def _car_options(options: Mapping[str, str], parameters: Mapping[str, str]) -> CarOptions:
    def option(name: str, default: str) -> str:
        return options.get(f"car-{name}", parameters.get(name, default))

    if option("version", "1") != "1":
        raise BadRequest("only CAR version 1 is served")
    if option("order", "dfs") not in {"dfs", "unk"}:
        raise BadRequest("CAR order is dfs or unk")
    duplicates = option("dups", "n")
    if duplicates not in {"y", "n"}:
        raise BadRequest("CAR dups is y or n")
    try:
        scope = Scope(options.get("dag-scope", "all"))
    except ValueError:
        raise BadRequest("dag-scope is all, entity or block") from None
    first, last = 0, None
    if "entity-bytes" in options:
        match = re.fullmatch(r"(-?[0-9]{1,18}):(-?[0-9]{1,18}|\*)", options["entity-bytes"])
        if match is None:
            raise BadRequest("entity-bytes is FROM:TO, numbers or *")
        first = int(match[1])
        last = None if match[2] == "*" else int(match[2])
        scope = Scope.ENTITY if "dag-scope" not in options else scope
    return CarOptions(scope, duplicates == "y", first, last)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes [start, end) of `size`."""

    start: int
    end: int
    size: int


class Unsatisfiable(Exception):
    """416: the range starts behind the end."""


def parse_range(header: bytes, size: int) -> ByteRange | None:
    """The one range of a Range header; None where the whole is to be sent (RFC 9110 §14.2).

    Several ranges at once are answered by the whole, as §14.2 allows. Raises Unsatisfiable.
    """
    match = re.fullmatch(rb"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*", header)
    if match is None or (not match[1] and not match[2]):
        return None
    if not match[1]:
        length = int(match[2])
        if length == 0 or size == 0:
            raise Unsatisfiable
        return ByteRange(max(0, size - length), size, size)
    start = int(match[1])
    end = int(match[2]) + 1 if match[2] else max(size, start + 1)
    if end <= start:
        return None
    if start >= size:
        raise Unsatisfiable
    return ByteRange(start, min(end, size), size)


def etag_matches(header: bytes, etags: Sequence[str]) -> bool:
    """If-None-Match, weak comparison (RFC 9110 §13.1.2)."""
    for item in header.decode("latin-1").split(",")[:64]:
        tag = item.strip()
        if tag == "*" or tag.removeprefix("W/") in {t.removeprefix("W/") for t in etags}:
            return True
    return False
