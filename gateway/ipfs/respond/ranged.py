"""Bytes of known length: 200, 206, 304 or 416."""

from http import HTTPStatus

from gateway.ipfs.conditions import Unsatisfiable, etag_matches, parse_range
from gateway.ipfs.replies import Reply, not_modified, text
from gateway.ipfs.request import GatewayRequest
from gateway.ipfs.serving import Serving
from gateway.ipfs.stream import content, size_of
from gateway.ipfs.walk import Content


def ranged(
    serving: Serving, request: GatewayRequest, entity: Content, tag: str, out: dict[str, str]
) -> Reply:
    """The reply with the headers `out`; `tag` is the entity tag, with its quotes."""
    out |= {"Etag": tag, "Accept-Ranges": "bytes"}
    headers = request.headers
    if etag_matches(headers.get(b"if-none-match", b""), [tag]):
        return not_modified(out)
    size = size_of(entity)
    wanted = headers.get(b"range", b"")
    if headers.get(b"if-range", tag.encode()) != tag.encode():
        wanted = b""
    try:
        part = parse_range(wanted, size) if wanted else None
    except Unsatisfiable:
        reply = text(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "the range is behind the end")
        reply.headers["Content-Range"] = f"bytes */{size}"
        return reply
    start, end, status = 0, size, HTTPStatus.OK
    if part is not None:
        start, end, status = part.start, part.end, HTTPStatus.PARTIAL_CONTENT
        out["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    out["Content-Length"] = str(end - start)
    return Reply(status, out, content(serving.index, entity, start, end))
