"""Miners of a running network are emptied, two by two, while clients read and write."""

import concurrent.futures
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.clients.running import RunningNetwork

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

KIB, MIB = 1 << 10, 1 << 20
BUCKET = "repaired"
SIZES = (20 * KIB, 70_000, MIB, 5 * MIB + 1)
PAUSE = 0.03  # of a client between two requests: the cores are also repair's


@pytest.fixture
def network(tmp_path: Path) -> Iterator[RunningNetwork]:
    with RunningNetwork(tmp_path, "--pledge", "1GiB", "--workers", "2") as running:
        yield running


class Clients:
    """One reads what is there, one writes: as long as the block lasts, one attempt each."""

    def __init__(self, network: RunningNetwork) -> None:
        self.network = network
        self.stored: dict[str, bytes] = {}
        self.reads = self.writes = 0
        self.refused: list[str] = []
        self.writing = threading.Lock()  # held by the test: the writer pauses
        self._over = threading.Event()

    @contextmanager
    def working(self) -> Iterator[None]:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            tasks = [pool.submit(self._read), pool.submit(self._write)]
            try:
                yield
            finally:
                self._over.set()
            for task in tasks:
                task.result()

    def client(self) -> Any:
        from botocore.config import Config

        return self.network.boto(config=Config(retries={"total_max_attempts": 1}, read_timeout=40))

    def put(self, client: Any, key: str, body: bytes) -> bool:
        """Whether it was taken; what else may be said is 503 SlowDown."""
        from botocore.exceptions import ClientError

        try:
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 503:
                raise
            self.refused.append(error.response["Error"]["Code"])
            return False
        self.stored[key] = body
        return True

    def _read(self) -> None:
        client, chance = self.client(), random.Random(5)
        while not self._over.is_set():
            key = chance.choice(list(self.stored))
            got = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            assert got == self.stored[key], key
            self.reads += 1
            time.sleep(PAUSE)

    def _write(self) -> None:
        client, chance = self.client(), random.Random(6)
        number = 0
        while not self._over.is_set():
            number += 1
            body = chance.randbytes(SIZES[number % 3])
            with self.writing:
                while not self.put(client, f"live/{number}", body) and not self._over.is_set():
                    time.sleep(0.2)
            self.writes += 1
            time.sleep(2 * PAUSE)


def repair_of(network: RunningNetwork) -> dict[str, int]:
    found: dict[str, int] = json.loads(network.cumulus("status", "--json", check=False).stdout)[
        "repair"
    ]
    return found


def wait_for(said: Callable[[], bool], seconds: float, network: RunningNetwork) -> None:
    end = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < end, f"{repair_of(network)}\n{network.logs()}"
        time.sleep(0.2)


def empty(network: RunningNetwork, *names: str) -> None:
    """As an operator who takes the wrong disks out."""
    for name in names:
        kill(network, name)
        shutil.rmtree(network.data_dir / "miners" / name, ignore_errors=True)


def kill(network: RunningNetwork, name: str) -> None:
    with suppress(KeyError, ProcessLookupError):
        os.kill(network.pids()[f"miner-{name}"], signal.SIGKILL)


def wait_repaired(network: RunningNetwork, before: int) -> None:
    """Every fragment is rebuilt, and none is crowded on the miners that were left meanwhile."""

    def done() -> bool:
        repair = repair_of(network)
        return repair["rebuilt_fragments"] > before and not (
            repair["pending_fragments"] or repair["crowded_fragments"]
        )

    wait_for(done, 60, network)


def test_any_two_of_six_miners_are_emptied_then_any_other_two_while_clients_work(
    network: RunningNetwork,
) -> None:
    clients = Clients(network)
    client = clients.client()
    client.create_bucket(Bucket=BUCKET)
    chance = random.Random(11)
    for number in range(16):
        assert clients.put(client, f"k{number}", chance.randbytes(SIZES[number % 4]))
    before = dict(clients.stored)
    with clients.working():
        for first, second in (("m1", "m4"), ("m6", "m2")):
            wait_for(lambda: not repair_of(network)["pending_fragments"], 60, network)
            rebuilt = repair_of(network)["rebuilt_fragments"]
            with clients.writing:
                empty(network, first)
            empty(network, second)
            if first == "m1":
                # Four of six are below the quorum of five for as long as the two stay away.
                while not clients.refused:
                    for name in (first, second):
                        kill(network, name)
                    time.sleep(0.05)
                reads = clients.reads
                wait_for(lambda reads=reads: clients.reads > reads + 5, 30, network)  # type: ignore[misc]
            wait_repaired(network, rebuilt)
        writes = clients.writes
        wait_for(lambda: clients.writes > writes, 30, network)
    assert set(clients.refused) == {"SlowDown"}
    assert set(before) < set(clients.stored)
    for key, body in clients.stored.items():
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body, key
    status = json.loads(network.cumulus("status", "--json").stdout)
    assert status["ready"]
    assert all(n["restarts"] == 0 for n in status["nodes"] if n["kind"] != "miner")
