"""Configurations of which a bucket may have several, each with an id: put, got, listed, deleted.

Inventories are made (gateway/inventory); configurations of analytics, metrics and Intelligent-
Tiering are checked, kept and given back, and nothing acts on them. All of one kind are one setting
of the bucket: a MessagePack map of id to Configuration.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketInventoryConfiguration.html
and its neighbours.
"""

import re
from collections.abc import Callable
from xml.etree.ElementTree import Element

import msgspec

from gateway.errors import InvalidArgument, NotImplementedHere
from gateway.inventory.setting import FIELDS, Configuration, Inventory, kept_configurations
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.errors import (
    InvalidS3DestinationBucket,
    MalformedXML,
    NoSuchConfiguration,
    TooManyConfigurations,
)
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.xml_requests import child_text, parse_document

CONFIGURATIONS_MAX, PAGE = 1000, 100
CONFIGURATION_BYTES = 64 << 10
_ARN = "arn:aws:s3:::"
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Kind(msgspec.Struct, frozen=True):
    """One kind. `listing` is the root of its lists."""

    noun: str  # of its operations, and its documents' root
    listing: str
    # What it means here. Raises StoreError for what it cannot be
    read: Callable[[Element], Inventory | None]

    def operation(self, method: str, *, named: bool) -> str:
        """The name in S3's model of GET (of one, or the list), PUT or DELETE."""
        if method == "GET" and not named:
            return f"ListBucket{self.noun}s"
        return f"{method.capitalize()}Bucket{self.noun}"


def _inventory(tree: Element) -> Inventory:
    place = "Destination/S3BucketDestination"
    arn, form = _text(tree, f"{place}/Bucket"), _text(tree, f"{place}/Format")
    if not arn.startswith(_ARN) or len(arn) == len(_ARN):
        raise InvalidS3DestinationBucket
    if form in ("ORC", "Parquet"):
        raise NotImplementedHere("Inventories are made as CSV alone.")
    fields = tuple(one.text or "" for one in tree.findall("OptionalFields/Field"))
    if form != "CSV" or not set(fields) <= set(FIELDS) or len(set(fields)) < len(fields):
        raise MalformedXML
    return Inventory(
        id=_text(tree, "Id"),
        enabled=_either(tree, "IsEnabled", "true", "false"),
        target=arn.removeprefix(_ARN),
        prefix=_text(tree, f"{place}/Prefix"),
        versions=_either(tree, "IncludedObjectVersions", "All", "Current"),
        weekly=_either(tree, "Schedule/Frequency", "Weekly", "Daily"),
        fields=fields,
        of_prefix=_text(tree, "Filter/Prefix"),
    )


def _text(tree: Element, path: str) -> str:
    return (child_text(tree, path) or "").strip()


def _either(tree: Element, path: str, yes: str, no: str) -> bool:
    text = _text(tree, path)
    if text not in (yes, no):
        raise MalformedXML
    return text == yes


def _metrics(tree: Element) -> None:
    """Of metrics: nothing, or one condition, or several in And."""
    found = tree.find("Filter")
    if found is not None and len(found) != 1:
        raise MalformedXML
    known = ("Prefix", "Tag", "AccessPointArn", "And")
    if found is not None and found[0].tag not in known:
        raise MalformedXML


def _analytics(tree: Element) -> None:
    if tree.find("StorageClassAnalysis") is None:
        raise MalformedXML
    _metrics(tree)


def _tiering(tree: Element) -> None:
    _metrics(tree)
    tiers = tree.findall("Tiering")
    if child_text(tree, "Status") not in ("Enabled", "Disabled") or not tiers:
        raise MalformedXML
    least = {"ARCHIVE_ACCESS": 90, "DEEP_ARCHIVE_ACCESS": 180}
    for tier in tiers:
        name, days = child_text(tier, "AccessTier") or "", child_text(tier, "Days") or ""
        if name not in least or not re.fullmatch("[0-9]{1,4}", days):
            raise MalformedXML
        if not least[name] <= int(days) <= 730:
            raise InvalidArgument(
                f"'Days' of {name} must be {least[name]} to 730",
                ArgumentName="Days",
                ArgumentValue=days,
            )


