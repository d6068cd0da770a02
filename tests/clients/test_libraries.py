"""Libraries in Python and JavaScript: each script is a small program that uses one."""

import sys
from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork, node_for

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

SCRIPTS = sorted((Path(__file__).parent / "scripts").iterdir())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_library_works_unchanged(network: RunningNetwork, script: Path) -> None:
    runner = sys.executable if script.suffix == ".py" else node_for(script)
    network.run_with_keys(
        runner,
        script,
        BUCKET=script.stem.replace("_", "-"),
        IPFS_GATEWAY=network.url("ipfs"),
        IPFS_API=network.url("ipfs_api"),
    )
