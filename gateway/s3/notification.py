"""A bucket's notification configuration: the document's two forms and what it is checked for.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html
"""

import hashlib
from itertools import combinations
from xml.etree.ElementTree import Element

import msgspec

from gateway.errors import InvalidArgument, NotImplementedHere
from gateway.events.rules import EVENTS, NotificationRule, kept_rules, target_of
from gateway.s3 import xml
from gateway.s3.errors import MalformedXML
from gateway.s3.exchange import Exchange
from gateway.s3.xml_requests import child_text, child_texts, parse_document

ROOT = "NotificationConfiguration"
RULES_MAX = 100
ID_MAX, VALUE_MAX = 255, 1024
_KINDS = {
    "TopicConfiguration": "Topic",
    "QueueConfiguration": "Queue",
    "CloudFunctionConfiguration": "CloudFunction",
}


def parse_notification(data: bytes) -> bytes | None:
    """The rules as they are stored; None when there are none.

    Raises MalformedXML, InvalidArgument (unknown events, overlapping rules, no ARN),
    NotImplementedHere (EventBridge).
    """
    rules = []
    for element in parse_document(data, ROOT):
        if element.tag == "EventBridgeConfiguration":
            raise NotImplementedHere("There is no EventBridge here: name targets.")
        kind = _KINDS.get(element.tag)
        if kind is None:
            raise MalformedXML
        rules.append(_rule(element, kind))
    if len(rules) > RULES_MAX:
        raise MalformedXML
    if len({rule.id for rule in rules}) < len(rules):
        raise InvalidArgument("Same ID used for multiple configurations. IDs must be unique")
    for one, other in combinations(rules, 2):
        if one.overlaps(other):
            raise InvalidArgument(
                "Configuration is ambiguously defined. Cannot have overlapping suffixes in two "
                "rules if the prefixes are overlapping for the same event type."
            )
    return msgspec.msgpack.encode(tuple(rules)) if rules else None


def _rule(element: Element, kind: str) -> NotificationRule:
    arn = (child_text(element, kind) or "").strip()
    events = tuple(event.strip() for event in child_texts(element, "Event"))
    if not arn or not events:
        raise MalformedXML
    for event in events:
        if event not in EVENTS:
            raise InvalidArgument(
                "A specified event is not supported for notifications.",
                ArgumentName="Event",
                ArgumentValue=event,
            )
    target = target_of(arn)
    if target is None:
        raise InvalidArgument("The ARN is not well formed", ArgumentName=kind, ArgumentValue=arn)
    prefix, suffix = _filter(element)
    identifier = child_text(element, "Id") or _made_id(kind, arn, *events, prefix, suffix)
    if len(identifier) > ID_MAX:
        raise InvalidArgument("The ID is too long.", ArgumentName="Id", ArgumentValue=identifier)
    return NotificationRule(kind, identifier, arn, target, events, prefix, suffix)


def _made_id(*words: str) -> str:
    """For a configuration without one: the same for the same document."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]


def _filter(element: Element) -> tuple[str, str]:
    found: dict[str, str] = {}
    for rule in element.findall("Filter/S3Key/FilterRule"):
        name = (child_text(rule, "Name") or "").strip().lower()
        value = child_text(rule, "Value")
        if value is None:
            raise MalformedXML
        if name not in ("prefix", "suffix"):
            raise InvalidArgument(
                "filter rule name must be either prefix or suffix",
                ArgumentName="FilterRule.Name",
                ArgumentValue=name,
            )
        if name in found:
            raise InvalidArgument(
                f"Cannot specify more than one {name} rule in a filter.",
                ArgumentName="FilterRule.Name",
                ArgumentValue=name,
            )
        if len(value.encode()) > VALUE_MAX:
            raise InvalidArgument(
                "Size of filter rule value cannot exceed 1024 bytes in UTF-8 representation",
                ArgumentName="FilterRule.Value",
                ArgumentValue=value[:64],
            )
        found[name] = value
    return found.get("prefix", ""), found.get("suffix", "")


def notification_document(stored: bytes) -> bytes:
    """The inverse of `parse_notification`."""
    return xml.document(ROOT, "".join(_element(rule) for rule in kept_rules(stored)))


def _element(rule: NotificationRule) -> str:
    name = f"{rule.kind}Configuration"
    events = "".join(f"<Event>{event}</Event>" for event in rule.events)
    return (
        f"<{name}><Id>{xml.escape(rule.id)}</Id><{rule.kind}>{xml.escape(rule.arn)}</{rule.kind}>"
        f"{events}{_filter_element(rule)}</{name}>"
    )


def _filter_element(rule: NotificationRule) -> str:
    rows = "".join(
        f"<FilterRule><Name>{name}</Name><Value>{xml.escape(value)}</Value></FilterRule>"
        for name, value in (("Prefix", rule.prefix), ("Suffix", rule.suffix))
        if value
    )
    return f"<Filter><S3Key>{rows}</S3Key></Filter>" if rows else ""


def check_targets(exchange: Exchange, stored: bytes) -> None:
    """Raises InvalidArgument for a target that this network's configuration does not name.

    Users choose among the operator's targets and never an address: no request goes anywhere else.
    """
    unknown = [
        rule.arn for rule in kept_rules(stored) if rule.target not in exchange.config.targets
    ]
    if unknown:
        raise InvalidArgument(
            "Unable to validate the following destination configurations",
            ArgumentName=unknown[0],
            ArgumentValue="The destination is not configured: see [notify] in cumulus.toml",
        )
