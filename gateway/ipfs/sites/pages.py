"""What a website says of a page that is not there: its `_redirects`, or an ipfs-404.html."""

from http import HTTPStatus

from chain.cids import Cid
from gateway.ipfs.errors import IpfsError, NotFound
from gateway.ipfs.sites import redirects
from gateway.ipfs.sites.redirects import BadRedirects, Redirect, Rule
from gateway.ipfs.web.replies import Reply
from gateway.ipfs.web.request import ContentPath, GatewayRequest
from gateway.ipfs.web.serving import Rewrite, Serving
from gateway.ipfs.web.stream import content, size_of
from gateway.ipfs.web.walk import Content, Folder, Node, Symlink

_FILE = "_redirects"
_NOT_FOUND_PAGE = "ipfs-404.html"


async def missing_page(
    serving: Serving, request: GatewayRequest, path: ContentPath
) -> Rewrite | Reply | None:
    """What to serve in place of `path` (under /ipfs); None: 404. Raises BadRedirects."""
    root = Cid.parse(path.root)
    rules = await _rules(serving, root)
    if rules is None:
        return await _not_found_page(serving, request, path)
    found = redirects.answer(rules, path.segments, request.query)
    if found is None:
        return await _not_found_page(serving, request, path)
    if isinstance(found, Redirect):
        return Reply(found.status, {"Location": found.location})
    slash = path.trailing_slash and found.status == HTTPStatus.OK
    return Rewrite(ContentPath("ipfs", path.root, found.path, slash), found.status)


async def _rules(serving: Serving, root: Cid) -> tuple[Rule, ...] | None:
    """The rules of a content root; None if it has none. Raises BadRedirects."""
    file = await _file(serving, root, (_FILE,))
    if file is None:
        return None
    size = min(size_of(file), redirects.FILE_BYTES_MAX + 1)
    data = b"".join([bytes(part) async for part in content(serving.reader, file, 0, size)])
    return redirects.parse(data)


async def _not_found_page(
    serving: Serving, request: GatewayRequest, path: ContentPath
) -> Rewrite | None:
    """An ipfs-404.html of the nearest directory above, for browsers."""
    accept = request.headers.get(b"accept", b"")
    if not any(kind in accept for kind in (b"text/html", b"*/*", b"text/*")):
        return None
    for depth in range(len(path.segments), -1, -1):
        place = (*path.segments[:depth], _NOT_FOUND_PAGE)
        if await _file(serving, Cid.parse(path.root), place) is not None:
            return Rewrite(ContentPath("ipfs", path.root, place, False), HTTPStatus.NOT_FOUND)
    return None


async def _file(serving: Serving, root: Cid, path: tuple[str, ...]) -> Content | None:
    try:
        entity = (await serving.walker.resolve(root, path)).entity
    except NotFound:
        return None
    except IpfsError as error:
        if path == (_FILE,):
            raise BadRedirects(f"could not parse _redirects: {error}") from None
        return None
    if isinstance(entity, Folder | Node | Symlink):
        if path == (_FILE,):
            raise BadRedirects("could not parse _redirects: it is no file")
        return None
    return entity
