"""A bucket's lifecycle configuration: the document's two forms.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html;
codes and messages are those that S3 was seen to answer.
"""

import base64
import hashlib
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from xml.etree.ElementTree import Element

import msgspec

from gateway.errors import InvalidArgument, InvalidRequest, InvalidStorageClass
from gateway.lifecycle.rules import (
    DAY_NS,
    Expiration,
    Filter,
    Lifecycle,
    Noncurrent,
    Rule,
    Transition,
    kept_lifecycle,
)
from gateway.s3 import xml
from gateway.s3.errors import MalformedXML
from gateway.s3.lifecycle_checks import ACTIONS, check_forms, check_rule
from gateway.s3.timestamps import iso
from gateway.s3.xml_requests import parse_document
from gateway.storage_classes import ARCHIVES, profile_of

T = TypeVar("T")

ROOT = "LifecycleConfiguration"
RULES_MAX, ID_MAX = 1000, 255
SIZE_MAX = 1000 << 40
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII
)


# ------------------------------------------------------------------ parsing
def parse_lifecycle(data: bytes) -> bytes:
    """The configuration as it is stored. Raises MalformedXML, InvalidArgument, InvalidRequest."""
    elements = list(parse_document(data, ROOT))
    if not elements or any(element.tag != "Rule" for element in elements):
        raise MalformedXML
    if len(elements) > RULES_MAX:
        raise InvalidRequest(
            f"The number of lifecycle rules must not exceed the allowed limit of {RULES_MAX} rules."
        )
    rules = tuple(_rule(element, number) for number, element in enumerate(elements))
    if len({rule.id for rule in rules}) < len(rules):
        raise InvalidArgument("Rule ID must be unique. Found same ID for more than one rule")
    check_forms(rules)
    return msgspec.msgpack.encode(Lifecycle(rules))


def _rule(element: Element, number: int) -> Rule:
    parts = _children(element, {"ID", "Prefix", "Filter", "Status", *ACTIONS},
                      many={"Transition", "NoncurrentVersionTransition"})  # fmt: skip
    name = _text(parts, "ID") or _made_id(element, number)
    if len(name) > ID_MAX:
        raise InvalidArgument(f"ID length should not exceed allowed limit of {ID_MAX}")
    legacy = "Prefix" in parts
    if _text(parts, "Status") not in ("Enabled", "Disabled") or legacy == ("Filter" in parts):
        raise MalformedXML
    chosen = Filter(prefix=_text(parts, "Prefix")) if legacy else _filter(parts["Filter"][0])
    rule = Rule(
        id=name,
        enabled=_text(parts, "Status") == "Enabled",
        filter=chosen,
        legacy=legacy,
        expiration=_one(parts, "Expiration", _expiration),
        transitions=tuple(_transition(each) for each in parts.get("Transition", ())),
        noncurrent=_one(parts, "NoncurrentVersionExpiration", _noncurrent),
        noncurrent_transitions=tuple(
            _noncurrent_transition(each) for each in parts.get("NoncurrentVersionTransition", ())
        ),
        abort_days=_one(parts, "AbortIncompleteMultipartUpload", _abort),
    )
    check_rule(rule)
    return rule


def _made_id(element: Element, number: int) -> str:
    """For a rule without one: in the form of S3's, the same for the same rule in its place."""
    text = ascii([(each.tag, each.text) for each in element.iter()])
    made = uuid.UUID(bytes=hashlib.sha256(f"{number} {text}".encode()).digest()[:16], version=4)
    return base64.b64encode(str(made).encode()).decode()


def _filter(element: Element) -> Filter:
    """One predicate, or an And of several. Several without it, or beside it, count as joined.

    AWS has no place for these; others do, and what they mean is plain.
    """
    names = {"Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan"}
    parts = _children(element, {*names, "And"})
    if "And" not in parts:
        return _predicates(parts, joined=False)
    inner = _children(parts.pop("And")[0], names, many={"Tag"})
    if sum(len(each) for each in inner.values()) < 2:
        raise MalformedXML
    joined = _predicates(inner, joined=True)
    if not parts:
        return joined
    return msgspec.structs.replace(_predicates(parts, joined=False), also=joined)


