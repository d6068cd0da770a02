"""The job that collects, once a day, what no pin reaches: a bucket a step."""

import logging

from chain.clock import Clock
from gateway.catalog.interface import Catalog, Space
from gateway.errors import NoSuchBucket, StoreError
from gateway.ipfs.index import rows
from gateway.ipfs.index.collect import Collector, Overtaken
from gateway.jobs import Step
from gateway.records import BucketRow, JobRow, decode_kept

log = logging.getLogger(__name__)
_BUCKETS = 256
_LOOK_SECONDS = 60.0


class CollectionJob:
    """The Job of gateway/jobs.py. `day_seconds`: how long a day lasts."""

    name = "collection"

    def __init__(
        self, collector: Collector, catalog: Catalog, clock: Clock, day_seconds: float
    ) -> None:
        self._collector = collector
        self._catalog = catalog
        self._clock = clock
        self._day = day_seconds

    async def step(self, state: JobRow) -> Step:
        """Collect the next bucket that has pins. One that cannot be has its turn the next day."""
        if not state.position:
            left = self._day - (self._clock.now_ns() - state.ended_ns) / 1e9
            if 0 < left <= self._day:  # else it is due, or the clock was set back
                return Step(pause=min(left, _LOOK_SECONDS))
        name = self._next(state.position)
        if name is None:
            return Step(ended=True, pause=min(self._day, _LOOK_SECONDS))
        return Step(name, done=await self._collect(name.decode()))

    def _next(self, after: bytes) -> bytes | None:
        """The first bucket behind `after` that ever had a pin."""
        start = after + b"\x00"
        while True:
            with self._catalog.read() as reader:
                page = reader.scan(Space.BUCKETS, start, None, _BUCKETS)
                for name, raw in page:
                    state = rows.pins_prefix(decode_kept(BucketRow, raw).id)
                    if reader.get(Space.BLOCKS, state) is not None:
                        return name
            if len(page) < _BUCKETS:
                return None
            start = page[-1][0] + b"\x00"

    async def _collect(self, name: str) -> int:
        try:
            bucket = self._collector.objects.bucket(name)
            grace_ns = round(self._day * 1e9)
            got = await self._collector.collect(bucket, grace_ns=grace_ns)
        except NoSuchBucket:
            return 0
        except (StoreError, Overtaken) as error:
            log.warning("collection of %s: %r", name, error)
            return 0
        if got.packs:
            log.info("collection of %s: %d blocks, %d bytes", name, got.blocks, got.bytes)
        return got.blocks
