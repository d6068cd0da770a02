"""Libraries that come with more than the suite should have to install."""

from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork
from tests.more_clients.installed import PYTHON

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

SCRIPTS = sorted((Path(__file__).parent / "scripts").iterdir())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_library_works_unchanged(network: RunningNetwork, script: Path) -> None:
    network.run_with_keys(PYTHON, script, BUCKET=script.stem.replace("_", "-"))
