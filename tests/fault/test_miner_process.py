import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chain.net.nodes import NodeTransport
from chain.net.transport import Message, Peer, RemoteError, Unreachable
from miner.client import new_fragment
from miner.fragment import fragment_key
from miner.protocol import (
    CheckFragment,
    DropFragments,
    Inventory,
    ReadFragment,
    SpaceReport,
    StoreFragments,
)
from tests.conformance.fragment_store_suite import fragments

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sockets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cm") as directory:
        yield Path(directory)


class Process:
    """A miner as the supervisor starts it."""

    def __init__(self, data: Path, address: str) -> None:
        self.read, self.lifeline = os.pipe()
        command = ["-m", "miner", "--data-dir", str(data), "--name", "one", "--listen", address]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--pledge", "64M", "--lifeline", str(self.read)],
            cwd=ROOT,
            pass_fds=[self.read],
            stderr=subprocess.DEVNULL,
        )

    def end(self) -> int:
        """Close the lifeline; the exit code."""
        os.close(self.lifeline)
        code = self.process.wait(10)
        os.close(self.read)
        return code

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.end()


def test_a_miner_process_keeps_fragments_and_identity_over_kill_9(
    tmp_path: Path, sockets: Path
) -> None:
    address = f"ipc://{sockets}/miner.ipc"
    first = Process(tmp_path / "miner", address)
    try:
        receipt = asyncio.run(_store(address))
    finally:
        first.kill()
    second = Process(tmp_path / "miner", address)
    try:
        asyncio.run(_check(address, receipt))
    finally:
        code = second.end()
    assert code == 0


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Peer]:
    """A peer at a miner that is still starting."""
    transport = NodeTransport()
    try:
        peer = transport.connect(address)
        async with asyncio.timeout(30):
            while True:
                try:
                    await peer.ask(SpaceReport(), timeout=1)
                    break
                except Unreachable:
                    await asyncio.sleep(0.05)
        yield peer
    finally:
        await transport.close()


async def _store(address: str) -> bytes:
    async with connected(address) as peer:
        _, made = fragments("a", 400_000)
        whole = [new_fragment(record, payload) for record, payload in made]
        wrong = new_fragment(made[0][0], made[1][1])
        stored = await peer.ask(StoreFragments((*whole[:3], wrong, *whole[3:])))
        assert [each.code for each in stored.outcomes] == ["", "", "", "wrong_fragment", "", "", ""]
        assert all(receipt.is_signed() for receipt in stored.receipts)
        return bytes(stored.receipts[0].miner)


async def _check(address: str, miner: bytes) -> None:
    async with connected(address) as peer:
        segment, made = fragments("a", 400_000)
        for index, (record, payload) in enumerate(made):
            reply = await peer.ask(ReadFragment(segment.id, index, 5, record.size))
            assert bytes(reply.payload.buffer) == bytes(payload[5:])
            assert (await peer.ask(CheckFragment(segment.id, index))).whole
        again = await peer.ask(StoreFragments((new_fragment(*made[0]),)))
        assert again.receipts[0].miner == miner
        page = await peer.ask(Inventory(b"", 4))
        assert [held.record for held in page.held] == [record.encode() for record, _ in made[:4]]
        refused: list[Message[Any]] = [
            ReadFragment(segment.id, 0, 5, 4),
            ReadFragment(segment.id, 0, -1, 4),
            ReadFragment(segment.id, 0, 0, 1 << 40),
            ReadFragment(segment.id, 900, 0, 1),
            ReadFragment(b"short", 0, 0, 1),
            DropFragments((b"short",)),
            Inventory(b"", 0),
            Inventory(b"", 1 << 30),
        ]
        for bad in refused:
            with pytest.raises(RemoteError, match="bad_request"):
                await peer.ask(bad)
        with pytest.raises(RemoteError, match="no_such_fragment"):
            await peer.ask(ReadFragment(bytes(32), 0, 0, 1))
        assert (await peer.ask(DropFragments((fragment_key(segment.id, 0),)))).count == 1
        assert (await peer.ask(SpaceReport())).fragments == 5


@pytest.mark.parametrize("options", [["--pledge", "lots"], ["--pledge", "1K"], ["--allow", "zz"]])
def test_bad_options_are_one_line_and_code_2(tmp_path: Path, options: list[str]) -> None:
    command = ["-m", "miner", "--data-dir", str(tmp_path), "--name", "one", "--listen", "ipc:///x"]
    done = subprocess.run(
        [sys.executable, *command, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_miner_whose_directory_is_removed_gives_up(tmp_path: Path, sockets: Path) -> None:
    address = f"ipc://{sockets}/miner.ipc"
    miner = Process(tmp_path / "miner", address)
    try:
        asyncio.run(_store(address))
        shutil.rmtree(tmp_path / "miner")
        assert miner.process.wait(20) == 1
    finally:
        miner.kill()