KINDS: dict[str, Kind] = {
    "analytics": Kind(
        "AnalyticsConfiguration", "ListBucketAnalyticsConfigurationsResult", _analytics
    ),
    "intelligent-tiering": Kind(
        "IntelligentTieringConfiguration",
        "ListBucketIntelligentTieringConfigurationsOutput",
        _tiering,
    ),
    "inventory": Kind("InventoryConfiguration", "ListInventoryConfigurationsResult", _inventory),
    "metrics": Kind("MetricsConfiguration", "ListMetricsConfigurationsResult", _metrics),
}


def _kept(stored: bytes | None) -> dict[str, Configuration]:
    return {} if stored is None else kept_configurations(stored)


def _checked_id(identifier: str) -> str:
    if not _ID.fullmatch(identifier):
        raise InvalidArgument(
            "The id is 1 to 64 letters, digits, periods, hyphens and underscores.",
            ArgumentName="id",
            ArgumentValue=identifier[:64],
        )
    return identifier


async def put_configuration(exchange: Exchange, operation: ops.PutConfiguration) -> Reply:
    """Add or replace one."""
    kind, identifier = KINDS[operation.parameter], _checked_id(operation.id)
    tree = parse_document(await exchange.document(CONFIGURATION_BYTES), kind.noun)
    if child_text(tree, "Id") != identifier:
        raise InvalidArgument(
            "The id of the request and of the document differ.",
            ArgumentName="id",
            ArgumentValue=identifier,
        )
    made = Configuration(xml.content(tree), kind.read(tree))

    def change(stored: bytes | None) -> bytes:
        found = _kept(stored) | {identifier: made}
        if len(found) > CONFIGURATIONS_MAX:
            raise TooManyConfigurations
        return msgspec.msgpack.encode(found)

    await exchange.objects.change_setting(exchange.bucket, operation.parameter, change)
    return Reply(200)


async def get_configuration(exchange: Exchange, operation: ops.GetConfiguration) -> Reply:
    """One's document."""
    stored = _kept(exchange.objects.setting(exchange.bucket, operation.parameter))
    found = stored.get(_checked_id(operation.id))
    if found is None:
        raise NoSuchConfiguration(BucketName=operation.bucket)
    return xml_reply(xml.document(KINDS[operation.parameter].noun, found.document))


async def delete_configuration(exchange: Exchange, operation: ops.DeleteConfiguration) -> Reply:
    """204; 404 when there was none."""
    identifier = _checked_id(operation.id)

    def change(stored: bytes | None) -> bytes | None:
        found = _kept(stored)
        if identifier not in found:
            raise NoSuchConfiguration(BucketName=operation.bucket)
        left = {name: one for name, one in found.items() if name != identifier}
        return msgspec.msgpack.encode(left) if left else None

    await exchange.objects.change_setting(exchange.bucket, operation.parameter, change)
    return Reply(204)


async def list_configurations(exchange: Exchange, operation: ops.ListConfigurations) -> Reply:
    """A page of them, by id."""
    kind = KINDS[operation.parameter]
    stored = _kept(exchange.objects.setting(exchange.bucket, operation.parameter))
    names = sorted(name for name in stored if name > operation.token)
    page = names[:PAGE]
    rows = "".join(f"<{kind.noun}>{stored[name].document}</{kind.noun}>" for name in page)
    more = len(names) > PAGE
    rows += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
    if operation.token:
        rows += f"<ContinuationToken>{xml.escape(operation.token)}</ContinuationToken>"
    if more:
        rows += f"<NextContinuationToken>{page[-1]}</NextContinuationToken>"
    return xml_reply(xml.document(kind.listing, rows))
