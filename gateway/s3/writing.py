"""Handlers of PUT, COPY and DELETE."""

from collections.abc import AsyncIterator, Callable, Mapping

from msgspec.structs import replace

from chain.net.transport import Buffer
from gateway.errors import (
    InvalidArgument,
    InvalidRequest,
    MarkerNamed,
    NoSuchKey,
)
from gateway.model import Attributes, ObjectVersion, Verifier, WriteCondition
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.access import Action
from gateway.s3.acls import owned
from gateway.s3.addressing import parse_copy_source, parse_rename_source
from gateway.s3.attributes import Headers, new_version_headers, read_attributes
from gateway.s3.body import PUT_MAX
from gateway.s3.checksums import HEADER_BYTES, encode, parse_algorithm, plan, type_of
from gateway.s3.conditions import ANY, check_copy_source, check_read, failed, write_condition
from gateway.s3.encryption import (
    NOTHING,
    Protection,
    changes_encryption,
    source_key,
    write_protection,
    written_headers,
)
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.expiry import expiration_headers
from gateway.s3.object_lock import check_integrity, given_lock, with_lock
from gateway.s3.tags import read_tags
from gateway.s3.timestamps import iso
from gateway.s3.unsupported import check_expected_owner, refuse_unsupported
from gateway.storage_classes import profile_of

# Deletions of one DeleteObjects under way at once: they share group commits.
DELETES_AT_ONCE = 64
_NS = 1_000_000_000
_NOT_COPIED = ("x-amz-storage-class", "x-amz-website-redirect-location")


def write_headers(version: ObjectVersion, protection: Protection) -> Headers:
    """What a finished write says of its version."""
    headers = [(b"etag", f'"{version.etag}"'.encode())]
    if version.checksum is not None:
        kept = version.checksum
        headers.append((HEADER_BYTES[kept.algorithm], encode(kept).encode()))
        headers.append((b"x-amz-checksum-type", type_of(kept).encode()))
    headers += new_version_headers(version)
    if protection is not NOTHING:
        headers += written_headers(version.bucket, protection)
    return headers


def check_before_body(exchange: Exchange, key: str, condition: WriteCondition) -> None:
    """Refuse at once what would be refused behind the last byte. Raises PreconditionFailed …"""
    if condition is ANY:
        return
    try:
        etag = exchange.objects.head(exchange.bucket, key).etag
    except NoSuchKey:
        if condition.if_match is not None:
            raise
        return
    if condition.if_none_match in ("*", etag):
        raise failed("If-None-Match")
    if condition.if_match not in (None, "*", etag):
        raise failed("If-Match")


async def put_object(exchange: Exchange, operation: ops.PutObject) -> Reply:
    """Store the body; every claim about it is judged before it becomes visible."""
    body = exchange.body
    _, headers = await store_upload(exchange, operation.key, body, body.upload_length())
    return Reply(200, headers)


async def store_upload(
    exchange: Exchange,
    key: str,
    body: AsyncIterator[Buffer],
    length: int | None,
    judging: Callable[[Verifier], Verifier] | None = None,
) -> tuple[ObjectVersion, Headers]:
    """Store `body` as the request's headers say; `judging` makes a verifier that asks more.

    The version, and what the reply says of it.
    """
    headers = exchange.request.headers
    refuse_unsupported(headers)
    attributes = await owned(exchange, read_attributes(headers))
    profile = profile_of(headers.get("x-amz-storage-class"))
    integrity = plan(headers, exchange.body)
    lock = given_lock(exchange, key)
    check_integrity(exchange, lock, claimed=integrity.claimed(headers))
    condition = write_condition(headers)
    check_before_body(exchange, key, condition)
    protection = await write_protection(exchange)
    version = await exchange.objects.put(
        exchange.bucket,
        key,
        body,
        protection.of(with_lock(attributes, lock)),
        length=length,
        algorithms=integrity.algorithms,
        keep=integrity.keep,
        verify=judging(integrity.verify) if judging else integrity.verify,
        condition=condition,
        profile=profile,
        customer=protection.customer,
    )
    said = write_headers(version, protection) + expiration_headers(exchange, version)
    return version, said


