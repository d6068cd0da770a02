"""Fixtures: HTTP servers; an API port; sites of names, hosts and routing where a file has none."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.ipfs.index.publish import IpfsPublisher
from tests.protocol.http_site import Certificate, Running, make_certificate, running_site
from tests.protocol.ipfs_api import Api
from tests.protocol.named_site import NamedSite
from tests.unit.object_parts import World


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    world = await World(publisher=IpfsPublisher()).start()
    api = Api(world)
    yield api
    await api.http.aclose()
    world.objects.close()


@pytest.fixture
async def site() -> AsyncIterator[NamedSite]:
    site = await NamedSite.begun()
    yield site
    await site.stop()


@pytest.fixture
async def known(site: NamedSite) -> NamedSite:
    """With the fixtures of subdomains, caches and listings."""
    await site.hold_known()
    return site


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    directory = tmp_path_factory.mktemp("tls")
    return [make_certificate(directory, "first"), make_certificate(directory, "second")]


@pytest.fixture(params=["http", "https"])
def running(request: pytest.FixtureRequest, certificates: list[Certificate]) -> Running:
    certificate = certificates[0] if request.param == "https" else None
    return lambda **options: running_site(certificate, **options)


@pytest.fixture
def plain() -> Running:
    return lambda **options: running_site(None, **options)
