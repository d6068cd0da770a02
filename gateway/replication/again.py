"""Sends again what an endpoint did not get: `cumulus bucket replicate`. docs/specs/events.md"""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

import msgspec

from gateway.errors import NoSuchBucket, NoSuchKey, NoSuchVersion
from gateway.events.origin import Origin, caused_by
from gateway.model import Attributes, Bucket, Extra, ObjectVersion, Position, VersionListing
from gateway.replication.rules import FAILED, REPLICA, SENT_AGAIN

PAGE = 1000
FIRST = Position(b"")


class Versions(Protocol):
    """The part of ObjectService that this needs."""

    def head(self, bucket: Bucket, key: str, version_id: str | None = None) -> ObjectVersion:
        """Raises NoSuchKey, NoSuchVersion."""
        ...

    def list_versions(
        self, bucket: Bucket, *, start: Position = FIRST, limit: int = PAGE
    ) -> VersionListing:
        """One page."""
        ...

    async def amend(
        self,
        bucket: Bucket,
        key: str,
        version_id: str | None,
        change: Callable[[Attributes], Attributes],
    ) -> ObjectVersion:
        """Raises NoSuchKey, NoSuchVersion."""
        ...


class Again(msgspec.Struct, frozen=True):
    """How many versions wait now, and how many found no room in the queue."""

    queued: int
    failed: int


async def replicate_again(objects: Versions, bucket: Bucket, *, everything: bool) -> Again:
    """Queue every version that is FAILED; `everything`: those from before the rules, too.

    An endpoint shows what came last, so the newer versions of a key follow, in their order; a key
    whose latest version is a delete marker is left alone.
    """
    queued = failed = 0
    async for key, versions in _by_key(objects, bucket):
        states = [_state(objects, bucket, key, version) for version in versions]
        wanted = [n for n, s in enumerate(states) if s == FAILED or (everything and s == "")]
        if not wanted:
            continue
        for version in reversed(versions[: wanted[-1] + 1]):
            state = await _send(objects, bucket, key, version)
            queued += state.startswith("PENDING")
            failed += state == FAILED
    return Again(queued, failed)


async def _by_key(objects: Versions, bucket: Bucket) -> AsyncIterator[tuple[str, list[str]]]:
    """Every key whose latest version is none that deletes it, with its versions, newest first."""
    key, versions, deleted = "", list[str](), False
    start: Position | None = FIRST
    while start is not None:
        page = objects.list_versions(bucket, start=start, limit=PAGE)
        for version in page.versions:
            if version.key != key:
                if versions and not deleted:
                    yield key, versions
                key, versions, deleted = version.key, [], version.deleted
            if not version.deleted:
                versions.append(version.version_id)
        start = page.next_start
    if versions and not deleted:
        yield key, versions


def _state(objects: Versions, bucket: Bucket, key: str, version: str) -> str:
    try:
        found = objects.head(bucket, key, version)
    except (NoSuchKey, NoSuchVersion):
        return REPLICA  # gone: nothing to send
    return (found.attributes.extra or Extra()).replication


async def _send(objects: Versions, bucket: Bucket, key: str, version: str) -> str:
    try:
        work = objects.amend(bucket, key, version, lambda attributes: attributes)
        made = await caused_by(Origin(SENT_AGAIN), work)
    except (NoSuchBucket, NoSuchKey, NoSuchVersion):
        return ""
    return (made.attributes.extra or Extra()).replication
