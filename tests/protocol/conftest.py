"""Fixtures of the tests of names, hosts and routing; a file with a `site` of its own has that."""

from collections.abc import AsyncIterator

import pytest

from tests.protocol.named_site import NamedSite


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