def _predicates(parts: Mapping[str, list[Element]], *, joined: bool) -> Filter:
    tags = tuple(_tag(each) for each in parts.get("Tag", ()))
    if len({name for name, _ in tags}) < len(tags):
        raise InvalidRequest("Duplicate Tag Keys are not allowed.")
    above = _one(parts, "ObjectSizeGreaterThan", lambda each: _size(each, 0))
    below = _one(parts, "ObjectSizeLessThan", lambda each: _size(each, 1))
    if above is not None and below is not None and below <= above:
        raise InvalidRequest(
            "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'."
        )
    prefix = _text(parts, "Prefix") if "Prefix" in parts else None
    if prefix is not None and len(prefix.encode("utf-8", "surrogatepass")) > 1024:
        raise InvalidRequest("The maximum size of a prefix is 1024.")
    return Filter(prefix, tags, above, below, joined)


def _tag(element: Element) -> tuple[str, str]:
    parts = _children(element, {"Key", "Value"})
    key, value = _text(parts, "Key"), _text(parts, "Value")
    if not key or len(key) > 128 or len(value) > 256:
        raise InvalidRequest("The TagKey or TagValue you have provided is invalid")
    return key, value


def _expiration(element: Element) -> Expiration:
    parts = _children(element, {"Days", "Date", "ExpiredObjectDeleteMarker"})
    if len(parts) != 1:
        raise MalformedXML
    if "Days" in parts:
        return Expiration(days=_positive(parts["Days"][0], "'Days' for Expiration action"))
    if "Date" in parts:
        return Expiration(date_ns=_date(parts["Date"][0]))
    said = _text(parts, "ExpiredObjectDeleteMarker").strip().lower()
    if said not in ("true", "false"):
        raise MalformedXML
    return Expiration(marker=said == "true")


def _transition(element: Element) -> Transition:
    parts = _children(element, {"Days", "Date", "StorageClass"})
    if ("Days" in parts) == ("Date" in parts):
        raise MalformedXML
    where = _class(parts)
    if "Date" in parts:
        return Transition(where, date_ns=_date(parts["Date"][0]))
    days = _whole(parts["Days"][0])
    if days < 0:
        raise InvalidArgument("'Days' in Transition action must be nonnegative")
    return Transition(where, days=days)


def _noncurrent(element: Element) -> Noncurrent:
    parts = _children(element, {"NoncurrentDays", "NewerNoncurrentVersions"})
    if "NoncurrentDays" not in parts:
        raise MalformedXML
    days = _positive(
        parts["NoncurrentDays"][0], "'NoncurrentDays' for NoncurrentVersionExpiration action"
    )
    return Noncurrent(days, _newer(parts))


def _noncurrent_transition(element: Element) -> Noncurrent:
    parts = _children(element, {"NoncurrentDays", "NewerNoncurrentVersions", "StorageClass"})
    if "NoncurrentDays" not in parts:
        raise MalformedXML
    days = _whole(parts["NoncurrentDays"][0])
    if days < 0:
        raise InvalidArgument(
            "'NoncurrentDays' in NoncurrentVersionTransition action must be nonnegative"
        )
    return Noncurrent(days, _newer(parts), _class(parts))


def _newer(parts: Mapping[str, list[Element]]) -> int | None:
    if "NewerNoncurrentVersions" not in parts:
        return None
    return _positive(parts["NewerNoncurrentVersions"][0], "'NewerNoncurrentVersions'")


def _abort(element: Element) -> int:
    parts = _children(element, {"DaysAfterInitiation"})
    if not parts:
        raise MalformedXML
    return _positive(
        parts["DaysAfterInitiation"][0],
        "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action",
    )


def _class(parts: Mapping[str, list[Element]]) -> str:
    """Raises MalformedXML, and InvalidStorageClass for classes that need a restore."""
    name = _text(parts, "StorageClass").strip()
    if name in ARCHIVES:
        raise InvalidStorageClass(
            "Objects of this storage class would have to be restored before they are read, and "
            "nothing is kept so here. Name GLACIER_IR or an erasure profile.",
            StorageClassRequested=name,
        )
    try:
        profile_of(name)
    except InvalidStorageClass:
        raise MalformedXML from None
    return name


# ------------------------------------------------------------------ elements
def _children(
    element: Element, known: set[str], *, many: Iterable[str] = ()
) -> dict[str, list[Element]]:
    """Children by name, each known, and once unless in `many`. Raises MalformedXML."""
    found: dict[str, list[Element]] = {}
    for child in element:
        if child.tag not in known or (child.tag in found and child.tag not in many):
            raise MalformedXML
        found.setdefault(child.tag, []).append(child)
    return found


