"""Handlers of a bucket's versioning and of the list of all its versions.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html
"""

from collections.abc import Mapping

from gateway.errors import DeleteMarker, InvalidArgument, MarkerNamed, NotImplementedHere
from gateway.model import ENABLED, SUSPENDED, Account, ObjectVersion, Position, VersionListing
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.acls import owners_of
from gateway.s3.attributes import Headers
from gateway.s3.errors import IllegalVersioning, MalformedXML
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.listing import after_prefix, list_head, optional
from gateway.s3.timestamps import http_date, iso
from gateway.s3.xml_requests import child_text, parse_document

_DOCUMENT_MAX = 64 * 1024
_NS = 1_000_000_000


# ------------------------------------------------------------------ the bucket's state
def parse_versioning(data: bytes) -> str:
    """ENABLED or SUSPENDED of a VersioningConfiguration.

    Raises MalformedXML, IllegalVersioning (no state), NotImplementedHere (MFA delete).
    """
    tree = parse_document(data, "VersioningConfiguration")
    state = (child_text(tree, "Status") or "").strip()
    delete = (child_text(tree, "MfaDelete") or "Disabled").strip()
    if delete not in ("Enabled", "Disabled") or state not in ("", ENABLED, SUSPENDED):
        raise MalformedXML
    if delete == "Enabled":
        raise NotImplementedHere("MFA delete is not implemented: nobody has a device here.")
    if not state:
        raise IllegalVersioning
    return state


async def get_versioning(exchange: Exchange, operation: ops.GetBucketVersioning) -> Reply:
    """The state; nothing for a bucket that never had versioning."""
    del operation
    state = exchange.bucket.versioning
    shown = f"<Status>{state}</Status>" if state else ""
    return xml_reply(xml.document("VersioningConfiguration", shown))


async def put_versioning(exchange: Exchange, operation: ops.PutBucketVersioning) -> Reply:
    """In force for every commit behind this one."""
    state = parse_versioning(await exchange.document(_DOCUMENT_MAX))
    await exchange.objects.configure_bucket(operation.bucket, versioning=state)
    return Reply(200)


def marker_headers(error: DeleteMarker) -> Headers:
    """What a reply says that there is a delete marker."""
    headers = [
        (b"x-amz-delete-marker", b"true"),
        (b"x-amz-version-id", error.version_id.encode()),
    ]
    if isinstance(error, MarkerNamed):
        headers.append((b"allow", b"DELETE"))
        headers.append((b"last-modified", http_date(error.modified_ns // _NS)))
    return headers


# ------------------------------------------------------------------ the list of versions
async def list_versions(exchange: Exchange, operation: ops.ListObjectVersions) -> Reply:
    """Versions and delete markers in one order: by key, the newest first."""
    op, url = operation, operation.url_encoded
    page = VersionListing([], [], None)
    start = _start(exchange, op)
    if op.max_keys:
        page = exchange.objects.list_versions(
            exchange.bucket,
            prefix=op.prefix,
            delimiter=op.delimiter,
            start=start,
            limit=op.max_keys,
        )
    truncated = page.next_start is not None
    body = list_head(op.bucket, op.prefix, op.max_keys, truncated=truncated, url=url)
    body += xml.text_element("KeyMarker", op.key_marker, url=url)
    body += xml.text_element("VersionIdMarker", op.version_id_marker or "", url=False)
    body += optional("Delimiter", op.delimiter, url=url)
    if truncated:
        body += _next_markers(page, url=url)
    owners = owners_of(exchange, page.versions)
    body += "".join([_row(version, owners, url=url) for version in page.versions])
    body += xml.common_prefixes(page.common_prefixes, url=url)
    return xml_reply(xml.document("ListVersionsResult", body))


def _start(exchange: Exchange, op: ops.ListObjectVersions) -> Position:
    """Behind the markers. Raises InvalidArgument."""
    if not op.key_marker:
        if op.version_id_marker:
            raise InvalidArgument(
                "A version-id marker cannot be specified without a key marker.",
                ArgumentName="version-id-marker",
                ArgumentValue=op.version_id_marker,
            )
        return Position(b"")
    if op.delimiter and op.key_marker.startswith(op.prefix):
        at = op.key_marker.find(op.delimiter, len(op.prefix))
        if at >= 0:
            return Position(after_prefix(op.key_marker[: at + len(op.delimiter)]))
    return exchange.objects.behind(exchange.bucket, op.key_marker, op.version_id_marker or None)


def _next_markers(page: VersionListing, *, url: bool) -> str:
    """The last of the page: a version, or a common prefix, which has no version."""
    last = page.versions[-1] if page.versions else None
    group = page.common_prefixes[-1] if page.common_prefixes else ""
    if last is None or group.encode() > last.key.encode():
        return xml.text_element("NextKeyMarker", group, url=url)
    marker = xml.text_element("NextVersionIdMarker", last.version_id, url=False)
    return xml.text_element("NextKeyMarker", last.key, url=url) + marker


def _row(version: ObjectVersion, owners: Mapping[bytes, Account], *, url: bool) -> str:
    latest = "false" if version.superseded_ns else "true"
    extra = f"<VersionId>{version.version_id}</VersionId><IsLatest>{latest}</IsLatest>"
    if not version.deleted:
        return xml.contents(
            [version], url=url, owned=True, element="Version", extra=extra, owners=owners
        )
    return (
        f"<DeleteMarker>{xml.text_element('Key', version.key, url=url)}{extra}"
        f"<LastModified>{iso(version.modified_ns)}</LastModified>"
        f"{xml.owner(version.bucket.owner)}</DeleteMarker>"
    )
