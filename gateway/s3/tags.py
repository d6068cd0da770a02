"""Tags: their rules, and their two forms.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketTagging.html and
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
"""

from collections.abc import Mapping, Sequence

from gateway.errors import InvalidArgument
from gateway.s3 import xml
from gateway.s3.addressing import parse_query
from gateway.s3.errors import InvalidTag, InvalidURI, MalformedXML, TooManyTags
from gateway.s3.xml_requests import child_text, parse_document

KEY_MAX, VALUE_MAX = 128, 256  # characters
BUCKET_TAGS_MAX, OBJECT_TAGS_MAX = 50, 10
HEADER = "x-amz-tagging"


def parse_tags(data: bytes, *, most: int) -> dict[str, str]:
    """The tags of a Tagging document. Raises MalformedXML, InvalidTag."""
    tree = parse_document(data, "Tagging")
    tag_set = tree.find("TagSet")
    if tag_set is None or any(tag.tag != "Tag" for tag in tag_set):
        raise MalformedXML
    pairs = []
    for tag in tag_set:
        key, value = child_text(tag, "Key"), child_text(tag, "Value")
        if key is None or value is None:
            raise MalformedXML
        pairs.append((key, value))
    return _checked(pairs, most)


def read_tags(headers: Mapping[str, str]) -> dict[str, str]:
    """The tags of an upload: x-amz-tagging, in the form of a query. Raises InvalidTag …"""
    text = headers.get(HEADER)
    if not text:
        return {}
    try:
        pairs = parse_query(text.encode("latin-1"))
    except InvalidURI:
        raise InvalidArgument(
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query "
            "parameters without tag name duplicates.",
            ArgumentName=HEADER,
            ArgumentValue=text[:256],
        ) from None
    return _checked(pairs, OBJECT_TAGS_MAX)


def _checked(pairs: Sequence[tuple[str, str]], most: int) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, value in pairs:
        if key in tags:
            raise InvalidTag("Cannot provide multiple Tags with the same key", TagKey=key)
        _check(key, value)
        tags[key] = value
    if len(tags) > most:
        raise TooManyTags if most == OBJECT_TAGS_MAX else InvalidTag("Too many tags.")
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
    """The inverse of `parse_tags`, in order of the keys."""
    rows = "".join(
        f"<Tag><Key>{xml.escape(key)}</Key><Value>{xml.escape(value)}</Value></Tag>"
        for key, value in sorted(tags.items())
    )
    return xml.document("Tagging", f"<TagSet>{rows}</TagSet>")
