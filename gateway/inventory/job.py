"""The job that makes inventories: a bucket a step, its pages as they are read.

Whether an inventory is due is asked of its bucket: the period's manifest is there or not. So there
is no state that could be lost, and what a killed process left half done is made again, under the
same keys.
"""

import asyncio
import hashlib
import logging
import zlib
from collections.abc import AsyncIterator, Iterator

import msgspec

from chain.clock import Clock
from chain.net.transport import Buffer
from gateway.catalog.interface import Catalog, Space
from gateway.errors import (
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    ServiceUnavailable,
    SlowDown,
    StoreError,
)
from gateway.inventory.listing import (
    Written,
    data_key,
    manifest,
    manifest_key,
    needs_whole,
    period_of,
    rows_of,
)
from gateway.inventory.setting import Inventory, kept_configurations
from gateway.jobs import Step
from gateway.model import INVENTORY, Attributes, Bucket, ObjectVersion
from gateway.objects import FIRST, ObjectService
from gateway.records import BucketRow, JobRow, decode_kept

log = logging.getLogger(__name__)
LOOK_SECONDS = 60.0
_PAGE, _BUCKETS = 1000, 256
_GZIP = 31  # zlib's window with a gzip header


class InventoryJob:
    """The Job."""

    name = "inventory"

    def __init__(
        self, objects: ObjectService, catalog: Catalog, clock: Clock, day_seconds: float
    ) -> None:
        self._objects = objects
        self._catalog = catalog
        self._clock = clock
        self._day = day_seconds

    async def step(self, state: JobRow) -> Step:
        """The next bucket with inventories. Raises ServiceUnavailable, SlowDown: again later."""
        name = self._next(state.position)
        if name is None:
            pause = min(LOOK_SECONDS, self._day / 4)
            return Step(pause=pause, ended=True) if state.position else Step(pause=pause)
        return Step(name, done=await self._make_due(name.decode()))

    def _next(self, after: bytes) -> bytes | None:
        """The first bucket behind `after` that has a configuration."""
        start = after + b"\x00"
        while True:
            with self._catalog.read() as reader:
                rows = reader.scan(Space.BUCKETS, start, None, _BUCKETS)
            for name, raw in rows:
                if INVENTORY in decode_kept(BucketRow, raw).settings:
                    return name
            if len(rows) < _BUCKETS:
                return None
            start = rows[-1][0] + b"\x00"

    async def _make_due(self, name: str) -> int:
        """Make what is due of a bucket; how many inventories that was."""
        try:
            bucket = self._objects.bucket(name)
        except NoSuchBucket:
            return 0
        stored, made = self._objects.setting(bucket, INVENTORY), 0
        for one in kept_configurations(stored).values() if stored else ():
            assert one.inventory is not None
            try:
                made += await self._make(bucket, one.inventory)
            except (ServiceUnavailable, SlowDown):
                raise
            except StoreError as error:
                log.warning("inventory %s of %s: %s", one.inventory.id, name, error)
        return made

    async def _make(self, bucket: Bucket, inventory: Inventory) -> bool:
        if not inventory.enabled:
            return False
        now = self._clock.now_ns() / 1e9
        period = period_of(inventory, now, self._day)
        target = self._objects.bucket(inventory.target)
        if target.owner != bucket.owner:
            raise StoreError("The destination bucket has another owner.")
        key = manifest_key(inventory, bucket.name, period)
        try:
            self._objects.head(target, key)
        except NoSuchKey:
            pass
        else:
            return False
        data = _Data(self._rows(bucket, inventory))
        place = data_key(inventory, bucket.name, bucket.id, period)
        attributes = Attributes("application/x-gzip")
        stored = await self._objects.put(target, place, data.pieces(), attributes)
        document = manifest(
            inventory, bucket.name, now, [Written(place, stored.size, data.md5.hexdigest())]
        )
        digest = hashlib.md5(document, usedforsecurity=False).hexdigest().encode()
        checksum = key.removesuffix("json") + "checksum"
        await self._objects.put(target, checksum, _once(digest), Attributes("text/plain"))
        await self._objects.put(target, key, _once(document), Attributes("application/json"))
        log.info("inventory %s of %s: %d bytes", inventory.id, bucket.name, stored.size)
        return True

    def _rows(self, bucket: Bucket, inventory: Inventory) -> Iterator[bytes]:
        """The lines, a page at a time."""
        for page in self._pages(bucket, inventory):
            if needs_whole(inventory):
                page = [version for one in page for version in self._whole(bucket, one)]
            yield rows_of(inventory, page)

    def _pages(self, bucket: Bucket, inventory: Inventory) -> Iterator[list[ObjectVersion]]:
        prefix = inventory.of_prefix
        if inventory.versions:
            place = FIRST
            while True:
                page = self._objects.list_versions(bucket, prefix=prefix, start=place, limit=_PAGE)
                yield page.versions
                if page.next_start is None:
                    return
                place = page.next_start
        start: bytes | None = b""
        while start is not None:
            listing = self._objects.list_objects(bucket, prefix=prefix, start=start, limit=_PAGE)
            yield listing.objects
            start = listing.next_start

    def _whole(self, bucket: Bucket, listed: ObjectVersion) -> list[ObjectVersion]:
        """The version with all that is said of it; nothing when it is gone meanwhile."""
        if listed.deleted:
            return [listed]
        try:
            found = self._objects.head(bucket, listed.key, listed.version_id)
        except (NoSuchKey, NoSuchVersion):
            return []
        return [msgspec.structs.replace(found, superseded_ns=listed.superseded_ns)]


class _Data:
    """Lines, compressed as they come, and the MD5 of that."""

    def __init__(self, rows: Iterator[bytes]) -> None:
        self._rows = rows
        self.md5 = hashlib.md5(usedforsecurity=False)

    async def pieces(self) -> AsyncIterator[Buffer]:
        """The body; others have their turn between two pages."""
        packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
        for rows in self._rows:
            if piece := packer.compress(rows):
                self.md5.update(piece)
                yield piece
            await asyncio.sleep(0)
        last = packer.flush()
        self.md5.update(last)
        yield last


async def _once(data: bytes) -> AsyncIterator[Buffer]:
    yield data
