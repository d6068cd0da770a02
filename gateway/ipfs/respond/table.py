"""Which function answers which format. A new format is a file beside this one and a row here."""

from collections.abc import Mapping

from gateway.ipfs.errors import NotAcceptable
from gateway.ipfs.formats import Format
from gateway.ipfs.replies import Reply
from gateway.ipfs.request import GatewayRequest
from gateway.ipfs.respond import block, car
from gateway.ipfs.respond.file import file
from gateway.ipfs.respond.folder import folder
from gateway.ipfs.serving import Responder, Serving
from gateway.ipfs.walk import Folder, Node, Resolved


async def content(serving: Serving, request: GatewayRequest, resolved: Resolved) -> Reply:
    """What a browser gets: files, directories."""
    match resolved.entity:
        case Folder() as found:
            return await folder(serving, request, found)
        case Node(cid=cid):
            raise NotAcceptable(f"{cid} is no UnixFS: ask for raw or car")
        case entity:
            return file(serving, request, entity, request.name)


# Format.IPNS_RECORD is answered before the name is resolved (NameSystem.record).
RESPONDERS: Mapping[Format, Responder] = {
    Format.CONTENT: content,
    Format.RAW: block.respond,
    Format.CAR: car.respond,
}


async def respond(serving: Serving, request: GatewayRequest, resolved: Resolved) -> Reply:
    """Answer in the format that was asked for. Raises NotAcceptable where it is not served."""
    responder = RESPONDERS.get(request.format)
    if responder is None:
        served = ", ".join(form.value for form in RESPONDERS if form.value)
        raise NotAcceptable(f"format {request.format.value} is not served here: {served} are")
    return await responder(serving, request, resolved)