def _text(parts: Mapping[str, list[Element]], name: str) -> str:
    return (parts[name][0].text or "") if name in parts else ""


def _one(parts: Mapping[str, list[Element]], name: str, read: Callable[[Element], T]) -> T | None:
    return read(parts[name][0]) if name in parts else None


def _whole(element: Element) -> int:
    text = (element.text or "").strip()
    if not re.fullmatch(r"[+-]?\d{1,10}", text, re.ASCII) or abs(int(text)) >= 1 << 31:
        raise MalformedXML
    return int(text)


def _positive(element: Element, what: str) -> int:
    number = _whole(element)
    if number <= 0:
        raise InvalidArgument(f"{what} must be a positive integer")
    return number


def _size(element: Element, least: int) -> int:
    text = (element.text or "").strip()
    if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII):
        raise MalformedXML
    if not least <= int(text) <= SIZE_MAX:
        raise InvalidRequest(f"'{element.tag}' should be between {least} and {SIZE_MAX}.")
    return int(text)


def _date(element: Element) -> int:
    """ISO 8601, midnight in UTC; ns since 1970. Raises MalformedXML, InvalidArgument."""
    text = (element.text or "").strip()
    if not _DATE.fullmatch(text):
        raise MalformedXML
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        nanoseconds = (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, OverflowError):
        raise MalformedXML from None
    if nanoseconds % DAY_NS:
        raise InvalidArgument("'Date' must be at midnight GMT")
    return nanoseconds


# ------------------------------------------------------------------ the document
def lifecycle_document(stored: bytes) -> bytes:
    """The inverse of `parse_lifecycle`."""
    rules = "".join(f"<Rule>{_rule_xml(rule)}</Rule>" for rule in kept_lifecycle(stored).rules)
    return xml.document(ROOT, rules)


def _element(name: str, value: object) -> str:
    return "" if value is None else f"<{name}>{xml.escape(str(value))}</{name}>"


def _rule_xml(rule: Rule) -> str:
    where = _element("Prefix", rule.filter.prefix) if rule.legacy else _filter_xml(rule.filter)
    text = f"{_element('ID', rule.id)}{where}"
    text += _element("Status", "Enabled" if rule.enabled else "Disabled")
    if (gone := rule.expiration) is not None:
        marker = None if gone.marker is None else str(gone.marker).lower()
        inner = _element("Days", gone.days) + _element("Date", _date_text(gone.date_ns))
        text += f"<Expiration>{inner}{_element('ExpiredObjectDeleteMarker', marker)}</Expiration>"
    for each in rule.transitions:
        inner = _element("Days", each.days) + _element("Date", _date_text(each.date_ns))
        text += f"<Transition>{inner}{_element('StorageClass', each.storage_class)}</Transition>"
    for name, found in (
        ("NoncurrentVersionExpiration", (rule.noncurrent,)),
        ("NoncurrentVersionTransition", rule.noncurrent_transitions),
    ):
        for noncurrent in found:
            if noncurrent is not None:
                inner = _element("NoncurrentDays", noncurrent.days)
                inner += _element("NewerNoncurrentVersions", noncurrent.newer)
                inner += _element("StorageClass", noncurrent.storage_class or None)
                text += f"<{name}>{inner}</{name}>"
    if rule.abort_days is not None:
        inner = _element("DaysAfterInitiation", rule.abort_days)
        text += f"<AbortIncompleteMultipartUpload>{inner}</AbortIncompleteMultipartUpload>"
    return text


def _filter_xml(chosen: Filter) -> str:
    inner = _predicates_xml(chosen)
    return f"<Filter>{inner}</Filter>" if inner else "<Filter/>"


def _predicates_xml(chosen: Filter) -> str:
    inner = _element("Prefix", chosen.prefix)
    for name, value in chosen.tags:
        inner += f"<Tag>{_element('Key', name)}{_element('Value', value)}</Tag>"
    inner += _element("ObjectSizeGreaterThan", chosen.above)
    inner += _element("ObjectSizeLessThan", chosen.below)
    if chosen.joined:
        inner = f"<And>{inner}</And>"
    return inner if chosen.also is None else inner + _predicates_xml(chosen.also)


def _date_text(moment_ns: int | None) -> str | None:
    return None if moment_ns is None else iso(moment_ns)
