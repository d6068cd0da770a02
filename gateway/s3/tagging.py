"""Handlers of tags: of buckets, and of objects, whose versions stay the same."""

import msgspec

from gateway.s3 import operations as ops
from gateway.s3.attributes import version_headers
from gateway.s3.errors import NoSuchTagSet
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.tags import BUCKET_TAGS_MAX, OBJECT_TAGS_MAX, parse_tags, tags_document
from gateway.s3.xml_requests import DOCUMENT_MAX

SETTING = "tagging"


async def put_bucket_tagging(exchange: Exchange, operation: ops.PutBucketTagging) -> Reply:
    """Replace the tags."""
    del operation
    tags = parse_tags(await exchange.document(DOCUMENT_MAX), most=BUCKET_TAGS_MAX)
    await exchange.objects.set_setting(exchange.bucket, SETTING, msgspec.msgpack.encode(tags))
    return Reply(204)


async def get_bucket_tagging(exchange: Exchange, operation: ops.GetBucketTagging) -> Reply:
    """The tags."""
    del operation
    raw = exchange.objects.setting(exchange.bucket, SETTING)
    if raw is None:
        raise NoSuchTagSet(BucketName=exchange.bucket.name)
    return xml_reply(tags_document(msgspec.msgpack.decode(raw, type=dict[str, str])))


async def delete_bucket_tagging(exchange: Exchange, operation: ops.DeleteBucketTagging) -> Reply:
    """204 whether or not there were tags."""
    del operation
    await exchange.objects.set_setting(exchange.bucket, SETTING, None)
    return Reply(204)


async def put_object_tagging(exchange: Exchange, operation: ops.PutObjectTagging) -> Reply:
    """Replace the tags; the version stays."""
    tags = parse_tags(await exchange.document(DOCUMENT_MAX), most=OBJECT_TAGS_MAX)
    version = await exchange.objects.set_tags(
        exchange.bucket, operation.key, operation.version_id, tags
    )
    return Reply(200, version_headers(version))


async def get_object_tagging(exchange: Exchange, operation: ops.GetObjectTagging) -> Reply:
    """The tags, none being an empty set."""
    version = exchange.objects.head(exchange.bucket, operation.key, operation.version_id)
    return xml_reply(tags_document(version.attributes.tags), version_headers(version))


async def delete_object_tagging(exchange: Exchange, operation: ops.DeleteObjectTagging) -> Reply:
    """204 whether or not there were tags."""
    version = await exchange.objects.set_tags(
        exchange.bucket, operation.key, operation.version_id, {}
    )
    return Reply(204, version_headers(version))
