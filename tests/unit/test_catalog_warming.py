import os
from pathlib import Path

import pytest

from gateway.catalog import warming


def test_an_index_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(bytes(3_000_001))
    assert warming.warm(tmp_path) == 3_000_001


def test_an_index_larger_than_its_share_of_memory_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "data.mdb").open("wb") as file:
        file.truncate(4097)
    monkeypatch.setattr(os, "sysconf", lambda _: 128)  # 16 KiB in all
    assert warming.warm(tmp_path) == 0
