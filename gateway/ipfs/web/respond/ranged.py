"""Bytes of known length: 200, 206 (one part or several), 304 or 416."""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus

from chain.cids import RAW
from chain.net.transport import Buffer
from gateway.ipfs.errors import NotSupported
from gateway.ipfs.index.blocks import File, Leaf
from gateway.ipfs.index.reader import BlockReader
from gateway.ipfs.web import sniff
from gateway.ipfs.web.conditions import (
    ByteRange,
    Unsatisfiable,
    etag_matches,
    http_date,
    is_unmodified,
    parse_ranges,
)
from gateway.ipfs.web.replies import Reply, not_modified, text, with_charset
from gateway.ipfs.web.request import GatewayRequest
from gateway.ipfs.web.serving import Serving
from gateway.ipfs.web.stream import content, size_of
from gateway.ipfs.web.walk import Content


def ranged(
    serving: Serving,
    request: GatewayRequest,
    entity: Content,
    tag: str,
    out: dict[str, str],
    modified: int | None = None,
) -> Reply:
    """The reply with the headers `out`. `tag` is the entity tag, with its quotes.

    `modified`: when, in seconds since 1970, if that is known. Raises NotSupported.
    """
    out |= {"Etag": tag, "Accept-Ranges": "bytes"}
    headers = request.headers
    if b"if-none-match" in headers:
        if etag_matches(headers[b"if-none-match"], [tag]):
            return not_modified(out)
    elif modified is not None and is_unmodified(headers.get(b"if-modified-since", b""), modified):
        return not_modified(out)
    if modified is not None and (date := http_date(modified)):
        out["Last-Modified"] = date
    size, reader = size_of(entity), serving.reader
    most = serving.config.range_size_max
    if most is not None and size > most and has_range(request, tag):
        raise NotSupported(
            f"ranges of files of more than {most} bytes are not served here: ask for blocks "
            "(application/vnd.ipld.raw) or a CAR with entity-bytes"
        )
    try:
        found = parse_ranges(headers[b"range"], size) if has_range(request, tag) else []
    except Unsatisfiable:
        reply = text(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "the range is behind the end")
        reply.headers["Content-Range"] = f"bytes */{size}"
        return reply
    if not found:
        out["Content-Length"] = str(size)
        return Reply(HTTPStatus.OK, out, _whole(serving, entity, size, out))
    if len(found) > 1:
        return _several(reader, entity, size, found, out)
    [part] = found
    out["Content-Range"] = part.content_range(size)
    out["Content-Length"] = str(part.end - part.start)
    body = content(reader, entity, part.start, part.end)
    return Reply(HTTPStatus.PARTIAL_CONTENT, out, body)


def _whole(
    serving: Serving, entity: Content, size: int, out: dict[str, str]
) -> AsyncGenerator[Buffer, None] | bytes:
    """All bytes; of a leaf that is asked for often from memory."""
    body = content(serving.reader, entity, 0, size)
    if isinstance(entity, File) and entity.cid.codec == RAW:
        entity = Leaf(entity.cid, entity.version, 0, size)
    if not isinstance(entity, Leaf):
        return body
    whole = serving.recent.get(entity)
    if whole is None:
        return serving.recent.through(entity, body)
    if "Content-Type" not in out:
        out["Content-Type"] = with_charset(sniff.media_type(whole))
    return whole


def has_range(request: GatewayRequest, tag: str) -> bool:
    """Whether a part is asked for, of the very content that `tag` names."""
    headers = request.headers
    return b"range" in headers and headers.get(b"if-range", tag.encode()) == tag.encode()


def _several(
    reader: BlockReader, entity: Content, size: int, found: list[ByteRange], out: dict[str, str]
) -> Reply:
    """multipart/byteranges (RFC 9110 §14.6)."""
    asked = repr((out["Etag"], found)).encode()
    mark = hashlib.sha256(asked).hexdigest()[:40]
    kind = out["Content-Type"]
    heads = [
        f"\r\n--{mark}\r\nContent-Type: {kind}\r\n"
        f"Content-Range: {part.content_range(size)}\r\n\r\n".encode()
        for part in found
    ]
    end = f"\r\n--{mark}--\r\n".encode()
    total = sum(map(len, heads)) + sum(part.end - part.start for part in found) + len(end)

    async def body() -> AsyncGenerator[Buffer, None]:
        for head, part in zip(heads, found, strict=True):
            yield head
            async with aclosing(content(reader, entity, part.start, part.end)) as pieces:
                async for piece in pieces:
                    yield piece
        yield end

    out["Content-Type"] = f"multipart/byteranges; boundary={mark}"
    out["Content-Length"] = str(total)
    return Reply(HTTPStatus.PARTIAL_CONTENT, out, body())
