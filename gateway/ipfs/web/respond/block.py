"""`application/vnd.ipld.raw`: one block as it is."""

from gateway.ipfs.index.blocks import Inline, Leaf
from gateway.ipfs.web.replies import Reply, caching, disposition
from gateway.ipfs.web.request import GatewayRequest
from gateway.ipfs.web.respond.ranged import ranged
from gateway.ipfs.web.serving import Serving
from gateway.ipfs.web.walk import Resolved


async def respond(serving: Serving, request: GatewayRequest, resolved: Resolved) -> Reply:
    """The block at the end of the path. Raises NotFound."""
    cid = resolved.roots[-1]
    entity = resolved.entity
    block = entity if isinstance(entity, Inline | Leaf) else entity.block
    if isinstance(block, bytes):
        block = Inline(cid, block)
    out = {
        "Content-Type": "application/vnd.ipld.raw",
        "Content-Disposition": disposition("attachment", request.filename or f"{cid}.bin"),
        **caching(request),
    }
    return ranged(serving, request, block, f'"{cid}.raw"', out)
