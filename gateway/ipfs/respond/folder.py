"""A UnixFS directory: its index.html, or a page that lists it."""

from http import HTTPStatus

from gateway.ipfs import listing
from gateway.ipfs.conditions import etag_matches
from gateway.ipfs.errors import NotFound
from gateway.ipfs.replies import Reply, generated_caching, not_modified
from gateway.ipfs.request import GatewayRequest
from gateway.ipfs.respond.file import file
from gateway.ipfs.serving import Serving
from gateway.ipfs.walk import Folder, Node, Symlink


async def folder(serving: Serving, request: GatewayRequest, found: Folder) -> Reply:
    """The page of a directory; without a slash at the end, the way to it."""
    content = request.content
    if not content.trailing_slash:
        query = f"?{request.query}" if request.query else ""
        return Reply(HTTPStatus.MOVED_PERMANENTLY, {"Location": f"{request.url_path}/{query}"})
    try:
        index = (await serving.walker.resolve(found.cid, ("index.html",))).entity
    except NotFound:
        index = None
    if index is not None and not isinstance(index, Folder | Node | Symlink):
        return await file(serving, request, index, "index.html", found.cid)
    tag = listing.etag(found.cid)
    out = {
        "Content-Type": "text/html; charset=utf-8",
        "Etag": tag,
        **generated_caching(request),
    }
    if etag_matches(request.headers.get(b"if-none-match", b""), [tag, f'"{found.cid}"']):
        return not_modified(out)
    entries = await serving.walker.entries(found)
    limit = serving.config.listing_entries_max
    pieces = listing.page(found.cid, content.root, content.segments, entries, limit)
    return Reply(HTTPStatus.OK, out, b"".join(pieces))
