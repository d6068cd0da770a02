"""Responses of the gateway before their first byte, and the headers that many share. Pure."""

import mimetypes
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

from chain.cids import Cid, InvalidCid
from chain.net.transport import Buffer
from gateway.catalog.interface import CatalogUnavailable
from gateway.errors import StoreError
from gateway.ipfs.errors import BlockError, IpfsError, NotFound, NotHere, Unresolved
from gateway.ipfs.ipns.name import InvalidName, IpnsName
from gateway.ipfs.web import error_page
from gateway.ipfs.web.pages import HEADERS
from gateway.ipfs.web.request import ContentPath, GatewayRequest

_IMMUTABLE = "public, max-age=29030400, immutable"
_STALE = "stale-while-revalidate=2678400"
_mime = mimetypes.MimeTypes()  # its own tables: the same on every machine


@dataclass(slots=True)
class Reply:
    """A response before its first byte: status, headers, body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: AsyncGenerator[Buffer, None] | bytes = b""
    sentence: str = ""  # what went wrong, in the words of `body`


def text(status: HTTPStatus, sentence: str, **headers: str) -> Reply:
    """A sentence for people."""
    safe = sentence.encode("utf-8", "replace") + b"\n"
    return Reply(
        status,
        {
            "Content-Type": "text/plain; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **headers,
        },
        safe,
        sentence,
    )


def for_browser(reply: Reply) -> None:
    """Make a page of a sentence that says what went wrong."""
    if reply.sentence and reply.status >= HTTPStatus.BAD_REQUEST:
        reply.headers |= HEADERS
        reply.body = error_page.page(reply.status, reply.sentence)


def refusal(error: Exception, only_if_cached: bool) -> Reply:
    """The reply to what could not be served."""
    match error:
        case NotFound() | Unresolved() if only_if_cached:
            return text(NotHere.status, str(error))
        case IpfsError():
            return text(error.status, str(error), **error.headers)
        case StoreError():
            return text(error.status, error.text, **{"Retry-After": "1"})
        case CatalogUnavailable():
            return text(
                HTTPStatus.SERVICE_UNAVAILABLE, "the catalog is away", **{"Retry-After": "1"}
            )
        case BlockError():  # what others made; that we stored it well is checked below
            return text(HTTPStatus.NOT_ACCEPTABLE, f"the content cannot be read: {error}")
        case _:
            raise error


def not_modified(headers: dict[str, str]) -> Reply:
    """304 for what a 200 with these headers would be."""
    kept = {name: v for name, v in headers.items() if name in {"Etag", "Cache-Control"}}
    return Reply(HTTPStatus.NOT_MODIFIED, kept)


def caching(request: GatewayRequest) -> dict[str, str]:
    """Cache-Control of content: for ever under /ipfs, for the name's time under /ipns."""
    if request.ttl is None:
        return {"Cache-Control": _IMMUTABLE}
    return {"Cache-Control": f"public, max-age={request.ttl}"} if request.ttl else {}


def generated_caching(request: GatewayRequest) -> dict[str, str]:
    """Cache-Control of a page that this program makes of content: never for ever."""
    if request.ttl == 0:
        return {}
    seconds = 604800 if request.ttl is None else request.ttl
    return {"Cache-Control": f"public, max-age={seconds}, {_STALE}"}


def told_of(content: ContentPath) -> dict[str, str]:
    """Ipfs-Uri (IPIP-548), and X-Ipfs-Path where the path is fit for a header."""
    told = {}
    plain = content.plain
    if plain.isascii() and plain.isprintable():
        told["X-Ipfs-Path"] = plain
    root = canonical_root(content)
    if root is not None:
        told["Ipfs-Uri"] = f"{content.namespace}://{root}{content.remainder}"
    return told


def canonical_root(content: ContentPath) -> str | None:
    """The authority of an Ipfs-Uri: a CIDv1 in base32, a key, or a host name in small letters."""
    if content.namespace == "ipns":
        with suppress(InvalidName):
            return str(IpnsName.parse(content.root))
        name = content.root.lower().rstrip(".")
        return name if "." in name and name.isascii() and ".." not in name else None
    try:
        cid = Cid.parse(content.root)
    except InvalidCid:
        return None
    if cid.raw[:1] == b"\x12":
        cid = Cid.of(cid.codec, cid.hash_code, cid.digest)
    return str(cid)


def disposition(kind: str, name: str) -> str:
    """RFC 6266: an ASCII name for old clients, the true one beside it."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in name)
    return (
        f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
    )


def media_type(name: str) -> str | None:
    """Content-Type by a file name's extension."""
    kind, encoding = _mime.guess_type(f"x/{name}")
    return "application/gzip" if encoding == "gzip" else kind


def with_charset(kind: str) -> str:
    """Text is UTF-8 unless it says otherwise."""
    return f"{kind}; charset=utf-8" if kind.startswith("text/") and "charset" not in kind else kind
