"""A whole network loses processes and miners; its users lose nothing."""

import concurrent.futures
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

MIB = 1 << 20


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """One for all, each test on a bucket of its own: the gentle ones come first."""
    folder = tmp_path_factory.mktemp("faults")
    with RunningNetwork(folder, "--pledge", "1GiB", "--workers", "2") as running:
        yield running


def bodies(count: int) -> dict[str, bytes]:
    chance = random.Random(11)
    sizes = (1, 16_384, 16_385, 70_000, MIB, 5 * MIB + 1)
    return {f"k{n}": chance.randbytes(sizes[n % len(sizes)]) for n in range(count)}


def put_all(network: RunningNetwork, bucket: str, objects: dict[str, bytes]) -> None:
    client = network.boto()
    client.create_bucket(Bucket=bucket)
    for key, body in objects.items():
        client.put_object(Bucket=bucket, Key=key, Body=body)


def assert_all_read(network: RunningNetwork, bucket: str, objects: dict[str, bytes]) -> None:
    client = network.boto()
    for key, body in objects.items():
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key


def wait_restarted(network: RunningNetwork, name: str, old: int) -> None:
    end = time.monotonic() + 30
    while network.pids().get(name) in (None, old):
        assert time.monotonic() < end, f"{name} did not come back\n{network.logs()}"
        time.sleep(0.05)
    network.wait_ready()


def test_slow_and_malformed_clients_get_an_answer_or_are_cut_off(network: RunningNetwork) -> None:
    host, port = network.url("s3").removeprefix("http://").rsplit(":", 1)
    for request, wanted in (
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", (b"431", b"400")),
        (b"nonsense\r\n\r\n", (b"400",)),
        (b"GET /%00%ff HTTP/1.1\r\nHost: x\r\n\r\n", (b"400", b"403", b"404")),
        (b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", (b"400",)),
        (b"GET /?x=%ZZ HTTP/1.1\r\nHost: x\r\n\r\n", (b"400", b"403")),
    ):
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(request)
            reply = client.recv(65536)
        assert reply.split(None, 2)[1] in wanted, (request[:40], reply[:200])
    status = json.loads(network.cumulus("status", "--json").stdout)
    assert status["ready"]
    assert all(node["restarts"] == 0 for node in status["nodes"])


@pytest.mark.parametrize("victim", ["chain", "catalog", "worker-1", "miner-m2"])
def test_a_killed_process_loses_nothing_that_was_acknowledged(
    network: RunningNetwork, victim: str
) -> None:
    bucket = f"killed-{victim}"
    network.boto().create_bucket(Bucket=bucket)
    stored: dict[str, bytes] = {}
    done = threading.Event()

    def write(worker: int) -> None:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        client = network.boto(config=Config(retries={"total_max_attempts": 1}, read_timeout=20))
        chance = random.Random(worker)
        number = 0
        while not done.is_set():
            key, body = f"w{worker}/{number}", chance.randbytes(chance.choice([100, 30_000, MIB]))
            number += 1
            try:
                client.put_object(Bucket=bucket, Key=key, Body=body)
            except (BotoCoreError, ClientError):
                continue  # not acknowledged
            stored[key] = body

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, number) for number in range(3)]
        try:
            for _ in range(2):
                wait_for_growth(stored, 20)
                pid = network.pids()[victim]
                os.kill(pid, signal.SIGKILL)
                wait_restarted(network, victim, pid)
            wait_for_growth(stored, 20)
        finally:
            done.set()
        for writer in writers:
            writer.result()
    assert_all_read(network, bucket, stored)
    listed = network.boto().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    assert set(stored) <= {item["Key"] for page in listed for item in page["Contents"]}


def wait_for_growth(stored: dict[str, bytes], count: int) -> None:
    goal, end = len(stored) + count, time.monotonic() + 60
    while len(stored) < goal:
        assert time.monotonic() < end, f"{len(stored)} of {goal} objects after a minute"
        time.sleep(0.02)


def test_everything_survives_a_killed_supervisor_and_a_new_start(network: RunningNetwork) -> None:
    objects = bodies(12)
    put_all(network, "restart", objects)
    assert network.process is not None
    network.process.kill()
    network.process.wait()
    network.start()
    assert_all_read(network, "restart", objects)


def test_a_second_network_on_the_same_directory_or_port_is_refused(
    network: RunningNetwork, tmp_path: Path
) -> None:
    again = subprocess.run(
        network.command(), capture_output=True, text=True, timeout=30, check=False
    )
    assert again.returncode == 2
    assert len(again.stderr.strip().splitlines()) == 1
    assert "already runs here" in again.stderr
    port = network.url("s3").rsplit(":", 1)[1]
    other = RunningNetwork(tmp_path / "other")
    command = other.command("--s3-port", port)
    refused = refusal(command)
    assert refused.returncode == 2
    assert f"--s3-port {port}: port in use" in refused.stderr
    network.wait_ready()


def refusal(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_two_of_six_miners_wiped_and_every_object_reads(network: RunningNetwork) -> None:
    objects = bodies(24)
    put_all(network, "wiped", objects)
    before = network.pids()
    for name in ("m1", "m4"):
        shutil.rmtree(network.data_dir / "miners" / name)
    # One is killed; the other finds out by itself that its directory is gone.
    os.kill(before["miner-m1"], signal.SIGKILL)
    assert_all_read(network, "wiped", objects)
    for name in ("miner-m1", "miner-m4"):
        wait_restarted(network, name, before[name])
    assert_all_read(network, "wiped", objects)
    more = {f"new{n}": body for n, body in enumerate(bodies(6).values())}
    client = network.boto()
    # Four of six are below the quorum of five: 503 SlowDown until the emptied ones joined anew.
    eventually(lambda: client.put_object(Bucket="wiped", Key="probe", Body=bytes(MIB)), 30)
    for key, body in more.items():
        client.put_object(Bucket="wiped", Key=key, Body=body)
    assert_all_read(network, "wiped", more)


def eventually(attempt: Callable[[], object], seconds: float) -> None:
    """Until the store takes it; what it may say meanwhile is 503."""
    from botocore.exceptions import ClientError

    end = time.monotonic() + seconds
    while True:
        try:
            attempt()
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status != 503 or time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return
