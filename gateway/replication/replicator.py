"""Works off the replications of every endpoint."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from chain.clock import Clock
from gateway.catalog.interface import Catalog
from gateway.errors import (
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    ServiceUnavailable,
    SlowDown,
    StoreError,
)
from gateway.events.courier import Courier, Pace
from gateway.events.origin import Origin, caused_by
from gateway.events.places import Endpoint
from gateway.events.queues import REPLICATIONS, Queue
from gateway.events.target import TargetRefused, TargetUnavailable
from gateway.model import Attributes, Extra, ObjectVersion
from gateway.records import ReplicaRow
from gateway.replication.plan import OBJECT_MAX, plan
from gateway.replication.remote import Remote
from gateway.replication.rules import FAILED, arrived

if TYPE_CHECKING:
    from gateway.objects import ObjectService

Steadily = Callable[[str, Callable[[], Awaitable[None]]], Coroutine[Any, Any, None]]
KEEP_SECONDS = 30 * 86400.0
LANES = 2  # versions under way at once; a part of each, 64 MiB at most, is in memory


class Replicator:
    """Of one endpoint."""

    def __init__(self, objects: "ObjectService", remote: Remote) -> None:
        self._objects = objects
        self._remote = remote

    async def deliver(self, rows: Sequence[ReplicaRow]) -> None:
        """Do what each row says; what is gone meanwhile is done. Raises as Remote does."""
        for row in rows:
            if row.event == "marker":
                await self._remote.delete(row.target, row.key)
                continue
            version = self._version(row)
            if version is None:
                continue
            if row.event == "tags":
                await self._tag(row, version)
            else:
                await self._put(row, version)

    async def _tag(self, row: ReplicaRow, version: ObjectVersion) -> None:
        try:
            latest = self._objects.head(version.bucket, row.key)
        except NoSuchKey:
            return
        if latest.version_id == row.version:  # else another version would get them there
            await self._remote.tag(row.target, row.key, version.attributes.tags)

    async def _put(self, row: ReplicaRow, version: ObjectVersion) -> None:
        if version.size > OBJECT_MAX:
            raise TargetRefused(f"{version.size} bytes are more than replication takes")
        read = partial(self._objects.read, version)
        sent = plan(version, row.storage_class, row.kms_key)
        try:
            await self._remote.put(row.target, version, sent, read)
        except (SlowDown, ServiceUnavailable) as error:
            raise TargetUnavailable(f"the object cannot be read now: {error}") from None
        except StoreError as error:  # its key is switched off
            raise TargetRefused(f"the object cannot be read: {error}") from None
        await self._set_state(row, "Replication", arrived)

    async def give_up(self, row: ReplicaRow) -> None:
        """The row will not be brought again."""
        if row.event == "put":
            await self._set_state(row, "ReplicationFailed", lambda _: FAILED)

    def _version(self, row: ReplicaRow) -> ObjectVersion | None:
        try:
            bucket = self._objects.bucket(row.bucket)
            if bucket.id != row.bucket_id:
                return None
            return self._objects.head(bucket, row.key, row.version)
        except (NoSuchBucket, NoSuchKey, NoSuchVersion):
            return None

    async def _set_state(
        self, row: ReplicaRow, operation: str, change: Callable[[str], str]
    ) -> None:
        def changed(attributes: Attributes) -> Attributes:
            extra = attributes.extra or Extra()
            state = change(extra.replication)
            extra = msgspec.structs.replace(extra, replication=state)
            return msgspec.structs.replace(attributes, extra=extra)

        version = self._version(row)
        if version is None:
            return
        try:
            work = self._objects.amend(version.bucket, row.key, row.version, changed)
            await caused_by(Origin(operation), work)
        except (NoSuchBucket, NoSuchKey, NoSuchVersion):
            return  # deleted meanwhile


async def _serve(
    objects: "ObjectService", catalog: Catalog, name: str, endpoint: Endpoint, clock: Clock
) -> None:
    remote = Remote(endpoint)
    replicator = Replicator(objects, remote)
    queue = Queue(catalog, REPLICATIONS, name, ReplicaRow)
    pace = Pace(lanes=LANES, keep_seconds=KEEP_SECONDS)
    try:
        await Courier(queue, replicator.deliver, clock, pace, replicator.give_up).run()
    finally:
        await remote.close()


async def replicate(
    objects: "ObjectService",
    catalog: Catalog,
    endpoints: Mapping[str, Endpoint],
    clock: Clock,
    steadily: Steadily,
) -> None:
    """Replicate to every configured endpoint until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.Event().wait())  # also without any
        for name, endpoint in endpoints.items():
            work = partial(_serve, objects, catalog, name, endpoint, clock)
            group.create_task(steadily(f"replication to {name}", work))
