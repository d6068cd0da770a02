"""Settings of the whole suite: Hypothesis profiles by CUMULUS_HYPOTHESIS (dev, ci, nightly)."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Folders with files that take a minute come first: of two halves of a run one waits for the other.
ORDER = ("simulation", "fault", "clients", "conformance", "protocol", "unit")

# Tests share a machine with other work: a slow example is no finding.
SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=SLOW)
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True)
settings.register_profile("nightly", parent=settings.get_profile("dev"), max_examples=5000)
settings.load_profile(os.environ.get("CUMULUS_HYPOTHESIS", "dev"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By folder, and in it as before; a new folder comes first."""
    places = {name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: places.get(item.path.parent.name, -1))
