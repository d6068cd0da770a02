"""What many tests begin with."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.object_parts import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A gateway in memory with one account and one bucket."""
    world = await World().start()
    yield world
    world.objects.close()
