"""Works off requests to pin: fetches what is not here, pins, and says how it went.

One in a network, in the jobs process. Its queue is rows, so a request that was under way when the
process was killed is begun again; blocks that were stored by then are not fetched again.
"""

import asyncio
import logging
from contextlib import suppress

from msgspec.structs import replace

from chain.cids import Cid
from chain.clock import Clock
from gateway.catalog.interface import CatalogUnavailable
from gateway.errors import NoSuchBucket, ServiceUnavailable, SlowDown, StoreError
from gateway.ipfs.errors import IpfsError
from gateway.ipfs.foreign.blocks import FetchFailed
from gateway.ipfs.index.pins import Pins
from gateway.ipfs.pinning.fetching import Foreign, TooLarge
from gateway.ipfs.pinning.requests import NoSuchRequest, Request, RequestRow, Requests
from gateway.model import Bucket
from gateway.objects import ObjectService

log = logging.getLogger(__name__)

AT_ONCE = 4
LOOK_SECONDS = 1.0
# Seconds to the next try; behind the last one a request has failed.
PAUSES = (30.0, 300.0, 1800.0)
REASON_MAX = 500
Place = tuple[bytes, str, bytes]


class PinWorker:
    """The worker."""

    def __init__(
        self,
        objects: ObjectService,
        requests: Requests,
        pins: Pins,
        foreign: Foreign,
        clock: Clock,
    ) -> None:
        self._objects = objects
        self._requests = requests
        self._pins = pins
        self._foreign = foreign
        self._clock = clock
        self._running: set[bytes] = set()

    async def run(self) -> None:
        """Work until cancelled: AT_ONCE requests at a time."""
        async with asyncio.TaskGroup() as group:
            while True:
                began = self._clock.monotonic()
                with suppress(CatalogUnavailable):
                    for place in self._requests.due(2 * AT_ONCE):
                        if place[2] not in self._running and len(self._running) < AT_ONCE:
                            self._running.add(place[2])
                            group.create_task(self._work(place))
                # A long queue of what waits for its next try takes a twentieth of the time at most.
                took = self._clock.monotonic() - began
                await self._clock.sleep(max(LOOK_SECONDS, 20 * took))

    async def _work(self, place: Place) -> None:
        try:
            await self.work(place)
        except (StoreError, CatalogUnavailable) as error:
            log.warning("pinning: %s", error)  # it is still in the queue
        except Exception:
            log.exception("pinning")
            await self._clock.sleep(PAUSES[0])
        finally:
            self._running.discard(place[2])

    async def work(self, place: Place) -> None:
        """Work on one request to its end, or to its next try. Raises StoreError."""
        bucket_id, name, id = place
        try:
            bucket = self._objects.bucket(name)
            request: Request | None = self._requests.get(bucket, id)
        except (NoSuchBucket, NoSuchRequest):
            await self._requests.forget(bucket_id, id)
            return
        assert request is not None
        if bucket.id != bucket_id:
            await self._requests.forget(bucket_id, id)
            return
        cid = Cid(request.row.cid)
        before = self._pins.get(bucket, cid)
        shared = before is not None and before.recursive and not await self._ours(bucket, request)
        row = replace(request.row, status="pinning", shared=shared)
        request = await self._requests.change(bucket, request, row)
        if request is None:
            return
        ended = await self._pinned(bucket, request)
        if isinstance(ended, RequestRow):
            again = None
        else:
            ended, again = self._tried(request.row, ended)
        kept = await self._requests.change(bucket, request, ended, again_ns=again)
        if kept is None and ended.status == "pinned" and not ended.shared:  # deleted meanwhile
            await self._requests.unpin(bucket, cid)

    async def _ours(self, bucket: Bucket, request: Request) -> bool:
        """Whether the pin that is there came by requests."""
        if request.row.status == "pinning":  # begun before a restart
            return not request.row.shared
        return await self._requests.rests(bucket, Cid(request.row.cid), besides=request.id)

    async def _pinned(self, bucket: Bucket, request: Request) -> RequestRow | str:
        """The row of a request that came to its end, or why it did not."""
        row, cid = request.row, Cid(request.row.cid)
        try:
            async with self._pins.hold(bucket):
                await self._foreign.fetch(bucket, cid)
                if not row.shared:
                    await self._pins.add(bucket, cid, name=row.name)
        except (ServiceUnavailable, SlowDown) as error:
            return error.text
        except FetchFailed as error:
            return str(error)
        except (TooLarge, IpfsError) as error:
            return replace(row, status="failed", reason=str(error)[:REASON_MAX])
        except StoreError as error:
            return replace(row, status="failed", reason=error.text[:REASON_MAX])
        return replace(row, status="pinned", reason="")

    def _tried(self, row: RequestRow, reason: str) -> tuple[RequestRow, int | None]:
        """After a try that may go better: queued again, or failed in the end."""
        tries = row.tries + 1
        row = replace(row, reason=reason[:REASON_MAX], tries=tries)
        if tries > len(PAUSES) or not self._foreign.has_sources:
            return replace(row, status="failed"), None
        again = self._clock.now_ns() + round(PAUSES[tries - 1] * 1e9)
        return replace(row, status="queued"), again
