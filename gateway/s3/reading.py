"""Handlers of GET, HEAD and GetObjectAttributes."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

from chain.net.transport import Buffer
from gateway.errors import InvalidArgument, InvalidPart, InvalidRequest
from gateway.model import ObjectVersion
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.access import Action
from gateway.s3.attributes import Headers, object_headers, override, version_headers
from gateway.s3.checksums import HEADER_BYTES, encode, type_of
from gateway.s3.conditions import check_read, is_conditional, range_applies
from gateway.s3.encryption import encryption_headers, opened
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.expiry import expiration_headers
from gateway.s3.object_lock import lock_headers
from gateway.s3.ranges import parse_range
from gateway.s3.timestamps import http_date
from gateway.s3.unsupported import refuse_unsupported

# Fewer and larger writes: below this a buffer is joined with the next.
BUFFER_MIN = 256 * 1024
_KEPT_ON_304 = (b"etag", b"last-modified", b"cache-control", b"expires", b"x-amz-version-id")
_NS = 1_000_000_000


async def coalesce(source: AsyncIterator[Buffer]) -> AsyncGenerator[Buffer]:
    """Buffers of at least BUFFER_MIN (but the last); large ones pass uncopied.

    Closes `source` when it is closed itself: a read given up lets go of its buffers at once.
    """
    pending = bytearray()
    try:
        async for piece in source:
            if not pending and len(piece) >= BUFFER_MIN:
                yield piece
                continue
            pending += piece
            if len(pending) >= BUFFER_MIN:
                yield pending
                pending = bytearray()
        if pending:
            yield pending
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def get_object(exchange: Exchange, operation: ops.GetObject) -> Reply:
    """GET and HEAD: conditions, range or part, overrides; the first byte is read before replying.

    So a version that cannot be read now is a clean 503, never a broken 200.
    """
    request_headers = exchange.request.headers
    if operation.overrides and exchange.caller.account is None:
        raise InvalidRequest(
            "Request specific response headers cannot be used for anonymous GET requests."
        )
    refuse_unsupported(request_headers)
    name = "HeadObject" if operation.head else "GetObject"
    version = exchange.version(operation.key, operation.version_id, Action.READ, name)
    version, customer = opened(exchange, version)
    modified = version.modified_ns // _NS
    if is_conditional(request_headers) and not check_read(request_headers, version.etag, modified):
        headers = object_headers(version, checksum=False)
        return Reply(304, [item for item in headers if item[0] in _KEPT_ON_304])
    part = operation.part_number
    if part is not None:
        span = _part_span(version, part, request_headers.get("range"))
    elif "range" in request_headers and range_applies(request_headers, version.etag, modified):
        span = parse_range(request_headers["range"], version.size)
    else:
        span = None
    headers = _reply_headers(exchange, operation, version, whole=span in (None, (0, version.size)))
    if version.attributes.extra is not None:
        headers += encryption_headers(version.bucket, version.attributes.encryption, customer)
        headers += lock_headers(exchange, version)
    start, end = span or (0, version.size)
    status = 200
    if span is not None and version.size:
        status = 206
        headers.append((b"content-range", f"bytes {start}-{end - 1}/{version.size}".encode()))
    reply = Reply(status, headers, length=end - start)
    if not operation.head and end > start:
        await _open(exchange.objects.read(version, start, end, customer), reply)
    return reply


def _reply_headers(
    exchange: Exchange, operation: ops.GetObject, version: ObjectVersion, *, whole: bool
) -> Headers:
    wanted = exchange.request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
    headers = object_headers(version, checksum=wanted and whole)
    if operation.version_id is None:
        headers += expiration_headers(exchange, version)
    part = operation.part_number
    if part is not None and version.parts:
        headers.append((b"x-amz-mp-parts-count", str(len(version.parts)).encode()))
        kept = version.parts[part - 1].checksum
        if wanted and kept is not None and not whole:
            headers.append((HEADER_BYTES[kept.algorithm], encode(kept).encode()))
            headers.append((b"x-amz-checksum-type", type_of(version.checksum or kept).encode()))
    if operation.overrides:
        headers = override(headers, operation.overrides)
    return headers


def _part_span(version: ObjectVersion, number: int, asked: str | None) -> tuple[int, int] | None:
    if asked is not None:
        raise InvalidRequest("Cannot specify both Range header and partNumber query parameter")
    if not version.parts and number == 1:
        return None
    if number > len(version.parts):
        raise InvalidPart("The requested partnumber is not satisfiable")
    start = sum(part.size for part in version.parts[: number - 1])
    return start, start + version.parts[number - 1].size


async def _open(pieces: AsyncIterator[Buffer], reply: Reply) -> None:
    stream = coalesce(pieces)
    try:
        reply.body = await anext(stream, b"")
    except BaseException:
        await stream.aclose()
        raise
    if len(reply.body) == reply.length:
        await stream.aclose()
    else:
        reply.stream = _closing(stream)


async def _closing(stream: AsyncGenerator[Buffer]) -> AsyncGenerator[Buffer]:
    async with aclosing(stream):
        async for piece in stream:
            yield piece


PARTS_PAGE = 1000
_ATTRIBUTE_NAMES = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})


async def get_attributes(exchange: Exchange, operation: ops.GetObjectAttributes) -> Reply:
    """The attributes that x-amz-object-attributes names."""
    asked = exchange.request.headers.get("x-amz-object-attributes", "")
    names = {name.strip() for name in asked.split(",") if name.strip()}
    if not names or not names <= _ATTRIBUTE_NAMES:
        raise InvalidArgument(
            "Invalid attribute name specified.",
            ArgumentName="x-amz-object-attributes",
            ArgumentValue=asked,
        )
    version = exchange.version(
        operation.key, operation.version_id, Action.READ, "GetObjectAttributes"
    )
    version, _ = opened(exchange, version)
    body = f"<ETag>{version.etag}</ETag>" if "ETag" in names else ""
    if "Checksum" in names and version.checksum is not None:
        body += f"<Checksum>{xml.checksum(version.checksum)}</Checksum>"
    if "ObjectParts" in names and version.parts:
        body += _object_parts(version, exchange.request.headers)
    if "StorageClass" in names:
        storage = version.attributes.headers.get("x-amz-storage-class", "STANDARD")
        body += f"<StorageClass>{xml.escape(storage)}</StorageClass>"
    if "ObjectSize" in names:
        body += f"<ObjectSize>{version.size}</ObjectSize>"
    headers = [(b"last-modified", http_date(version.modified_ns // _NS))]
    headers += version_headers(version)
    return xml_reply(xml.document("GetObjectAttributesResponse", body), headers)


def _object_parts(version: ObjectVersion, headers: Mapping[str, str]) -> str:
    """A page of the parts behind x-amz-part-number-marker, at most x-amz-max-parts."""
    most = _whole(headers, "x-amz-max-parts", PARTS_PAGE)
    after = _whole(headers, "x-amz-part-number-marker", 0)
    behind = [part for part in version.parts if part.number > after]
    page = behind[: min(most, PARTS_PAGE)]
    rows = "".join(
        [
            f"<Part><PartNumber>{part.number}</PartNumber><Size>{part.size}</Size>"
            f"{xml.checksum(part.checksum, with_type=False)}</Part>"
            for part in page
        ]
    )
    more = len(behind) > len(page) > 0
    following = f"<NextPartNumberMarker>{page[-1].number}</NextPartNumberMarker>" if page else ""
    return (
        f"<ObjectParts><IsTruncated>{'true' if more else 'false'}</IsTruncated>"
        f"<MaxParts>{most}</MaxParts>{following}<PartNumberMarker>{after}</PartNumberMarker>"
        f"<PartsCount>{len(version.parts)}</PartsCount>{rows}</ObjectParts>"
    )


def _whole(headers: Mapping[str, str], name: str, default: int) -> int:
    text = headers.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InvalidArgument(ArgumentName=name, ArgumentValue=text)
    return int(text)
