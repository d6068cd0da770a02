"""Handlers of multipart uploads."""

import asyncio
from urllib.parse import quote

from gateway.errors import AccessDenied, InvalidArgument, InvalidRequest, NoSuchUpload
from gateway.model import Algorithm, Checksum, CompletedPart, PartSummary, Upload
from gateway.protection import CustomerKey
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.access import Action
from gateway.s3.acls import ids_of, owned, upload_owner
from gateway.s3.attributes import Headers, new_version_headers, read_attributes
from gateway.s3.body import PUT_MAX
from gateway.s3.checksums import (
    HEADER_BYTES,
    encode,
    parse_whole_object,
    plan,
    upload_checksum,
)
from gateway.s3.conditions import write_condition
from gateway.s3.encryption import (
    completing_key,
    encryption_headers,
    part_key,
    source_key,
    write_protection,
    written_headers,
)
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.expiry import abort_headers, expiration_headers
from gateway.s3.object_lock import given_lock, with_lock
from gateway.s3.ranges import parse_copy_range
from gateway.s3.timestamps import iso
from gateway.s3.unsupported import refuse_unsupported
from gateway.s3.writing import check_before_body, find_source
from gateway.s3.xml_requests import DOCUMENT_MAX, parse_complete
from gateway.storage_classes import profile_of

# S3's largest object: 10,000 parts of 5 GiB would be more.
OBJECT_MAX = 5 << 40
# A document above this is parsed beside the event loop.
_THREADED_BYTES = 64 << 10


def _upload(exchange: Exchange, key: str, upload_id: str) -> Upload:
    return exchange.objects.upload(exchange.bucket, key, upload_id)


def _own_upload(exchange: Exchange, key: str, upload_id: str, operation: str) -> Upload:
    """An upload of the caller's, or of the caller's bucket. Raises NoSuchUpload, AccessDenied."""
    permission, bucket = exchange.permission, exchange.bucket
    try:
        upload = _upload(exchange, key, upload_id)
    except NoSuchUpload:
        # Who may write may know that there is none.
        permission.check(Action.WRITE, bucket, operation, key)
        raise
    if not permission.decide(Action.UPLOAD, bucket, operation, key, found=upload).allowed:
        raise AccessDenied
    return upload


def _type(upload: Upload) -> str:
    return "COMPOSITE" if upload.composite else "FULL_OBJECT"


def _part_headers(upload: Upload, part: PartSummary, customer: CustomerKey | None) -> Headers:
    headers = [(b"etag", f'"{part.etag}"'.encode())]
    if part.checksum is not None:
        kept = part.checksum
        headers.append((HEADER_BYTES[kept.algorithm], encode(kept).encode()))
    return headers + encryption_headers(upload.bucket, upload.attributes.encryption, customer)


async def create(exchange: Exchange, operation: ops.CreateMultipartUpload) -> Reply:
    """Begin an upload; its checksum algorithm and type are settled here."""
    headers = exchange.request.headers
    refuse_unsupported(headers)
    algorithm, composite = upload_checksum(headers)
    attributes = await owned(exchange, read_attributes(headers), upload=True)
    protection = await write_protection(exchange)
    upload = await exchange.objects.create_upload(
        exchange.bucket,
        operation.key,
        protection.of(with_lock(attributes, given_lock(exchange, operation.key))),
        algorithm=algorithm,
        composite=composite,
        profile=profile_of(headers.get("x-amz-storage-class")),
        customer=protection.customer,
    )
    body = (
        f"<Bucket>{xml.escape(operation.bucket)}</Bucket><Key>{xml.escape(operation.key)}</Key>"
        f"<UploadId>{xml.escape(upload.upload_id)}</UploadId>"
    )
    reply = written_headers(exchange.bucket, protection)
    if "x-amz-checksum-algorithm" in headers:
        reply.append((b"x-amz-checksum-algorithm", algorithm.value.encode()))
        reply.append((b"x-amz-checksum-type", _type(upload).encode()))
    reply += abort_headers(exchange, upload)
    return xml_reply(xml.document("InitiateMultipartUploadResult", body), reply)


