"""A UnixFS directory: its index.html, or a page that lists it."""

from gateway.ipfs.errors import NotFound
from gateway.ipfs.web import directory_pages, listing
from gateway.ipfs.web.replies import Reply
from gateway.ipfs.web.request import GatewayRequest
from gateway.ipfs.web.respond.file import file
from gateway.ipfs.web.respond.page import page, place, to_slash
from gateway.ipfs.web.serving import Serving
from gateway.ipfs.web.walk import Folder, Node, Symlink


async def folder(serving: Serving, request: GatewayRequest, found: Folder) -> Reply:
    """The page of a directory; without a slash at the end, the way to it."""
    if not request.content.trailing_slash:
        return to_slash(request)
    try:
        index = (await serving.walker.resolve(found.cid, ("index.html",))).entity
    except NotFound:
        index = None
    if index is not None and not isinstance(index, Folder | Node | Symlink):
        return await file(serving, request, index, "index.html", found.cid)
    start, limit = request.page_from, serving.config.listing_entries_max
    entries, more = await directory_pages.page(serving.walker, found, start, limit)
    size = len(found.block) + sum(link.size for link in found.links)
    return page(
        request,
        found.cid,
        listing.etag(found.cid),
        lambda: listing.page(found.cid, place(request), size, entries, start=start, more=more),
    )
