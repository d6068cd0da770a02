"""`application/vnd.ipld.car`: blocks of a DAG (IPIP-402, 412, 523)."""

import hashlib
from http import HTTPStatus

from gateway.ipfs.web.car_stream import CarWriter
from gateway.ipfs.web.conditions import etag_matches
from gateway.ipfs.web.replies import Reply, caching, disposition, not_modified
from gateway.ipfs.web.request import GatewayRequest
from gateway.ipfs.web.serving import Serving
from gateway.ipfs.web.walk import Resolved


async def respond(serving: Serving, request: GatewayRequest, resolved: Resolved) -> Reply:
    """The CAR of what the path leads to, with the blocks that lead there."""
    root, cid, options = resolved.roots[0], resolved.roots[-1], request.car
    asked = repr((root.raw, resolved.path, options)).encode("utf-8", "replace")
    tag = f'W/"{cid}.car.{hashlib.sha256(asked).hexdigest()[:16]}"'
    duplicates = "y" if options.duplicates else "n"
    name = "_".join([str(root), *resolved.path[-1:]]) + ".car"
    out = {
        "Content-Type": f"application/vnd.ipld.car; version=1; order=dfs; dups={duplicates}",
        "Content-Disposition": disposition("attachment", request.filename or name),
        "Accept-Ranges": "none",
        "Etag": tag,
        **caching(request),
    }
    if etag_matches(request.headers.get(b"if-none-match", b""), [tag]):
        return not_modified(out)
    return Reply(HTTPStatus.OK, out, CarWriter(serving.walker, options).frames(resolved))