async def upload_part(exchange: Exchange, operation: ops.UploadPart) -> Reply:
    """Store one part."""
    headers, body = exchange.request.headers, exchange.body
    refuse_unsupported(headers)
    length = body.upload_length()
    upload = _upload(exchange, operation.key, operation.upload_id)
    customer = part_key(exchange, upload)
    integrity = plan(headers, body, upload.algorithm or Algorithm.CRC64NVME)
    # CRC64NVME is what an upload gets that asked for nothing: its parts may claim any algorithm.
    settled = upload.algorithm not in (None, Algorithm.CRC64NVME)
    if integrity.explicit and settled and integrity.keep is not upload.algorithm:
        raise InvalidRequest(
            "Checksum Type mismatch occurred, expected checksum Type: "
            f"{upload.algorithm.lower() if upload.algorithm else 'null'}, actual checksum Type: "
            f"{integrity.keep.lower()}"
        )
    part = await exchange.objects.put_part(
        upload,
        operation.number,
        body,
        length=length,
        algorithms=integrity.algorithms,
        verify=integrity.verify,
        customer=customer,
    )
    return Reply(200, _part_headers(upload, part, customer))


async def upload_part_copy(exchange: Exchange, operation: ops.UploadPartCopy) -> Reply:
    """Store a range of another object as a part."""
    headers = exchange.request.headers
    refuse_unsupported(headers)
    upload = _upload(exchange, operation.key, operation.upload_id)
    customer = part_key(exchange, upload)
    source = find_source(exchange, operation.source)
    key = source_key(exchange, source)
    asked = headers.get("x-amz-copy-source-range")
    start, end = (0, source.size) if asked is None else parse_copy_range(asked, source.size)
    if end - start > PUT_MAX:
        raise InvalidRequest(
            "The specified copy source is larger than the maximum allowable size for a copy "
            f"source: {PUT_MAX}"
        )
    part = await exchange.objects.copy_part(
        upload, operation.number, source, start, end, source_key=key, customer=customer
    )
    body = (
        f"<LastModified>{iso(part.modified_ns)}</LastModified>"
        f"<ETag>&quot;{part.etag}&quot;</ETag>{xml.checksum(part.checksum, with_type=False)}"
    )
    reply = encryption_headers(upload.bucket, upload.attributes.encryption, customer)
    if source.bucket.versioning:
        reply.append((b"x-amz-copy-source-version-id", source.version_id.encode()))
    return xml_reply(xml.document("CopyPartResult", body), reply)


async def list_parts(exchange: Exchange, operation: ops.ListParts) -> Reply:
    """One page of parts by number."""
    op = operation
    upload = _own_upload(exchange, op.key, op.upload_id, "ListParts")
    parts: list[PartSummary] = []
    more = False
    if op.max_parts:
        parts, more = exchange.objects.list_parts(upload, after=op.after, limit=op.max_parts)
    who = upload_owner(upload, exchange.objects.accounts(ids_of(upload)))
    key = xml.url_encode(op.key) if op.url_encoded else xml.escape(op.key)
    storage = upload.attributes.headers.get("x-amz-storage-class", "STANDARD")
    body = (
        f"<Bucket>{xml.escape(op.bucket)}</Bucket><Key>{key}</Key>"
        f"<UploadId>{xml.escape(op.upload_id)}</UploadId>"
        f"{who}"
        f"<StorageClass>{xml.escape(storage)}</StorageClass>"
        f"<PartNumberMarker>{op.after}</PartNumberMarker>"
    )
    if more:
        body += f"<NextPartNumberMarker>{parts[-1].number}</NextPartNumberMarker>"
    body += (
        f"<MaxParts>{op.max_parts}</MaxParts>"
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
    )
    if upload.algorithm is not None:
        body += f"<ChecksumAlgorithm>{upload.algorithm}</ChecksumAlgorithm>"
        body += f"<ChecksumType>{_type(upload)}</ChecksumType>"
    body += "".join([_part_row(part) for part in parts])
    return xml_reply(xml.document("ListPartsResult", body), abort_headers(exchange, upload))


