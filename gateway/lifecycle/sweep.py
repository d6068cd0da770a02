"""The lifecycle job: once a day it goes through the buckets that have rules and does what is due.

A pass begins with each day and goes on where it was after a restart. Everything is judged by the
time of its step and done on condition that the version is still what the rules were asked about:
an object that was overwritten meanwhile stays, and so does what a lock holds.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from chain.clock import Clock
from gateway.catalog.interface import Catalog, Space
from gateway.errors import (
    AccessDenied,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    QuotaExceeded,
    ServiceUnavailable,
    StoreError,
)
from gateway.events.origin import Origin, caused_by
from gateway.jobs import Step
from gateway.lifecycle.rules import LIFECYCLE, Calendar, Facts, Plan, plan_of
from gateway.model import Bucket, ObjectVersion, Position, Standing, Upload
from gateway.objects import ObjectService
from gateway.records import STORAGE_CLASS, BucketRow, CorruptRecord, JobRow, decode
from gateway.storage_classes import profile_of

log = logging.getLogger(__name__)

_PAGE = 250  # versions or uploads of one step
_BUCKETS = 1000
_AT_ONCE = 16
_IDLE_SECONDS = 60.0  # a clock that is set is noticed after so long
_EXPIRING = Origin(operation="LifecycleExpiration")
_MOVING = Origin(operation="LifecycleTransition")
_RELEASES = 16  # of what transitions left, a step
# What somebody else's change, a lock, or a full lease leaves nothing to do of.
_OVERTAKEN = (AccessDenied, NoSuchBucket, NoSuchKey, NoSuchUpload, NoSuchVersion, QuotaExceeded)


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a pass goes on (JobRow.position, MessagePack)."""

    bucket: str = ""  # the present one; what comes before it is done
    uploads: bool = False  # its versions are done
    key: bytes = b""  # as Position; of uploads: as ObjectService.list_uploads has it
    below: int | None = None
    superseded_ns: int = 0
    newer: int = 0  # noncurrent versions of the key before this place


class Due(NamedTuple):
    """Something to do; False when there was nothing to do after all."""

    name: str
    work: Callable[[], Awaitable[bool]]
    marker: bool = False  # after all else: what goes may leave a marker alone
    moves: bool = False  # takes a segment's memory: one at a time


class Sweep:
    """The Job. `rate`: things done a second, at most."""

    name = "lifecycle"

    def __init__(
        self,
        objects: ObjectService,
        catalog: Catalog,
        clock: Clock,
        calendar: Calendar,
        *,
        rate: float,
    ) -> None:
        self._objects = objects
        self._catalog = catalog
        self._clock = clock
        self._calendar = calendar
        self._rate = rate

    async def step(self, state: JobRow) -> Step:
        """See Job."""
        now = self._clock.now_ns()
        for _ in range(_RELEASES):
            if not await self._objects.release_retired():
                break
        if not state.position and self._calendar.number(state.began_ns) == (
            self._calendar.number(now)
        ):
            left = (self._calendar.next_day(now) - now) / 1e9
            return Step(pause=min(left, _IDLE_SECONDS))
        place = msgspec.msgpack.decode(state.position, type=Place) if state.position else Place()
        begun = self._clock.monotonic()
        following, done = await self._go_on(place, now)
        if following is None:
            return Step(done=done, ended=True)
        spent = self._clock.monotonic() - begun
        pause = max(0.0, done / self._rate - spent)
        return Step(msgspec.msgpack.encode(following), done, pause)

    async def _go_on(self, place: Place, now: int) -> tuple[Place | None, int]:
        """One page; where the next one is, and how much was done."""
        bucket = self._bucket(place.bucket)
        if bucket is None:
            return self._next_bucket(place.bucket), 0
        stored = self._objects.setting(bucket, LIFECYCLE)
        if stored is None:
            return self._next_bucket(place.bucket), 0
        page = _Page(self._objects, bucket, plan_of(stored, self._calendar), now)
        following = page.uploads(place) if place.uploads else page.versions(place)
        done = await _all_of(page.due)
        return following or self._next_bucket(place.bucket), done

    def _bucket(self, name: str) -> Bucket | None:
        """None of one that is gone, or has no rules."""
        try:
            bucket = self._objects.bucket(name)
        except NoSuchBucket:
            return None
        return bucket if LIFECYCLE in bucket.settings else None

    def _next_bucket(self, after: str) -> Place | None:
        """The beginning of the next bucket with rules."""
        start = after.encode() + b"\0"
        while True:
            with self._catalog.read() as reader:
                rows = reader.scan(Space.BUCKETS, start, None, _BUCKETS)
            for name, value in rows:
                if LIFECYCLE in decode(BucketRow, value).settings:
                    return Place(name.decode())
            if len(rows) < _BUCKETS:
                return None
            start = rows[-1][0] + b"\0"


