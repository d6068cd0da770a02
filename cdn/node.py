"""The edge process's work: a cache in front of an origin, served to gateways."""

import asyncio
import logging

from cdn.client import EdgeClient
from cdn.config import EdgeConfig
from cdn.segments import EdgeCache
from cdn.service import EdgeService
from cdn.shelf import DiskShelf
from chain.clock import Clock
from chain.net.transport import Transport

log = logging.getLogger(__name__)


class EdgeNode:
    """One edge. Transport and clock are arguments; the origin is reached through the transport."""

    def __init__(self, config: EdgeConfig, transport: Transport, clock: Clock) -> None:
        self._config = config
        self._transport = transport
        self._clock = clock
        self.address = ""  # where it listens, once it does
        self.cache: EdgeCache | None = None

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve until `stop` is set. Raises AddressError, StoreError."""
        config = self._config
        disk: DiskShelf | None = None
        if config.max_bytes:
            disk = await asyncio.to_thread(
                DiskShelf, config.data_dir / "shelf", config.max_bytes, self._clock
            )
        try:
            peer = self._transport.connect(config.origin, config.origin_identity)
            origin = EdgeClient(peer, None, self._clock)
            self.cache = EdgeCache(origin, ram_bytes=config.ram_bytes, disk=disk)
            server = await self._transport.serve(config.listen, EdgeService(self.cache).handlers())
            self.address = server.address
            log.info("edge at %s in front of %s", server.address, config.origin)
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self.cache.write_behind())
                if ready is not None:
                    ready.set()
                await stop.wait()
                await server.close()
                writer.cancel()
        finally:
            if disk is not None:
                disk.close()
