"""Settings of the whole suite: Hypothesis profiles by CUMULUS_HYPOTHESIS (dev, ci, nightly)."""

import os

from hypothesis import HealthCheck, settings

# Tests share a machine with other work: a slow example is no finding.
SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=SLOW)
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True)
settings.register_profile("nightly", parent=settings.get_profile("dev"), max_examples=5000)
settings.load_profile(os.environ.get("CUMULUS_HYPOTHESIS", "dev"))