class _Page:
    """What is due among one page of a bucket."""

    def __init__(self, objects: ObjectService, bucket: Bucket, plan: Plan, now: int) -> None:
        self._objects = objects
        self._bucket = bucket
        self._plan = plan
        self._now = now
        self.due: list[Due] = []

    # ------------------------------------------------------------------ uploads
    def uploads(self, place: Place) -> Place | None:
        """The page behind; None at the end."""
        found, start = self._objects.list_uploads(self._bucket, start=place.key, limit=_PAGE)
        for upload in found:
            due = self._plan.abort(upload.key, upload.started_ns)
            if due is not None and due.when_ns <= self._now:
                self.due.append(Due(self._name(upload.key), partial(self._abort, upload)))
        return None if start is None else msgspec.structs.replace(place, key=start)

    def _name(self, key: str) -> str:
        return f"{self._bucket.name}/{key}"

    async def _abort(self, upload: Upload) -> bool:
        await self._objects.abort_upload(upload)
        return True

    # ------------------------------------------------------------------ versions
    def versions(self, place: Place) -> Place:
        """The page behind, or the beginning of the uploads."""
        start = Position(place.key, place.below, place.superseded_ns)
        page = self._objects.list_versions(self._bucket, start=start, limit=_PAGE)
        key, newer = place.key.decode("utf-8", "surrogateescape"), place.newer
        for version in page.versions:
            if version.key != key:
                key, newer = version.key, 0
            self._judge(version, newer)
            newer += version.superseded_ns > 0
        if page.next_start is None:
            return Place(place.bucket, uploads=True)
        following = page.next_start
        same = following.below is not None and following.key == key.encode(
            "utf-8", "surrogateescape"
        )
        return Place(
            place.bucket,
            key=following.key,
            below=following.below,
            superseded_ns=following.superseded_ns,
            newer=newer if same else 0,
        )

    def _judge(self, version: ObjectVersion, newer: int) -> None:
        """Note what is to be done with a version."""
        if version.deleted and not version.superseded_ns:
            if self._plan.marker(_facts(version), self._now):
                self._expire(version, Standing.ALONE)
            return
        if self._plan.asks_tags and not version.deleted:
            if not self._may_act(version, newer):
                return
            try:
                version = self._whole(version)
            except _OVERTAKEN:
                return
        self._act(version, newer)

    def _may_act(self, version: ObjectVersion, newer: int) -> bool:
        """Whether anything is due with some tags in some class."""
        plan = self._plan.untagged
        return self._goes(plan, version, newer) or (
            plan.moves and self._where(plan, version, newer, _facts(version, "")) is not None
        )

    def _act(self, version: ObjectVersion, newer: int) -> None:
        """Note what is due of a version that is known whole.

        What goes for good need not move first; what is only hidden does.
        """
        standing = Standing.NONCURRENT if version.superseded_ns else Standing.LATEST
        goes = self._goes(self._plan, version, newer)
        hides = standing is Standing.LATEST and self._bucket.versioning
        where = None
        if not goes or hides:
            where = self._where(self._plan, version, newer, _facts(version))
        if where is not None:
            self._move(version, where)
        elif goes:
            self._expire(version, standing)

    def _goes(self, plan: Plan, version: ObjectVersion, newer: int) -> bool:
        facts = _facts(version)
        if version.superseded_ns:
            return plan.noncurrent(facts, version.superseded_ns, newer, self._now)
        due = plan.expiration(facts)
        return due is not None and due.when_ns <= self._now

    def _where(self, plan: Plan, version: ObjectVersion, newer: int, facts: Facts) -> str | None:
        """The class that it should be in and is not."""
        if version.deleted:
            return None
        if version.superseded_ns:
            return plan.noncurrent_transition(facts, version.superseded_ns, newer, self._now)
        return plan.transition(facts, self._now)

    def _whole(self, listed: ObjectVersion) -> ObjectVersion:
        """With what lists do not tell. Raises NoSuchKey, NoSuchVersion."""
        found = self._objects.head(self._bucket, listed.key, listed.version_id)
        return msgspec.structs.replace(found, superseded_ns=listed.superseded_ns)

    def _move(self, version: ObjectVersion, where: str) -> None:
        async def work() -> bool:
            moving = self._objects.transition(version, where, profile_of(where))
            return await caused_by(_MOVING, moving)

        self.due.append(Due(self._name(version.key), work, moves=True))

    def _expire(self, version: ObjectVersion, standing: Standing) -> None:
        async def work() -> bool:
            expiring = self._objects.expire(version, standing)
            return await caused_by(_EXPIRING, expiring) is not None

        alone = standing is Standing.ALONE
        self.due.append(Due(self._name(version.key), work, marker=alone))


def _facts(version: ObjectVersion, storage_class: str | None = None) -> Facts:
    attributes = version.attributes
    if storage_class is None:
        storage_class = attributes.headers.get(STORAGE_CLASS, "STANDARD")
    return Facts(version.key, version.size, attributes.tags, version.modified_ns, storage_class)


async def _all_of(due: Sequence[Due]) -> int:
    """Do all of it, several at once; how much there was to do. Raises StoreError."""
    done = await _some((each for each in due if not each.marker and not each.moves), _AT_ONCE)
    done += await _some((each for each in due if each.marker), _AT_ONCE)
    return done + await _some((each for each in due if each.moves), 1)


async def _some(due: Iterable[Due], at_once: int) -> int:
    done, failed = 0, list[StoreError]()
    waiting = iter(due)

    async def worker() -> None:
        nonlocal done
        for each in waiting:
            try:
                something = await each.work()
                done += something  # not in one: others add while this one waits
            except _OVERTAKEN as error:
                log.debug("left as it is: %s", error)
            except StoreError as error:
                if each.moves and not isinstance(error, ServiceUnavailable):
                    # Bytes that cannot be had or stored now hold up nobody else: another day.
                    log.warning("%s stays where it is: %s", each.name, error)
                    continue
                failed.append(error)
                return
            except CorruptRecord as error:
                log.error("%s is left: %s", each.name, error)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    if failed:
        raise failed[0]
    return done
