"""A bucket's logging status: the document's two forms and what it is checked for.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLogging.html
"""

import msgspec

from gateway.access_log import Logging, kept_logging
from gateway.errors import NoSuchBucket
from gateway.s3 import xml
from gateway.s3.errors import InvalidTargetBucketForLogging, MalformedXML
from gateway.s3.exchange import Exchange
from gateway.s3.xml_requests import child_text, parse_document

ROOT = "BucketLoggingStatus"
PREFIX_MAX = 800  # what comes behind it has to fit into a key


def parse_logging(data: bytes) -> bytes | None:
    """The setting as it is stored; None switches logging off. Raises MalformedXML."""
    tree = parse_document(data, ROOT)
    found = tree.find("LoggingEnabled")
    if found is None:
        if len(tree):
            raise MalformedXML
        return None
    target, prefix = child_text(found, "TargetBucket"), child_text(found, "TargetPrefix")
    if not target or prefix is None or len(prefix.encode()) > PREFIX_MAX:
        raise MalformedXML
    partition, form = "", found.find("TargetObjectKeyFormat")
    if form is not None and form.find("PartitionedPrefix") is not None:
        if form.find("SimplePrefix") is not None:
            raise MalformedXML
        partition = child_text(form, "PartitionedPrefix/PartitionDateSource") or "DeliveryTime"
        if partition not in ("EventTime", "DeliveryTime"):
            raise MalformedXML
    document = xml.document(ROOT, xml.content(tree))
    return msgspec.msgpack.encode(Logging(target, prefix, partition, document))


def logging_document(stored: bytes) -> bytes:
    """The inverse of `parse_logging`."""
    return kept_logging(stored).document


def check_target(exchange: Exchange, stored: bytes) -> None:
    """Raises InvalidTargetBucketForLogging unless the target is there and the same owner's."""
    name = kept_logging(stored).target
    try:
        target = exchange.objects.bucket(name)
    except NoSuchBucket:
        raise InvalidTargetBucketForLogging(
            "The target bucket for logging does not exist", TargetBucket=name
        ) from None
    if target.owner != exchange.bucket.owner:
        raise InvalidTargetBucketForLogging(
            "The owner for the bucket to be logged and the target bucket must be the same.",
            TargetBucket=name,
        )
