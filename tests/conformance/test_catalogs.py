"""Every Catalog runs the one suite."""

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from chain.net.memory import MemoryNetwork, MemoryTransport
from gateway.catalog.client import CatalogClient
from gateway.catalog.interface import Catalog
from gateway.catalog.local import LocalCatalog
from gateway.catalog.memory import MemoryCatalog
from gateway.catalog.service import CatalogService
from gateway.catalog.store import StoreSettings
from tests.conformance.catalog_suite import CatalogSuite, OpenCatalog

SMALL = StoreSettings(file_bytes=4096, map_bytes=1 << 30)


class _Suite(CatalogSuite):
    @pytest.fixture
    async def catalog(self, open_catalog: OpenCatalog) -> AsyncIterator[Catalog]:
        catalog = await open_catalog()
        yield catalog
        await catalog.close()


class TestMemoryCatalog(_Suite):
    @pytest.fixture
    def open_catalog(self) -> OpenCatalog:
        async def make() -> Catalog:
            return MemoryCatalog()

        return make


class TestLocalCatalog(_Suite):
    """Log files of 4 KiB, so that nearly every test crosses from one to the next."""

    @pytest.fixture
    def open_catalog(self, tmp_path: Path) -> OpenCatalog:
        async def make() -> Catalog:
            directory = Path(mkdtemp(dir=tmp_path)) / "catalog"
            return LocalCatalog.open(directory, settings=SMALL)

        return make


class _ServedCatalog(CatalogClient):
    """A client that takes its writer along when it closes."""

    served: LocalCatalog

    async def close(self) -> None:
        await super().close()
        await self.served.close()


class TestCatalogClient(_Suite):
    """Commits by message; reads from the writer's own environment (one process opens it once)."""

    @pytest.fixture
    def open_catalog(self, tmp_path: Path) -> OpenCatalog:
        async def make() -> Catalog:
            directory = Path(mkdtemp(dir=tmp_path)) / "catalog"
            served = LocalCatalog.open(directory, settings=SMALL)
            transport = MemoryTransport(MemoryNetwork())
            await transport.serve("memory://catalog", CatalogService(served).handlers())
            peer = transport.connect("memory://catalog")
            client = _ServedCatalog(directory, peer, index=served.store.index)
            client.served = served
            return client

        return make
