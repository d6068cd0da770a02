"""`python -m chain` from outside: options, signals, and data that it must refuse."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.client import LedgerClient, TransactionFailed
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.keys.keystore import Keystore
from chain.ledger.transactions.accounts import Transfer
from chain.net.nodes import NodeTransport

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


def refusal(command: list[str], before: Callable[[], None] | None = None) -> str:
    """The one line of a command that must not start."""
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False,
        preexec_fn=before,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    return line


async def height(folder: Path) -> int:
    transport = NodeTransport()
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


def disk_of(process: subprocess.Popen[str], room: int) -> None:
    """No file of the process may grow beyond so many bytes: as a full disk, and back."""
    hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, hard))


async def pay_for_ever(client: LedgerClient, owner: Identity) -> None:
    """Blocks until the disk is full; what was freed before is used first."""
    while True:
        for _ in range(20):
            body = Transfer(to=AccountId(os.urandom(32)), amount=1)
            await client.submit(owner, body, wait=False)
        await asyncio.sleep(0.1)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
async def test_a_full_disk_is_told_reads_go_on_and_space_that_returns_is_used(folder: Path) -> None:
    (folder / "keys").mkdir(mode=0o700)
    owner = Keystore(folder / "keys").identity("operator", os.urandom)
    process, transport = start(folder), NodeTransport()
    try:
        client = LedgerClient(transport.connect(f"ipc://{folder}/run/c.ipc"))
        await client.submit(owner, Transfer(to=owner.id, amount=1))
        data = folder / "chain" / "ledger" / "lmdb" / "data.mdb"
        disk_of(process, data.stat().st_size)
        with pytest.raises(TransactionFailed, match="no_space"):
            await pay_for_ever(client, owner)
        standing = (await client.header()).height
        assert (await client.account(owner.id)).nonce >= 1
        disk_of(process, resource.RLIM_INFINITY)
        async with asyncio.timeout(20):
            while (await client.status()).mempool:  # noqa: ASYNC110 - another process sets no events
                await asyncio.sleep(0.1)
        await client.submit(owner, Transfer(to=owner.id, amount=1))
        assert (await client.header()).height > standing
    finally:
        await transport.close()
        assert stop(process) == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_a_first_start_without_room_is_one_line(folder: Path) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))

    assert "File too large" in refusal(words(folder), no_room)
    assert stop(start(folder)) == 0
