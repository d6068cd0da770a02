"""`python -m chain` from outside: options, signals, and data that it must refuse."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chain.client import LedgerClient
from chain.net.zeromq import ZeroMqTransport

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ENVIRONMENT.pop("CUMULUS_DATA_DIR", None)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("c")


def words(folder: Path, *more: str) -> list[str]:
    address = f"ipc://{folder}/run/c.ipc"
    return [
        sys.executable, "-m", "chain", "--data-dir", str(folder), "--listen", address,
        "--block-seconds", "0.01", *more,
    ]  # fmt: skip


def refusal(command: list[str]) -> str:
    """The one line of a command that must not start."""
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    return line


async def height(folder: Path) -> int:
    transport = ZeroMqTransport()
    try:
        client = LedgerClient(transport.connect(f"ipc://{folder}/run/c.ipc"))
        return (await client.status()).height
    finally:
        await transport.close()


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        words(folder, *more), cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "height" in line:
            return process
    raise AssertionError(f"it ended with {process.wait()}")


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> int:
    process.send_signal(number)
    assert process.stderr is not None
    process.stderr.close()
    return process.wait(15)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--epoch-seconds", "0"], "1 to 2592000"),
        (["--epoch-seconds", "soon"], "epoch-seconds"),
        (["--block-seconds", "2"], "0 to 1"),
        (["--block-seconds", "nan"], "0 to 1"),
        (["--operator", "me"], "hexadecimal"),
        (["--listen", "http://x"], "http://x"),
        (["--surplus"], "--surplus"),
    ],
)
def test_a_bad_option_is_one_line_and_exit_code_2(
    folder: Path, more: list[str], named: str
) -> None:
    assert named in refusal(words(folder, *more))
    assert not (folder / "chain" / "genesis.json").exists() or "--listen" in more


async def test_it_stops_in_order_and_goes_on_where_it_stood(folder: Path) -> None:
    process = start(folder, "--epoch-seconds", "1")
    assert await height(folder) >= 0
    assert "is in use" in refusal(words(folder))
    assert stop(process) == 0
    assert not (folder / "chain" / "address").exists()
    genesis = (folder / "chain" / "genesis.json").read_bytes()
    process = start(folder, "--epoch-seconds", "900")
    for _ in range(200):  # the epoch of one second ends with a block
        if await height(folder) >= 1:
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("no block ended the epoch")
    assert stop(process, signal.SIGINT) == 0
    assert (folder / "chain" / "genesis.json").read_bytes() == genesis


def test_a_genesis_that_does_not_belong_to_the_ledger_is_refused(folder: Path) -> None:
    assert stop(start(folder)) == 0
    path = folder / "chain" / "genesis.json"
    good = json.loads(path.read_bytes())
    for change, named in (
        ({"chain_id": "other"}, "another genesis"),
        ({"validators": ["00" * 32]}, "validator key"),
        ({"format": 2}, "format 2"),
        ({"surplus": 1}, "not a genesis"),
    ):
        path.write_text(json.dumps(good | change))
        assert named in refusal(words(folder))
    path.write_bytes(b'{"\xe3": 1}')
    assert "not a genesis" in refusal(words(folder))
    path.unlink()
    assert "put the file back" in refusal(words(folder))
    path.write_text(json.dumps(good))
    assert stop(start(folder)) == 0