def _part_row(part: PartSummary) -> str:
    return (
        f"<Part><PartNumber>{part.number}</PartNumber>"
        f"<LastModified>{iso(part.modified_ns)}</LastModified>"
        f"<ETag>&quot;{part.etag}&quot;</ETag><Size>{part.size}</Size>"
        f"{xml.checksum(part.checksum, with_type=False)}</Part>"
    )


async def complete(exchange: Exchange, operation: ops.CompleteMultipartUpload) -> Reply:
    """Make the object of the named parts."""
    headers = exchange.request.headers
    upload = _upload(exchange, operation.key, operation.upload_id)
    customer = completing_key(exchange, upload)
    # Here x-amz-checksum-* speak of the object, not of the document.
    data = await exchange.document(DOCUMENT_MAX, required=False, claims=False)
    if len(data) > _THREADED_BYTES:  # 10,000 parts take 0.1 s
        parts = await asyncio.to_thread(parse_complete, data, upload.algorithm)
    else:
        parts = parse_complete(data, upload.algorithm)
    condition = write_condition(headers)
    check_before_body(exchange, operation.key, condition)
    version = await exchange.objects.complete_upload(
        upload,
        parts,
        checksum=_claimed_checksum(exchange, upload, parts),
        condition=condition,
        size=_claimed_size(headers.get("x-amz-mp-object-size")),
        customer=customer,
    )
    scheme = "https" if exchange.request.secure else "http"
    host = headers.get("host", "")
    path = exchange.request.raw_path.decode("latin-1")
    location = f"{scheme}://{host}{quote(path, safe='/%-_.~!*()')}"
    body = (
        f"<Location>{xml.escape(location)}</Location>"
        f"<Bucket>{xml.escape(operation.bucket)}</Bucket><Key>{xml.escape(operation.key)}</Key>"
        f"<ETag>&quot;{version.etag}&quot;</ETag>{xml.checksum(version.checksum)}"
    )
    reply = new_version_headers(version)
    reply += encryption_headers(upload.bucket, version.attributes.encryption, customer)
    reply += expiration_headers(exchange, version)
    return xml_reply(xml.document("CompleteMultipartUploadResult", body), reply)


def _claimed_checksum(
    exchange: Exchange, upload: Upload, parts: list[CompletedPart]
) -> Checksum | None:
    headers = exchange.request.headers
    kind = headers.get("x-amz-checksum-type")
    if kind is not None and kind != _type(upload):
        raise InvalidRequest(
            f"The upload was created using the {_type(upload)} checksum mode. The complete request "
            f"must use the same checksum mode."
        )
    claim = parse_whole_object(headers, composite=upload.composite)
    if claim is None:
        return None
    if claim.algorithm is not upload.algorithm:
        raise InvalidRequest(
            f"The upload was created using a {upload.algorithm} checksum. The complete request "
            "must use the same algorithm."
        )
    if upload.composite and not claim.composite_parts:
        return Checksum(claim.algorithm, claim.digest, len({part.number for part in parts}))
    return claim


def _claimed_size(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 14 and int(text) <= OBJECT_MAX):
        raise InvalidArgument(ArgumentName="x-amz-mp-object-size", ArgumentValue=text)
    return int(text)


async def abort(exchange: Exchange, operation: ops.AbortMultipartUpload) -> Reply:
    """Drop the upload."""
    upload = _own_upload(exchange, operation.key, operation.upload_id, "AbortMultipartUpload")
    await exchange.objects.abort_upload(upload)
    return Reply(204)
