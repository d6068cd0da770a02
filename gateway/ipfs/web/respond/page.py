"""Pages for people: listings of directories, and what is in blocks of IPLD data."""

from collections.abc import Callable
from http import HTTPStatus

from chain.cids import Cid
from gateway.ipfs.web.conditions import etag_matches
from gateway.ipfs.web.pages import HEADERS, Place
from gateway.ipfs.web.replies import Reply, generated_caching, not_modified
from gateway.ipfs.web.request import GatewayRequest


def place(request: GatewayRequest) -> Place:
    """Where a page about this request stands."""
    content, target = request.content, request.target
    return Place(content.namespace, content.root, content.segments, target.isolated, target.gateway)


def to_slash(request: GatewayRequest) -> Reply:
    """Pages end with a slash, so that what is relative in them is below them."""
    query = f"?{request.query}" if request.query else ""
    return Reply(HTTPStatus.MOVED_PERMANENTLY, {"Location": f"{request.url_path}/{query}"})


def page(request: GatewayRequest, cid: Cid, tag: str, make: Callable[[], bytes]) -> Reply:
    """A page that is made of the content; 304 where the client has it, or the content itself."""
    out = {**HEADERS, "Etag": tag, **generated_caching(request)}
    if etag_matches(request.headers.get(b"if-none-match", b""), [tag, f'"{cid}"']):
        return not_modified(out)
    return Reply(HTTPStatus.OK, out, make())
