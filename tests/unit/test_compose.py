"""compose.yaml says what the commands understand, and every node has its own address and disk."""

from pathlib import Path
from typing import Any

import pytest

from chain.cli import _node_parser
from gateway import cli
from gateway.config import resolve
from miner.cli import _parser as miner_parser

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("CUMULUS_DATA_DIR", "/data")
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    named = {volume.split(":")[0] for s in found["services"].values() for volume in s["volumes"]}
    assert named == set(found["volumes"])
    services: dict[str, Any] = found["services"]
    return services


def test_every_command_is_understood(services: dict[str, Any]) -> None:
    for name, service in services.items():
        kind, *words = service["command"]
        assert service["stop_grace_period"] == "15s"
        if kind == "chain":
            options = _node_parser().parse_args(words)
            assert options.advertise == f"{name}:4700"
        elif kind == "miner":
            options = miner_parser().parse_args(words)
            assert options.advertise == f"{name}:4701"
        else:
            options = cli.parser_for([kind]).parse_args([kind, *words])
            config = resolve(vars(options), {})
            assert (config.advertise, config.join) == (f"{name}:4702", "chain:4700")


def test_miners_share_neither_disk_nor_domain(services: dict[str, Any]) -> None:
    miners = [service for name, service in services.items() if name.startswith("miner")]
    options = [miner_parser().parse_args(miner["command"][1:]) for miner in miners]
    assert len({each.domain for each in options}) == len(miners) == 6
    assert len({miner["volumes"][0] for miner in miners}) == 6
