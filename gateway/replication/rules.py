"""Replication rules: which versions go where. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-add-config.html
"""

from collections.abc import Mapping
from functools import lru_cache

import msgspec

PENDING, COMPLETED, FAILED, REPLICA = "PENDING", "COMPLETED", "FAILED", "REPLICA"
DEFAULT_ENDPOINT = "default"
SENT_AGAIN = "ReplicateAgain"  # the operation of an amendment that changes nothing


class ReplicationRule(msgspec.Struct, frozen=True, array_like=True):
    """One rule. The highest priority wins among those with the same destination."""

    id: str
    priority: int
    enabled: bool
    prefix: str
    tags: dict[str, str]
    endpoint: str  # a name of `[replication]`
    target: str  # the bucket there
    storage_class: str = ""
    delete_markers: bool = False
    kms: bool = False  # versions under a key of KMS too
    kms_key: str = ""  # which they get there; "": that bucket's default

    def covers(self, key: str, tags: Mapping[str, str]) -> bool:
        """Whether it is about a version with this key and these tags."""
        return (
            self.enabled
            and key.startswith(self.prefix)
            and all(tags.get(name) == value for name, value in self.tags.items())
        )


class Replication(msgspec.Struct, frozen=True, array_like=True):
    """A bucket's setting: its rules, and the document that they were read from."""

    rules: tuple[ReplicationRule, ...]
    document: bytes


_decode = msgspec.msgpack.Decoder(Replication).decode


@lru_cache(maxsize=256)
def kept_replication(stored: bytes) -> Replication:
    """A stored setting: it hardly ever changes and is asked at every commit."""
    return _decode(stored)


def chosen(
    rules: tuple[ReplicationRule, ...], key: str, tags: Mapping[str, str]
) -> list[ReplicationRule]:
    """The rule for each destination that a version goes to."""
    found: dict[tuple[str, str], ReplicationRule] = {}
    for rule in rules:
        if rule.covers(key, tags):
            place = (rule.endpoint, rule.target)
            if place not in found or rule.priority > found[place].priority:
                found[place] = rule
    return list(found.values())


def destination_of(arn: str) -> tuple[str, str] | None:
    """(endpoint, bucket) of a destination's ARN; None for what is none.

    arn:cumulus:replication::ENDPOINT:BUCKET (as MinIO has it); arn:aws:s3:::BUCKET is that bucket
    at the endpoint called `default`.
    """
    words = arn.split(":")
    match words:
        case ["arn", _, "s3", "", "", bucket] if bucket:
            return DEFAULT_ENDPOINT, bucket
        case ["arn", _, "replication", _, endpoint, bucket] if endpoint and bucket:
            return endpoint, bucket
        case _:
            return None


# Where several destinations are waited for, the state counts them: PENDING+2 is two more.
def pending(destinations: int) -> str:
    """The state of a version that so many destinations wait for."""
    return PENDING if destinations == 1 else f"{PENDING}+{destinations - 1}"


def arrived(state: str) -> str:
    """The state when one destination more has it."""
    name, _, more = state.partition("+")
    if name != PENDING:
        return state
    return pending(int(more)) if more else COMPLETED


def shown(state: str) -> str:
    """The state as x-amz-replication-status says it."""
    return state.partition("+")[0]
