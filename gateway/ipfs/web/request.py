"""An HTTP request on the gateway, parsed once into a typed value. Pure.

https://specs.ipfs.tech/http-gateways/path-gateway/ and trustless-gateway/.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl, quote, quote_from_bytes, unquote_to_bytes, urlsplit

from chain.cids import Cid, InvalidCid
from gateway.ipfs.errors import BadRequest, NotFound
from gateway.ipfs.web.formats import Format, negotiate

PATH_BYTES_MAX = 16 << 10
SEGMENTS_MAX = 256
QUERY_BYTES_MAX = 8 << 10
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SAFE = "/%!$&'()*+,;=:@"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes, before it is parsed."""

    path: bytes  # the content path, percent-encoded: /ipfs/CID/… or /ipns/NAME/…
    query: bytes
    url_path: bytes  # what the client's URL says: another one on subdomains and DNSLink hosts
    # The origin holds this content alone (subdomain, DNSLink): `_redirects` apply.
    isolated: bool = False
    # The host that pages link to for other content: of CID.ipfs.example.com it is example.com, of
    # a DNSLink website the website's own. "" for a path gateway.
    gateway: str = ""


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
class ContentPath:
    """`/ipfs/CID[/path]` or `/ipns/NAME[/path]` as the client asks it."""

    namespace: str  # ipfs or ipns
    root: str  # the CID or name as it was written
    segments: tuple[str, ...]
    trailing_slash: bool

    @property
    def plain(self) -> str:
        """The whole path, decoded."""
        end = "/" if self.trailing_slash else ""
        return "/" + "/".join((self.namespace, self.root, *self.segments)) + end

    @property
    def quoted(self) -> str:
        """The whole path, percent-encoded in its one canonical form (IPIP-548)."""
        return f"/{self.namespace}/{quote(self.root, safe='')}{self.remainder}"

    @property
    def remainder(self) -> str:
        """What follows the root, percent-encoded."""
        end = "/" if self.trailing_slash else ""
        return "".join(f"/{quote(part, safe='')}" for part in self.segments) + end


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """A GET or HEAD of a content path."""

    content: ContentPath
    root: Cid | None  # None under /ipns
    target: Target
    headers: Mapping[bytes, bytes]  # lower-case names
    format: Format
    by_accept: bool  # the format was chosen by the Accept header
    parameters: Mapping[str, str]  # of the accepted type
    html: bool  # the client takes text/html
    car: CarOptions
    filename: str
    download: bool
    is_head: bool
    page_from: str = ""  # where a page of a directory starts
    # Seconds for which the path leads where it led; None: for ever (under /ipfs); 0: not known.
    ttl: int | None = None

    @property
    def name(self) -> str:
        """The last name of the path; empty for a bare root."""
        return self.content.segments[-1] if self.content.segments else ""

    @property
    def content_path(self) -> str:
        """The content path as people read it."""
        return self.content.plain

    @property
    def url_path(self) -> str:
        """The path of the client's URL, percent-encoded, without a slash at the end.

        It begins with one slash: two would name a host.
        """
        if self.target.path == self.target.url_path:
            return self.content.quoted.rstrip("/")
        return "/" + quote_from_bytes(self.target.url_path, safe=_SAFE).strip("/")

    @property
    def query(self) -> str:
        """The query as it came, fit for a header."""
        return quote_from_bytes(self.target.query, safe=_SAFE + "?[]")


def parse_path(target: Target) -> ContentPath:
    """Where a request goes. Raises BadRequest, NotFound."""
    if len(target.path) > PATH_BYTES_MAX or len(target.query) > QUERY_BYTES_MAX:
        raise BadRequest("the URL is too long")
    return _content_path(target.path)


def corrected(target: Target) -> str | None:
    """Where a link leads that names a URI in the query, or its namespace twice; else None.

    `/ipfs/?uri=ipfs://CID/a` comes of registerProtocolHandler. Raises BadRequest.
    """
    if b"uri=" in target.query and target.path in (b"/ipfs/", b"/ipns/"):
        try:
            uri = urlsplit(_query(target.query).get("uri", ""))
        except ValueError:
            raise BadRequest("uri is malformed") from None
        if uri.scheme not in {"ipfs", "ipns"} or not uri.netloc:
            raise BadRequest("uri is to be ipfs://CID/path or ipns://NAME/path")
        path = quote(f"/{uri.scheme}/{uri.netloc}{uri.path}", safe="/%")
        return path + (f"?{quote(uri.query, safe=_SAFE)}" if uri.query else "")
    if target.path.startswith((b"/ipfs/ipfs/", b"/ipfs/ipns/")):
        path = quote_from_bytes(target.path[len(b"/ipfs") :], safe=_SAFE)
        query = quote_from_bytes(target.query, safe=_SAFE)
        return path + (f"?{query}" if query else "")
    return None


def parse_request(
    target: Target, content: ContentPath, headers: Mapping[bytes, bytes], *, is_head: bool = False
) -> GatewayRequest:
    """Parse the rest. `headers` has lower-case names. Raises BadRequest, NotAcceptable."""
    is_worker = headers.get(b"service-worker") == b"script"
    if is_worker and not target.isolated and not content.segments:
        raise BadRequest("navigator.serviceWorker: a worker may not be registered in this scope")
    root = None
    if content.namespace == "ipfs":
        try:
            root = Cid.parse(content.root)
        except InvalidCid as error:
            raise BadRequest(f"invalid path: {error}") from None
    options = _query(target.query) if target.query else {}
    wanted = negotiate(options, headers.get(b"accept", b""))
    car = CarOptions()
    if wanted.format is Format.CAR:
        car = _car_options(options, wanted.parameters)
    return GatewayRequest(
        content,
        root,
        target,
        headers,
        wanted.format,
        wanted.by_accept,
        wanted.parameters,
        wanted.html,
        car,
        filename=options.get("filename", "")[:255],
        download=options.get("download") == "true",
        is_head=is_head,
        page_from=options.get("from", "")[:64],
    )


def _content_path(raw: bytes) -> ContentPath:
    """Decoded once, then cleaned of empty and dot segments (IPIP-548). Raises BadRequest, NotFound.

    So %2F separates, and what is served is what Ipfs-Uri says.
    """
    if b"%" in raw and _ESCAPE.search(raw):
        raise BadRequest("invalid path: a % without two hexadecimal digits")
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest("invalid path: not UTF-8") from None
    if "\x00" in text:
        raise BadRequest("invalid path: it holds NUL")
    cleaned: list[str] = []
    for part in text.split("/"):
        if part == "..":
            del cleaned[-1:]
        elif part not in {"", "."}:
            cleaned.append(part)
    if cleaned[:1] not in (["ipfs"], ["ipns"]):
        raise NotFound("not found: paths start with /ipfs/ or /ipns/")
    if len(cleaned) < 2:
        raise BadRequest("invalid path: no CID or name")
    if len(cleaned) > SEGMENTS_MAX:
        raise BadRequest("invalid path: too many segments")
    namespace, root, *segments = cleaned
    return ContentPath(namespace, root, tuple(segments), text.endswith("/"))


def _query(query: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise BadRequest("invalid query") from None
    options: dict[str, str] = {}
    for name, value in pairs:
        options.setdefault(name, value)
    return options


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
        if last is not None and first > last and (first < 0) == (last < 0):
            raise BadRequest("entity-bytes ends before it begins")
        scope = Scope.ENTITY if "dag-scope" not in options else scope
    return CarOptions(scope, duplicates == "y", first, last)
