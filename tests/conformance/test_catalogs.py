"""Every Catalog runs the one suite."""

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from gateway.catalog.interface import Catalog
from gateway.catalog.local import LocalCatalog
from gateway.catalog.memory import MemoryCatalog
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
