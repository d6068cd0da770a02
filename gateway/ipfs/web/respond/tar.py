"""`application/x-tar`: a UnixFS file or directory with all that is below it (IPIP-288)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus

from chain.net.transport import Buffer
from gateway.ipfs.codecs import dagpb, tar, unixfs
from gateway.ipfs.errors import BlockError, NotAcceptable
from gateway.ipfs.web.conditions import etag_matches
from gateway.ipfs.web.directory_pages import in_order
from gateway.ipfs.web.formats import MEDIA_TYPES, Format
from gateway.ipfs.web.replies import Reply, caching, disposition, not_modified
from gateway.ipfs.web.request import GatewayRequest
from gateway.ipfs.web.serving import Serving
from gateway.ipfs.web.stream import content, size_of
from gateway.ipfs.web.walk import Entity, FileNode, Folder, Node, Resolved, Symlink, Walker

_DEPTH_MAX = 256
# What comes before is checked before the status is sent: a small tar comes whole or not at all.
_PIECE = 64 << 10


async def respond(serving: Serving, request: GatewayRequest, resolved: Resolved) -> Reply:
    """The tar. Raises NotAcceptable for what is no UnixFS, NotFound, StoreError."""
    cid = resolved.roots[-1]
    if isinstance(resolved.entity, Node):
        raise NotAcceptable(f"{cid} is no UnixFS: it has no tar, use CAR instead")
    tag = f'W/"{cid}.x-tar"'
    out = {
        "Content-Type": MEDIA_TYPES[Format.TAR],
        "Content-Disposition": disposition("attachment", request.filename or f"{cid}.tar"),
        "Accept-Ranges": "none",
        "Etag": tag,
        **caching(request),
    }
    if etag_matches(request.headers.get(b"if-none-match", b""), [tag]):
        return not_modified(out)
    archive = Archive(serving.walker, str(cid))
    return Reply(HTTPStatus.OK, out, _in_pieces(archive.parts(resolved.entity)))


class Archive:
    """The parts of one tar, depth first."""

    def __init__(self, walker: Walker, top: str) -> None:
        self._walker = walker
        self._top = top
        self._names = tar.Names(top)

    async def parts(self, entity: Entity) -> AsyncGenerator[Buffer, None]:
        """All parts. Raises IpfsError, BlockError, StoreError when it cannot go on."""
        stack: list[tuple[str, AsyncGenerator[dagpb.Link, None]]] = []
        path, child = self._top, entity
        try:
            while True:
                async with aclosing(self._entry(path, child)) as parts:
                    async for part in parts:
                        yield part
                if isinstance(child, Folder):
                    if len(stack) == _DEPTH_MAX:
                        raise NotAcceptable("the directory is too deep for a tar")
                    stack.append((path, in_order(self._walker, child)))
                link = None
                while stack and (link := await anext(stack[-1][1], None)) is None:
                    stack.pop()
                if link is None:
                    break
                path = self._names.path(stack[-1][0], link.name)
                child = await self._walker.entity(link.cid)
        finally:
            for _, links in stack:
                await links.aclose()
        yield tar.END

    async def _entry(self, path: str, entity: Entity) -> AsyncGenerator[Buffer, None]:
        """One entry: its header, and the bytes of a file."""
        mode, mtime = _attributes(entity)
        if isinstance(entity, Folder):
            yield tar.directory(path, mode, mtime)
        elif isinstance(entity, Symlink):
            self._names.add_link(path)
            yield tar.link(path, entity.target, mtime)
        elif isinstance(entity, Node):
            raise NotAcceptable(f"{entity.cid} is no UnixFS: it is in no tar, use CAR instead")
        else:
            size = size_of(entity)
            yield tar.file(path, size, mode, mtime)
            left = size
            async with aclosing(content(self._walker.reader, entity, 0, size)) as pieces:
                async for piece in pieces:
                    left -= len(piece)
                    yield piece
            assert not left, "a stream of content is as long as its size"
            yield tar.padding(size)


def _attributes(entity: Entity) -> tuple[int | None, tar.Time | None]:
    """(mode, mtime) where UnixFS has them."""
    if not isinstance(entity, Folder | FileNode | Symlink):
        return None, None
    try:
        data = unixfs.decode(dagpb.decode(entity.block).data or b"")
    except BlockError:
        return None, None
    return data.mode, data.mtime


async def _in_pieces(parts: AsyncGenerator[Buffer, None]) -> AsyncGenerator[Buffer, None]:
    """The same bytes in pieces that are worth a message; large ones are passed on."""
    waiting = bytearray()
    async with aclosing(parts):
        async for part in parts:
            if len(part) >= _PIECE:
                if waiting:
                    yield bytes(waiting)
                    waiting.clear()
                yield part
                continue
            waiting += part
            if len(waiting) >= _PIECE:
                yield bytes(waiting)
                waiting.clear()
    if waiting:
        yield bytes(waiting)
