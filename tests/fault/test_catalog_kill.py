"""The writer is killed at any moment: what was acknowledged is there, and it comes back."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from chain.net.nodes import NodeTransport
from gateway.catalog.client import CatalogClient
from gateway.catalog.interface import Batch, CatalogUnavailable, Equals, Put, Space
from gateway.catalog.store import CatalogStore
from tests.fault.catalog_process import BODY, SETTINGS
from tests.fault.catalog_tools import body, count, row

HELPER = Path(__file__).with_name("catalog_process.py")
ROOT = Path(__file__).parents[2]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(HELPER), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    directory = tmp_path / "catalog"
    random = Random(7)
    last = 0
    for _ in range(4):
        process = start("commit", str(directory))
        assert process.stdout is not None
        wanted = random.randrange(40, 160)
        for line in process.stdout:
            if not line.endswith("\n"):
                break
            last = int(line)
            wanted -= 1
            if wanted <= 0:
                break
        process.kill()
        for line in process.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                last = max(last, int(line))
        process.stdout.close()
        process.wait()
        store = CatalogStore.open(directory, settings=SETTINGS)
        live = count(store, Space.LIVE)
        assert live >= last
        for number in range(1, live + 1):
            key = number.to_bytes(8, "big")
            assert row(store, Space.LIVE, key) == key
        newest = live.to_bytes(8, "big")
        assert body(store, newest) == newest + BODY
        # As a crash leaves it, so that the next start replays too.
        store.abandon()


async def test_a_client_survives_its_writers_death(tmp_path: Path) -> None:
    directory, address = tmp_path / "catalog", f"ipc://{tmp_path}/run/catalog.ipc"
    (tmp_path / "run").mkdir(mode=0o700)
    transport = NodeTransport()
    client = CatalogClient(directory, transport.connect(address))
    with pytest.raises(CatalogUnavailable), client.read():
        pass
    process = start("serve", str(directory), address)
    restarted = None
    try:
        batch = Batch(changes=[Put(Space.BODIES, b"a", b"sealed")])
        first = await _commit_when_back(client, batch)
        with client.read() as reader:
            assert reader.get(Space.BODIES, b"a") == b"sealed"
        process.kill()
        await asyncio.to_thread(process.wait)
        with client.read() as reader:
            assert reader.get(Space.BODIES, b"a") == b"sealed"
        restarted = start("serve", str(directory), address)
        condition = Equals(Space.BODIES, b"a", b"sealed")
        second = await _commit_when_back(client, Batch([condition], [Put(Space.LIVE, b"b", b"")]))
        assert second > first
        with client.read() as reader:
            assert reader.get(Space.LIVE, b"b") == b""
    finally:
        for one in (process, restarted):
            if one is not None:
                one.kill()
                await asyncio.to_thread(one.wait)
                assert one.stdout is not None
                one.stdout.close()
        await client.close()
        await transport.close()


async def _commit_when_back(client: CatalogClient, batch: Batch) -> int:
    for _ in range(100):
        try:
            return await client.commit(batch)
        except CatalogUnavailable:
            await asyncio.sleep(0.1)
    raise AssertionError("the writer did not come back")
