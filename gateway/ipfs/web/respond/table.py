"""Which function answers which format. A new format is a file beside this one and a row here."""

from collections.abc import Mapping

from gateway.ipfs.errors import NotAcceptable
from gateway.ipfs.web.formats import Format
from gateway.ipfs.web.replies import Reply
from gateway.ipfs.web.request import GatewayRequest
from gateway.ipfs.web.respond import block, car, codec, tar
from gateway.ipfs.web.respond.file import file, symlink
from gateway.ipfs.web.respond.folder import folder
from gateway.ipfs.web.serving import Responder, Serving
from gateway.ipfs.web.walk import Folder, Node, Resolved, Symlink


async def content(serving: Serving, request: GatewayRequest, resolved: Resolved) -> Reply:
    """What a browser gets: files, directories, IPLD data."""
    match resolved.entity:
        case Folder() as found:
            return await folder(serving, request, found)
        case Node() as found:
            return codec.node(serving, request, resolved, found)
        case Symlink() as link:
            return symlink(serving, request, link)
        case entity:
            return await file(serving, request, entity, request.name)


async def plain(serving: Serving, request: GatewayRequest, resolved: Resolved) -> Reply:
    """`json` and `cbor`: IPLD data; UnixFS is what it is, whatever is in its files."""
    if isinstance(resolved.entity, Node):
        return await codec.respond(serving, request, resolved)
    return await content(serving, request, resolved)


# Format.IPNS_RECORD is answered before the name is resolved (NameSystem.record).
RESPONDERS: Mapping[Format, Responder] = {
    Format.CONTENT: content,
    Format.RAW: block.respond,
    Format.CAR: car.respond,
    Format.TAR: tar.respond,
    Format.DAG_JSON: codec.respond,
    Format.DAG_CBOR: codec.respond,
    Format.JSON: plain,
    Format.CBOR: plain,
}


async def respond(serving: Serving, request: GatewayRequest, resolved: Resolved) -> Reply:
    """Answer in the format that was asked for. Raises NotAcceptable where it is not served."""
    responder = RESPONDERS.get(request.format)
    if responder is None:
        served = ", ".join(form.value for form in RESPONDERS if form.value)
        raise NotAcceptable(f"format {request.format.value} is not served here: {served} are")
    return await responder(serving, request, resolved)
