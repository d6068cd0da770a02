"""A UnixFS file as what it is."""

from gateway.ipfs.blocks import File
from gateway.ipfs.replies import Reply, caching, disposition, media_type, with_charset
from gateway.ipfs.request import GatewayRequest
from gateway.ipfs.respond.ranged import ranged
from gateway.ipfs.serving import Serving
from gateway.ipfs.walk import Content


def file(serving: Serving, request: GatewayRequest, entity: Content, name: str) -> Reply:
    """The bytes of a file that is called `name` ("" for none)."""
    out = {"Content-Type": content_type(entity, request.filename or name), **caching(request)}
    if request.download:
        out["Content-Disposition"] = disposition(
            "attachment", request.filename or name or str(entity.cid)
        )
    elif request.filename:
        out["Content-Disposition"] = disposition("inline", request.filename)
    return ranged(serving, request, entity, f'"{entity.cid}"', out)


def content_type(entity: Content, name: str) -> str:
    """By the name's extension, else what the object says of itself."""
    kind = media_type(name)
    if kind is None:
        kind = "application/octet-stream"
        if isinstance(entity, File):
            own = entity.version.attributes.content_type
            if own != "binary/octet-stream" and own.isascii() and own.isprintable():
                kind = own
    return with_charset(kind)
