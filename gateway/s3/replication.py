"""A bucket's replication configuration: the document's two forms and what it is checked for.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketReplication.html. What is said
of metrics, encryption or ownership at the destination is kept and given back.
"""

import hashlib
import re
from xml.etree.ElementTree import Element, SubElement

import msgspec

from gateway.errors import InvalidArgument, InvalidRequest
from gateway.replication.rules import (
    Replication,
    ReplicationRule,
    destination_of,
    kept_replication,
)
from gateway.s3 import xml
from gateway.s3.errors import MalformedXML
from gateway.s3.exchange import Exchange
from gateway.s3.xml_requests import child_text, parse_document

ROOT = "ReplicationConfiguration"
_STORAGE_CLASS = re.compile("[A-Za-z_]{1,64}")
RULES_MAX, ID_MAX, PREFIX_MAX = 1000, 255, 1024


def parse_replication(data: bytes) -> bytes:
    """The rules as they are stored. Raises MalformedXML, InvalidArgument, InvalidRequest."""
    tree = parse_document(data, ROOT)
    elements = tree.findall("Rule")
    if not 1 <= len(elements) <= RULES_MAX or any(
        child.tag not in ("Role", "Rule") for child in tree
    ):
        raise MalformedXML
    rules = tuple(_rule(element) for element in elements)
    if len({rule.id for rule in rules}) < len(rules):
        raise InvalidArgument("Rule Id must be unique", ArgumentName="ID")
    filtered = [r for r, e in zip(rules, elements, strict=True) if e.find("Filter") is not None]
    if filtered and len(filtered) < len(rules):
        raise InvalidRequest("Rules of both versions of the XML schema cannot be combined.")
    places = [(rule.endpoint, rule.target, rule.priority) for rule in filtered]
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise InvalidRequest(f"Found duplicate priority {twice[2]} for one destination")
    return msgspec.msgpack.encode(Replication(rules, xml.document(ROOT, xml.content(tree))))


def _rule(element: Element) -> ReplicationRule:
    status, found = child_text(element, "Status"), element.find("Destination")
    if status not in ("Enabled", "Disabled") or found is None:
        raise MalformedXML
    prefix, tags = _filter(element)
    markers = element.find("DeleteMarkerReplication")
    if element.find("Filter") is not None and (markers is None or _priority(element) is None):
        raise InvalidRequest(
            "DeleteMarkerReplication and Priority must be specified in a rule with a Filter."
        )
    delete_markers = markers is not None and child_text(markers, "Status") == "Enabled"
    if delete_markers and tags:
        raise InvalidRequest(
            "Delete marker replication is not supported if any Tag filter is specified."
        )
    arn, storage_class = child_text(found, "Bucket") or "", child_text(found, "StorageClass") or ""
    destination = destination_of(arn.strip())
    if destination is None:
        raise InvalidArgument("Invalid bucket ARN", ArgumentName="Bucket", ArgumentValue=arn)
    if storage_class and not _STORAGE_CLASS.fullmatch(storage_class):
        raise MalformedXML
    return ReplicationRule(
        _identified(element),
        _priority(element) or 0,
        status == "Enabled",
        prefix,
        tags,
        *destination,
        storage_class,
        delete_markers,
        child_text(element, "SourceSelectionCriteria/SseKmsEncryptedObjects/Status") == "Enabled",
        child_text(found, "EncryptionConfiguration/ReplicaKmsKeyID") or "",
    )


def _identified(element: Element) -> str:
    """The rule's ID; one without gets one, in its document too."""
    identifier = child_text(element, "ID")
    if not identifier:
        identifier = hashlib.sha256(xml.element(element).encode()).hexdigest()[:32]
        for empty in element.findall("ID"):
            element.remove(empty)
        SubElement(element, "ID").text = identifier
    if len(identifier) > ID_MAX:
        raise InvalidArgument("The ID of a rule is too long.", ArgumentName="ID")
    return identifier


def _priority(element: Element) -> int | None:
    text = child_text(element, "Priority")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= 2**31 - 1):
        raise MalformedXML
    return int(text)


def _filter(element: Element) -> tuple[str, dict[str, str]]:
    """Prefix and tags of a rule of either schema."""
    found = element.find("Filter")
    if found is None:
        return _prefix(element), {}
    if len(found) > 1:
        raise MalformedXML
    both = found.find("And")
    inside = found if both is None else both
    tags = {}
    for tag in inside.findall("Tag"):
        name, value = child_text(tag, "Key"), child_text(tag, "Value")
        if not name or value is None or name in tags:
            raise MalformedXML
        tags[name] = value
    return _prefix(inside), tags


def _prefix(element: Element) -> str:
    prefix = child_text(element, "Prefix") or ""
    if len(prefix.encode()) > PREFIX_MAX:
        raise InvalidArgument("The prefix is too long.", ArgumentName="Prefix")
    return prefix


def replication_document(stored: bytes) -> bytes:
    """The inverse of `parse_replication`."""
    return kept_replication(stored).document


def check_replication(exchange: Exchange, stored: bytes) -> None:
    """Raises InvalidRequest for an endpoint that nobody configured."""
    for rule in kept_replication(stored).rules:
        if rule.endpoint not in exchange.config.endpoints:
            raise InvalidRequest(
                f"There is no endpoint {rule.endpoint} here: see [replication] in cumulus.toml"
            )
