"""A UnixFS file as what it is."""

from chain.cids import Cid
from gateway.ipfs.errors import BlockError, NotFound
from gateway.ipfs.index.blocks import File, Inline
from gateway.ipfs.index.reader import BlockReader
from gateway.ipfs.web import sniff
from gateway.ipfs.web.replies import Reply, caching, disposition, media_type, with_charset
from gateway.ipfs.web.request import GatewayRequest
from gateway.ipfs.web.respond.ranged import has_range, ranged
from gateway.ipfs.web.serving import Serving
from gateway.ipfs.web.stream import content, size_of
from gateway.ipfs.web.walk import Content, FileNode, Symlink


async def file(
    serving: Serving, request: GatewayRequest, entity: Content, name: str, root: Cid | None = None
) -> Reply:
    """The bytes of a file that is called `name` ("" for none).

    `root`: the directory that it stands for, whose CID is then the entity tag.
    """
    tag = f'"{root or entity.cid}"'
    kind = content_type(entity, request.filename or name)
    # Of a whole file the first bytes tell when they are there (app.py); else they are read for it.
    if kind is None and (request.is_head or has_range(request, tag)):
        kind = await _sniffed(serving.reader, entity)
    out = caching(request)
    if kind is not None:
        out["Content-Type"] = with_charset(kind)
    if request.download:
        saved = request.filename or name or str(entity.cid)
        out["Content-Disposition"] = disposition("attachment", saved)
    elif request.filename:
        out["Content-Disposition"] = disposition("inline", request.filename)
    modified = entity.mtime[0] if isinstance(entity, FileNode) and entity.mtime else None
    return ranged(serving, request, entity, tag, out, modified)


def symlink(serving: Serving, request: GatewayRequest, entity: Symlink) -> Reply:
    """Where a symbolic link points. It is not followed."""
    out = {"Content-Type": "inode/symlink", **caching(request)}
    modified = entity.mtime[0] if entity.mtime else None
    target = Inline(entity.cid, entity.target)
    return ranged(serving, request, target, f'"{entity.cid}"', out, modified)


def content_type(entity: Content, name: str) -> str | None:
    """By the name's extension, else what the object says of itself."""
    kind = media_type(name)
    if kind is None and isinstance(entity, File):
        own = entity.version.attributes.content_type
        if own != "binary/octet-stream" and own.isascii() and own.isprintable():
            return own
    return kind


async def _sniffed(reader: BlockReader, entity: Content) -> str:
    start = b""
    try:
        async for part in content(reader, entity, 0, min(size_of(entity), sniff.BYTES)):
            start += part
    except (NotFound, BlockError):  # a range of a file whose beginning is not here
        return "application/octet-stream"
    return sniff.media_type(start)
