"""What is done in the background for IPFS, by whichever process does it."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

from chain.clock import Clock, system_entropy
from gateway.catalog.interface import Catalog
from gateway.ipfs.foreign.trustless import gateways
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.collect import Collector
from gateway.ipfs.index.collection_job import CollectionJob
from gateway.ipfs.index.packs import Packs
from gateway.ipfs.index.pins import Pins
from gateway.ipfs.pinning.fetching import Foreign
from gateway.ipfs.pinning.requests import Requests
from gateway.ipfs.pinning.worker import PinWorker
from gateway.objects import ObjectService


class IpfsJobs:
    """What is done in the background for the blocks of the API."""

    def __init__(self, objects: ObjectService, catalog: Catalog, clock: Clock) -> None:
        index = BlockIndex(objects, catalog)
        packs = Packs(objects, index, clock, system_entropy)
        pins = Pins(catalog, index, packs, clock, system_entropy)
        self._parts = objects, catalog, clock
        self._index, self._packs, self._pins = index, packs, pins
        self._requests = Requests(catalog, pins, clock, system_entropy)

    def collection(self, day_seconds: float) -> CollectionJob:
        """Drops what nothing pins."""
        objects, catalog, clock = self._parts
        collector = Collector(objects, catalog, self._index, self._packs, clock, system_entropy)
        return CollectionJob(collector, catalog, clock, day_seconds)

    def pinning(self, urls: Sequence[str], stack: AsyncExitStack) -> PinWorker:
        """Works off the pinning service's requests; `stack` ends its threads."""
        objects, _, clock = self._parts
        foreign = Foreign(self._index, self._packs, gateways(urls, clock, stack))
        return PinWorker(objects, self._requests, self._pins, foreign, clock)
