"""An event as the document that its target gets. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
(versions 2.1 to 2.3 of a record, each for its events).
"""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import msgspec

from gateway.events.rules import TEST_EVENT
from gateway.records import EventRow

_LATER_VERSION = (
    "s3:LifecycleExpiration", "s3:LifecycleTransition", "s3:IntelligentTiering", "s3:ObjectAcl",
    "s3:ObjectTagging", "s3:ObjectRestore:Delete", "s3:ObjectRetention", "s3:ObjectAnnotation",
)  # fmt: skip


class Message(msgspec.Struct, frozen=True):
    """What a target delivers: messages of one `key` come in their order."""

    event: str  # s3:ObjectCreated:Put
    key: str  # bucket/key
    document: bytes  # JSON: {"Records": [record]}, or the test event


def message_of(row: EventRow) -> Message:
    """The message of a queued event."""
    document = _test(row) if row.event == TEST_EVENT else _records(row)
    return Message(row.event, f"{row.bucket}/{row.key}", msgspec.json.encode(document))


def _test(row: EventRow) -> dict[str, Any]:
    return {
        "Service": "Amazon S3",
        "Event": TEST_EVENT,
        "Time": _time(row.time_ns),
        "Bucket": row.bucket,
        "RequestId": row.request_id,
        "HostId": row.host_id,
    }


def _records(row: EventRow) -> dict[str, Any]:
    """EventName and Key are what MinIO's listeners read; AWS's read Records."""
    thing: dict[str, Any] = {"key": quote_plus(row.key, "/")}
    if row.size is not None:
        thing |= {"size": row.size, "eTag": row.etag}
    if row.version != "null":
        thing["versionId"] = row.version
    thing["sequencer"] = f"{row.sequence:016X}"
    record = {
        "eventVersion": _version(row.event),
        "eventSource": "aws:s3",
        "awsRegion": row.region or "us-east-1",
        "eventTime": _time(row.time_ns),
        "eventName": row.event.removeprefix("s3:"),
        "userIdentity": {"principalId": row.principal or "Anonymous"},
        "requestParameters": {"sourceIPAddress": row.address},
        "responseElements": {"x-amz-request-id": row.request_id, "x-amz-id-2": row.host_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": row.rule,
            "bucket": {
                "name": row.bucket,
                "ownerIdentity": {"principalId": row.owner},
                "arn": f"arn:aws:s3:::{row.bucket}",
            },
            "object": thing,
        },
    }
    return {
        "EventName": row.event,
        "Key": f"{row.bucket}/{row.key}",
        "Records": [record],
    }


def _version(event: str) -> str:
    if event.startswith("s3:Replication"):
        return "2.2"
    return "2.3" if event.startswith(_LATER_VERSION) else "2.1"


def _time(ns: int) -> str:
    moment = datetime.fromtimestamp(ns // 1_000_000 / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
