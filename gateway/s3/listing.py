"""Handlers of lists: objects V1 and V2, versions, and uploads in progress."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping

from gateway.errors import InvalidArgument, NoSuchUpload
from gateway.model import Account, Listing, Upload
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.acls import ids_of, owners_of, upload_owner
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.timestamps import iso
from gateway.upload_rows import uploads_after


# ------------------------------------------------------------------ positions
def after_prefix(prefix: str) -> bytes:
    """The first key in byte order behind all that start with `prefix` (UTF-8 never ends in FF)."""
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])


def start_after(marker: str, prefix: str, delimiter: str) -> bytes:
    """The first key behind `marker`; behind its whole group when it lies in a common prefix."""
    if not marker:
        return b""
    if delimiter and marker.startswith(prefix):
        at = marker.find(delimiter, len(prefix))
        if at >= 0:
            return after_prefix(marker[: at + len(delimiter)])
    return marker.encode() + b"\0"


def write_token(position: bytes) -> str:
    """A continuation token: where to go on."""
    return urlsafe_b64encode(position).decode()


def read_token(token: str) -> bytes:
    """Raises InvalidArgument for what write_token did not make."""
    try:
        position = urlsafe_b64decode(token.encode("ascii"))
        if token and write_token(position) == token:
            return position
    except (Base64Error, ValueError):
        pass
    raise InvalidArgument(
        "The continuation token provided is incorrect",
        ArgumentName="continuation-token",
        ArgumentValue=token,
    )


def last_name(page: Listing) -> str:
    """The greatest key or common prefix of a page: the marker behind which the next one starts."""
    key = page.objects[-1].key if page.objects else ""
    group = page.common_prefixes[-1] if page.common_prefixes else ""
    return max(key, group, key=str.encode)


def _page(exchange: Exchange, prefix: str, delimiter: str, start: bytes, limit: int) -> Listing:
    if limit == 0:
        return Listing([], [], None)
    return exchange.objects.list_objects(
        exchange.bucket, prefix=prefix, delimiter=delimiter, start=start, limit=limit
    )


def optional(name: str, text: str, *, url: bool) -> str:
    """A text element, unless there is no text."""
    return xml.text_element(name, text, url=url) if text else ""


_DECODES_TO_ANOTHER = re.compile(r"[%+\r\0-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def list_head(
    bucket: str, prefix: str, max_keys: int, *, truncated: bool, url: bool, raw: bool = False
) -> str:
    """What all lists of objects begin with.

    `raw`: the prefix is only encoded where it has to be. boto3 decodes all that V1 encodes but the
    prefix; others decode it: both read a text the same that means itself when it is decoded.
    """
    if raw and not _DECODES_TO_ANOTHER.search(prefix):
        shown = xml.text_element("Prefix", prefix, url=False)
    else:
        shown = xml.text_element("Prefix", prefix, url=url)
    return (
        f"<Name>{xml.escape(bucket)}</Name>{shown}"
        f"<MaxKeys>{max_keys}</MaxKeys>"
        f"<IsTruncated>{'true' if truncated else 'false'}</IsTruncated>"
        + ("<EncodingType>url</EncodingType>" if url else "")
    )


# ------------------------------------------------------------------ objects
async def list_objects(exchange: Exchange, operation: ops.ListObjects) -> Reply:
    """V1."""
    op, url = operation, operation.url_encoded
    start = start_after(op.marker, op.prefix, op.delimiter)
    page = _page(exchange, op.prefix, op.delimiter, start, op.max_keys)
    truncated = page.next_start is not None
    body = list_head(op.bucket, op.prefix, op.max_keys, truncated=truncated, url=url, raw=True)
    body += xml.text_element("Marker", op.marker, url=url) + optional(
        "Delimiter", op.delimiter, url=url
    )
    if truncated and op.delimiter:
        body += xml.text_element("NextMarker", last_name(page), url=url)
    body += xml.contents(
        page.objects, url=url, owned=True, owners=owners_of(exchange, page.objects)
    )
    body += xml.common_prefixes(page.common_prefixes, url=url)
    return xml_reply(xml.document("ListBucketResult", body))


async def list_objects_v2(exchange: Exchange, operation: ops.ListObjectsV2) -> Reply:
    """V2: the token is a position, so a page costs the same wherever it starts."""
    op, url = operation, operation.url_encoded
    if op.continuation_token:  # an empty one is none, and is echoed
        start = read_token(op.continuation_token)
    else:
        start = start_after(op.start_after, op.prefix, op.delimiter)
    page = _page(exchange, op.prefix, op.delimiter, start, op.max_keys)
    count = len(page.objects) + len(page.common_prefixes)
    truncated = page.next_start is not None
    body = list_head(op.bucket, op.prefix, op.max_keys, truncated=truncated, url=url)
    body += f"<KeyCount>{count}</KeyCount>" + optional("Delimiter", op.delimiter, url=url)
    body += optional("StartAfter", op.start_after, url=url)
    if op.continuation_token is not None:
        body += xml.text_element("ContinuationToken", op.continuation_token, url=False)
    if page.next_start is not None:
        body += xml.text_element("NextContinuationToken", write_token(page.next_start), url=False)
    owners = owners_of(exchange, page.objects) if op.fetch_owner else {}
    body += xml.contents(page.objects, url=url, owned=op.fetch_owner, owners=owners)
    body += xml.common_prefixes(page.common_prefixes, url=url)
    return xml_reply(xml.document("ListBucketResult", body))


# ------------------------------------------------------------------ uploads
def gather_uploads(
    exchange: Exchange, operation: ops.ListMultipartUploads
) -> tuple[list[Upload], list[str], bool]:
    """(uploads, common prefixes, more) behind the markers, at most max_uploads in all."""
    op = operation
    uploads: list[Upload] = []
    groups: list[str] = []
    start: bytes | None = _uploads_start(op)
    while start is not None:
        page, start = exchange.objects.list_uploads(
            exchange.bucket, prefix=op.prefix, start=start, limit=ops.PAGE_MAX
        )
        for upload in page:
            group = _group(upload.key, op.prefix, op.delimiter)
            if group and (group in groups[-1:] or group.encode() <= op.key_marker.encode()):
                continue
            if len(uploads) + len(groups) >= op.max_uploads:
                return uploads, groups, op.max_uploads > 0
            if group:
                groups.append(group)
            else:
                uploads.append(upload)
    return uploads, groups, False


def _uploads_start(op: ops.ListMultipartUploads) -> bytes:
    if not op.key_marker:
        return b""
    if op.delimiter and op.key_marker.endswith(op.delimiter):
        # The marker is a common prefix: its uploads are skipped by name below.
        return uploads_after(op.key_marker)
    try:
        return uploads_after(op.key_marker, op.upload_id_marker)
    except NoSuchUpload:
        raise InvalidArgument(
            "Invalid uploadId marker",
            ArgumentName="upload-id-marker",
            ArgumentValue=op.upload_id_marker,
        ) from None


def _group(key: str, prefix: str, delimiter: str) -> str:
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return key[: at + len(delimiter)] if at >= 0 else ""


async def list_uploads(exchange: Exchange, operation: ops.ListMultipartUploads) -> Reply:
    """Uploads in progress by key, then by upload id."""
    op, url = operation, operation.url_encoded
    uploads, groups, truncated = gather_uploads(exchange, op)
    body = f"<Bucket>{xml.escape(op.bucket)}</Bucket>"
    body += xml.text_element("KeyMarker", op.key_marker, url=url)
    body += xml.text_element("UploadIdMarker", op.upload_id_marker, url=False)
    if truncated:
        last = uploads[-1].key if uploads else ""
        group = groups[-1] if groups else ""
        body += xml.text_element("NextKeyMarker", max(last, group, key=str.encode), url=url)
        marker = uploads[-1].upload_id if uploads and last.encode() > group.encode() else ""
        body += xml.text_element("NextUploadIdMarker", marker, url=False)
    body += optional("Prefix", op.prefix, url=url) + optional("Delimiter", op.delimiter, url=url)
    body += f"<MaxUploads>{op.max_uploads}</MaxUploads>"
    body += f"<IsTruncated>{'true' if truncated else 'false'}</IsTruncated>"
    body += "<EncodingType>url</EncodingType>" if url else ""
    accounts = exchange.objects.accounts(ids_of(*uploads))
    body += "".join([_upload_row(upload, accounts, url=url) for upload in uploads])
    body += xml.common_prefixes(groups, url=url)
    return xml_reply(xml.document("ListMultipartUploadsResult", body))


def _upload_row(upload: Upload, accounts: Mapping[str, Account], *, url: bool) -> str:
    storage = upload.attributes.headers.get("x-amz-storage-class", "STANDARD")
    return (
        f"<Upload>{xml.text_element('Key', upload.key, url=url)}"
        f"<UploadId>{xml.escape(upload.upload_id)}</UploadId>"
        f"{upload_owner(upload, accounts)}"
        f"<StorageClass>{xml.escape(storage)}</StorageClass>"
        f"<Initiated>{iso(upload.started_ns)}</Initiated></Upload>"
    )
