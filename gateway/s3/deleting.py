"""Handlers of DELETE, of one object or version and of up to 1,000."""

import asyncio

from gateway.catalog.interface import CatalogUnavailable
from gateway.errors import InvalidArgument, NoSuchVersion, StoreError
from gateway.model import Deletion
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.access import Action
from gateway.s3.attributes import Headers
from gateway.s3.conditions import delete_condition, of_one
from gateway.s3.exchange import Exchange, Part, Reply, xml_reply
from gateway.s3.object_lock import may_bypass
from gateway.s3.xml_requests import DOCUMENT_MAX, DeleteEntry, parse_delete
from gateway.transaction import unavailable

# Deletions of one DeleteObjects under way at once: they share group commits.
DELETES_AT_ONCE = 64


async def delete_object(exchange: Exchange, operation: ops.DeleteObject) -> Reply:
    """204 whether or not there was something."""
    _check_version(exchange, operation.key, operation.version_id)
    deletion = await exchange.objects.delete(
        exchange.bucket,
        operation.key,
        operation.version_id,
        condition=delete_condition(exchange.request.headers),
        bypass=may_bypass(exchange, operation.key),
    )
    return Reply(204, _headers(exchange, operation.version_id, deletion))


def _check_version(exchange: Exchange, key: str, version_id: str | None) -> None:
    """A list's WRITE hides objects; versions go for good by the owner or a policy alone."""
    if version_id is not None:
        action, bucket = Action.CONFIGURE, exchange.bucket
        exchange.permission.check(action, bucket, "DeleteObject", key, version_id)


def _headers(exchange: Exchange, version_id: str | None, deletion: Deletion | None) -> Headers:
    if not exchange.bucket.versioning:
        return []
    shown, marker = _outcome(version_id, deletion)
    headers = [] if shown is None else [(b"x-amz-version-id", shown.encode())]
    return [*headers, (b"x-amz-delete-marker", b"true")] if marker else headers


def _outcome(version_id: str | None, deletion: Deletion | None) -> tuple[str | None, bool]:
    """(the version that is told of, whether that is a delete marker)."""
    if deletion is not None and deletion.marker is not None:
        return deletion.marker.version_id, True
    removed = None if deletion is None else deletion.removed
    return version_id, removed is not None and removed.deleted


async def delete_objects(exchange: Exchange, operation: ops.DeleteObjects) -> Reply:
    """Each entry for itself: one that fails does not stop the others."""
    del operation
    entries, quiet = parse_delete(await exchange.document(DOCUMENT_MAX))
    slots = asyncio.Semaphore(DELETES_AT_ONCE)
    rows = [""] * len(entries)
    parts: list[Part] = []

    async def remove(index: int, entry: DeleteEntry) -> None:
        async with slots:
            rows[index], part = await _delete_entry(exchange, entry, quiet=quiet)
        if exchange.bucket.logged:
            parts.append(part)

    async with asyncio.TaskGroup() as group:
        for index, entry in enumerate(entries):
            group.create_task(remove(index, entry))
    reply = xml_reply(xml.document("DeleteResult", "".join(rows)))
    reply.parts = parts
    return reply


async def _delete_entry(exchange: Exchange, entry: DeleteEntry, *, quiet: bool) -> tuple[str, Part]:
    """The entry's row of the reply, and what the access log is told."""
    bucket = exchange.bucket
    version = "" if entry.version_id is None else (
        f"<VersionId>{xml.escape(entry.version_id)}</VersionId>"
    )  # fmt: skip
    name = f"<Key>{xml.escape(entry.key)}</Key>{version}"
    try:
        condition = of_one(entry.etag, entry.size, entry.modified)
        if exchange.permission.asks_policies(bucket):
            exchange.permission.check(
                Action.WRITE, bucket, "DeleteObject", entry.key, entry.version_id
            )
        _check_version(exchange, entry.key, entry.version_id)
        deletion = await exchange.objects.delete(
            bucket,
            entry.key,
            entry.version_id,
            condition=condition,
            bypass=may_bypass(exchange, entry.key),
        )
    except (StoreError, CatalogUnavailable) as failure:
        error = failure if isinstance(failure, StoreError) else unavailable(failure)
        if isinstance(error, InvalidArgument) and entry.version_id is not None:
            error = NoSuchVersion()  # as AWS says it in a batch
        text = f"<Code>{error.code}</Code><Message>{xml.escape(error.text)}</Message>"
        part = Part(entry.key, entry.version_id or "", int(error.status), error.code)
        return f"<Error>{name}{text}</Error>", part
    part = Part(entry.key, entry.version_id or "", 204)
    if quiet:
        return "", part
    shown, marker = _outcome(entry.version_id, deletion)
    if marker and bucket.versioning:
        name += "<DeleteMarker>true</DeleteMarker>"
        name += f"<DeleteMarkerVersionId>{shown}</DeleteMarkerVersionId>"
    return f"<Deleted>{name}</Deleted>", part
