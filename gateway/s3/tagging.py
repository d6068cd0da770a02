"""Handlers of the tags of objects, whose versions stay the same."""

from collections.abc import Mapping

from msgspec.structs import replace

from gateway.model import ObjectVersion
from gateway.s3 import operations as ops
from gateway.s3.access import Action
from gateway.s3.attributes import version_headers
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.tags import OBJECT_TAGS_MAX, parse_tags, tags_document

TAGS_DOCUMENT_MAX = 64 * 1024


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
    """Replace the tags; the version stays. A policy may ask for them: they are read before it."""
    permission, bucket = exchange.permission, exchange.bucket
    asked = (Action.CONFIGURE, bucket, "PutObjectTagging", operation.key, operation.version_id)
    given = permission.asks_given_tags(bucket)
    if not given:
        permission.check(*asked)
    tags = parse_tags(await exchange.document(TAGS_DOCUMENT_MAX), most=OBJECT_TAGS_MAX)
    if given:
        permission.given_tags = tags
        permission.check(*asked)
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