# ------------------------------------------------------------------ copy
def find_source(exchange: Exchange, value: str) -> ObjectVersion:
    """The version that x-amz-copy-source names, when the caller may read it and conditions hold.

    Raises AccessDenied, NoSuchBucket, NoSuchKey, PreconditionFailed, InvalidArgument …
    """
    headers = exchange.request.headers
    named = parse_copy_source(value)
    bucket = exchange.objects.bucket(named.bucket)
    try:
        version = exchange.permission.version(
            bucket, named.key, named.version_id, Action.READ, "GetObject"
        )
    except MarkerNamed:
        raise InvalidRequest(
            "The source of a copy request may not specifically refer to a delete marker by version "
            "id."
        ) from None
    check_expected_owner(headers, bucket, "x-amz-source-expected-bucket-owner")
    check_copy_source(headers, version.etag, version.modified_ns // _NS)
    return version


def copied_attributes(exchange: Exchange, source: ObjectVersion) -> tuple[Attributes | None, bool]:
    """(attributes or None to keep the source's, whether anything is asked to change)."""
    headers = exchange.request.headers
    tags, retagged = _copied_tags(headers, source)
    directive = headers.get("x-amz-metadata-directive", "COPY")
    if directive == "REPLACE":
        return replace(read_attributes(headers), tags=tags), True
    if directive != "COPY":
        raise InvalidArgument(
            "Unknown metadata directive.",
            ArgumentName="x-amz-metadata-directive",
            ArgumentValue=directive,
        )
    kept = {n: v for n, v in source.attributes.headers.items() if n not in _NOT_COPIED}
    given = {n: headers[n] for n in _NOT_COPIED if headers.get(n)}
    changes = bool(given) or retagged or changes_encryption(exchange)
    if given.get("x-amz-storage-class") == "STANDARD":
        del given["x-amz-storage-class"]
    merged = kept | given
    if merged == source.attributes.headers and tags == source.attributes.tags:
        return None, changes
    return replace(source.attributes, headers=merged, tags=tags, extra=None), changes


def _copied_tags(
    headers: Mapping[str, str], source: ObjectVersion
) -> tuple[Mapping[str, str], bool]:
    """The copy's tags by x-amz-tagging-directive, and whether they are others."""
    directive = headers.get("x-amz-tagging-directive", "COPY")
    if directive == "REPLACE":
        return read_tags(headers), True
    if directive != "COPY":
        raise InvalidArgument(
            "Unknown tagging directive.",
            ArgumentName="x-amz-tagging-directive",
            ArgumentValue=directive,
        )
    return source.attributes.tags, False


async def copy_object(exchange: Exchange, operation: ops.CopyObject) -> Reply:
    """Copy on the server; the sealed segments are shared."""
    headers = exchange.request.headers
    refuse_unsupported(headers)
    profile = profile_of(headers.get("x-amz-storage-class"))
    condition = write_condition(headers)
    source = find_source(exchange, operation.source)
    if source.size > PUT_MAX:
        raise InvalidRequest(
            "The specified copy source is larger than the maximum allowable size for a copy "
            f"source: {PUT_MAX}"
        )
    kept, changes = copied_attributes(exchange, source)
    attributes = await owned(exchange, replace(kept or source.attributes, extra=None))
    lock = given_lock(exchange, operation.key)
    name = headers.get("x-amz-checksum-algorithm")
    algorithm = None if name is None else parse_algorithm(name)
    same = source.bucket.id == exchange.bucket.id and source.key == operation.key
    changes = changes or lock is not None or algorithm is not None
    if same and not changes and "?versionId=" not in operation.source:
        raise InvalidRequest(
            "This copy request is illegal because it is trying to copy an object to itself without "
            "changing the object's metadata, storage class, website redirect location or "
            "encryption attributes."
        )
    key = source_key(exchange, source)
    protection = await write_protection(exchange)
    version = await exchange.objects.copy(
        source,
        exchange.bucket,
        operation.key,
        attributes=protection.of(with_lock(attributes, lock)),
        algorithm=algorithm,
        condition=condition,
        profile=profile,
        source_key=key,
        customer=protection.customer,
    )
    body = (
        f"<LastModified>{iso(version.modified_ns)}</LastModified>"
        f"<ETag>&quot;{version.etag}&quot;</ETag>{xml.checksum(version.checksum)}"
    )
    reply_headers = written_headers(exchange.bucket, protection)
    if source.bucket.versioning:
        reply_headers.append((b"x-amz-copy-source-version-id", source.version_id.encode()))
    reply_headers += new_version_headers(version) + expiration_headers(exchange, version)
    return xml_reply(xml.document("CopyObjectResult", body), reply_headers)


async def rename_object(exchange: Exchange, operation: ops.RenameObject) -> Reply:
    """Move within the bucket, at once and whole: no reader sees both keys, or neither."""
    headers, bucket = exchange.request.headers, exchange.bucket
    condition = write_condition(headers)
    named = parse_rename_source(headers.get("x-amz-rename-source", ""), bucket.name)
    if named == operation.key:
        raise InvalidRequest("The source and the destination of a rename are the same.")
    source = exchange.permission.version(bucket, named, None, Action.READ, "GetObject")
    exchange.permission.check(Action.WRITE, bucket, "DeleteObject", named)
    if not check_read(headers, source.etag, source.modified_ns // _NS, "x-amz-rename-source-"):
        raise failed("x-amz-rename-source-If-None-Match")
    version = await exchange.objects.rename(source, operation.key, condition=condition)
    return Reply(200, new_version_headers(version))
