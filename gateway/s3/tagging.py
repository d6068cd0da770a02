"""Tags of buckets.

Rules: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketTagging.html
"""

from collections.abc import Mapping

import msgspec

from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.errors import InvalidTag, MalformedXML, NoSuchTagSet
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.xml_requests import DOCUMENT_MAX, child_text, parse_document

SETTING = "tagging"
KEY_MAX, VALUE_MAX = 128, 256  # characters
BUCKET_TAGS_MAX = 50


def parse_tags(data: bytes, *, most: int) -> dict[str, str]:
    """The tags of a Tagging document. Raises MalformedXML, InvalidTag."""
    tree = parse_document(data, "Tagging")
    tag_set = tree.find("TagSet")
    if tag_set is None or any(tag.tag != "Tag" for tag in tag_set):
        raise MalformedXML
    tags: dict[str, str] = {}
    for tag in tag_set:
        key, value = child_text(tag, "Key"), child_text(tag, "Value")
        if key is None or value is None:
            raise MalformedXML
        if key in tags:
            raise InvalidTag("Cannot provide multiple Tags with the same key", TagKey=key)
        _check(key, value)
        tags[key] = value
    if len(tags) > most:
        raise InvalidTag(f"Tags cannot be greater than {most}")
    return tags


def _check(key: str, value: str) -> None:
    if not 1 <= len(key) <= KEY_MAX or not _is_text(key):
        raise InvalidTag("The TagKey you have provided is invalid", TagKey=key)
    if key.startswith("aws:"):
        raise InvalidTag("System tags cannot be added/updated by requester", TagKey=key)
    if len(value) > VALUE_MAX or not _is_text(value):
        raise InvalidTag("The TagValue you have provided is invalid", TagKey=key, TagValue=value)


def _is_text(text: str) -> bool:
    return all(char.isalnum() or char.isspace() or char in "+-=._:/@" for char in text)


def tags_document(tags: Mapping[str, str]) -> bytes:
    """The inverse of `parse_tags`."""
    rows = "".join(
        f"<Tag><Key>{xml.escape(key)}</Key><Value>{xml.escape(value)}</Value></Tag>"
        for key, value in tags.items()
    )
    return xml.document("Tagging", f"<TagSet>{rows}</TagSet>")


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
