"""Handlers of the tags of objects, whose versions stay the same."""

from collections.abc import Mapping

from msgspec.structs import replace

from gateway.model import ObjectVersion
from gateway.s3 import operations as ops
from gateway.s3.attributes import version_headers
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.tags import OBJECT_TAGS_MAX, parse_tags, tags_document
from gateway.s3.xml_requests import DOCUMENT_MAX


async def _retag(
    exchange: Exchange,
    operation: ops.PutObjectTagging | ops.DeleteObjectTagging,
    tags: Mapping[str, str],
) -> ObjectVersion:
    return await exchange.objects.amend(
        exchange.bucket,
        operation.key,
        operation.version_id,
        lambda attributes: replace(attributes, tags=tags),
    )


async def put_object_tagging(exchange: Exchange, operation: ops.PutObjectTagging) -> Reply:
    """Replace the tags; the version stays."""
    tags = parse_tags(await exchange.document(DOCUMENT_MAX), most=OBJECT_TAGS_MAX)
    version = await _retag(exchange, operation, tags)
    return Reply(200, version_headers(version))


async def get_object_tagging(exchange: Exchange, operation: ops.GetObjectTagging) -> Reply:
    """The tags, none being an empty set."""
    version = exchange.objects.head(exchange.bucket, operation.key, operation.version_id)
    return xml_reply(tags_document(version.attributes.tags), version_headers(version))


async def delete_object_tagging(exchange: Exchange, operation: ops.DeleteObjectTagging) -> Reply:
    """204 whether or not there were tags."""
    version = await _retag(exchange, operation, {})
    return Reply(204, version_headers(version))
