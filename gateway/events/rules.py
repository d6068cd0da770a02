"""Events by S3's names, and the rules that choose them. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/, "Supported event types for SQS, SNS,
and Lambda" and "Configuring event notifications using object key name filtering".
"""

from collections.abc import Callable
from enum import Enum
from functools import lru_cache

import msgspec

TEST_EVENT = "s3:TestEvent"


class Change(Enum):
    """What a commit does to a version."""

    CREATED = "created"
    REMOVED = "removed"
    MARKED = "marked"  # a delete marker was put
    AMENDED = "amended"  # tags, ACL, retention


# All that may be asked for. Those that nothing here causes are kept and never sent.
EVENTS = frozenset(
    {
        "s3:ReducedRedundancyLostObject",
        "s3:ObjectCreated:*", "s3:ObjectCreated:Put", "s3:ObjectCreated:Post",
        "s3:ObjectCreated:Copy", "s3:ObjectCreated:CompleteMultipartUpload",
        "s3:ObjectRemoved:*", "s3:ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated",
        "s3:ObjectRestore:*", "s3:ObjectRestore:Post", "s3:ObjectRestore:Completed",
        "s3:ObjectRestore:Delete",
        "s3:Replication:*", "s3:Replication:OperationFailedReplication",
        "s3:Replication:OperationNotTracked", "s3:Replication:OperationMissedThreshold",
        "s3:Replication:OperationReplicatedAfterThreshold",
        "s3:LifecycleTransition", "s3:IntelligentTiering",
        "s3:LifecycleExpiration:*", "s3:LifecycleExpiration:Delete",
        "s3:LifecycleExpiration:DeleteMarkerCreated",
        "s3:ObjectAcl:Put", "s3:ObjectRetention:Put",
        "s3:ObjectTagging:*", "s3:ObjectTagging:Put", "s3:ObjectTagging:Delete",
        "s3:ObjectAnnotation:*", "s3:ObjectAnnotation:Put", "s3:ObjectAnnotation:Delete",
    }
)  # fmt: skip

_CREATED = {
    "CopyObject": "s3:ObjectCreated:Copy",
    "CompleteMultipartUpload": "s3:ObjectCreated:CompleteMultipartUpload",
    "PostObject": "s3:ObjectCreated:Post",
    "LifecycleTransition": "s3:LifecycleTransition",
}
_AMENDED = {
    "PutObjectTagging": "s3:ObjectTagging:Put",
    "DeleteObjectTagging": "s3:ObjectTagging:Delete",
    "PutObjectAcl": "s3:ObjectAcl:Put",
    "PutObjectRetention": "s3:ObjectRetention:Put",
    "LifecycleTransition": "s3:LifecycleTransition",
    "ReplicationFailed": "s3:Replication:OperationFailedReplication",
}


def event_of(change: Change, operation: str) -> str | None:
    """The event's name; None for what S3 has no event of."""
    match change:
        case Change.CREATED:
            return _CREATED.get(operation, "s3:ObjectCreated:Put")
        case Change.AMENDED:
            return _AMENDED.get(operation)
    expired = operation == "LifecycleExpiration"
    group = "s3:LifecycleExpiration" if expired else "s3:ObjectRemoved"
    return f"{group}:{'Delete' if change is Change.REMOVED else 'DeleteMarkerCreated'}"


class NotificationRule(msgspec.Struct, frozen=True, array_like=True):
    """One configuration: these events of keys with this prefix and suffix go to a target."""

    kind: str  # Topic, Queue or CloudFunction: how it was said, and is said back
    id: str
    arn: str
    target: str  # the target's name in this network's configuration
    events: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""

    def wants(self, event: str, key: str) -> bool:
        """Whether an event of a key is to be told."""
        return (
            key.startswith(self.prefix)
            and key.endswith(self.suffix)
            and any(_covers(pattern, event) for pattern in self.events)
        )

    def overlaps(self, other: "NotificationRule") -> bool:
        """Whether there may be an event that both want."""
        return (
            _either(self.prefix, other.prefix, str.startswith)
            and _either(self.suffix, other.suffix, str.endswith)
            and any(_covers(a, b) or _covers(b, a) for a in self.events for b in other.events)
        )


def _covers(pattern: str, event: str) -> bool:
    return pattern == event or (pattern.endswith("*") and event.startswith(pattern[:-1]))


def _either(a: str, b: str, test: Callable[[str, str], bool]) -> bool:
    return test(a, b) or test(b, a)


_decode = msgspec.msgpack.Decoder(tuple[NotificationRule, ...]).decode


@lru_cache(maxsize=256)
def kept_rules(stored: bytes) -> tuple[NotificationRule, ...]:
    """Stored rules: they hardly ever change and are asked at every commit."""
    return _decode(stored)


def target_of(arn: str) -> str | None:
    """The target's name in an ARN; None for what is none.

    The forms: arn:cumulus:sqs::NAME:webhook (as MinIO has it) and those of AWS, where the
    resource is the name: arn:aws:sns:REGION:ACCOUNT:NAME, arn:aws:lambda:…:function:NAME.
    """
    words = arn.split(":")
    if len(words) < 6 or words[0] != "arn" or words[2] not in ("sqs", "sns", "lambda"):
        return None
    match words[4:]:
        case [name, "webhook"]:
            return name
        case [_, name]:
            return name
        case [_, "function", name]:
            return name
        case _:
            return None
