"""Hostile clients: nothing they send is our error, hangs us, or hurts the others."""

import asyncio
import json
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chain.clock import SystemClock
from chain.net.http import HttpLimits, serve
from chain.net.http_exchange import ErrorBody, plain_error
from gateway.accounts import AccountService
from gateway.catalog.interface import Space
from gateway.catalog.local import LocalCatalog
from gateway.iam.face import IamFace
from gateway.iam.fetching import Fetcher
from gateway.iam.issuers import Issuers
from gateway.ipfs.api.app import ApiApp
from gateway.ipfs.api.commands import COMMANDS
from gateway.ipfs.api.node import Node
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.ipfs.ipns.keybook import KeyBook
from gateway.ipfs.ipns.name import IpnsName
from gateway.ipfs.ipns.store import IpnsRecords
from gateway.ipfs.names import Names
from gateway.ipfs.sites.dnslink import DnsLinks
from gateway.ipfs.web.app import IpfsApp
from gateway.ipfs.web.routing import Routing
from gateway.ipfs.web.serving import IpfsConfig, NoNames
from gateway.keys import KeyRing
from gateway.model import Attributes
from gateway.objects import ObjectService
from gateway.s3.app import S3App
from gateway.s3.refusals import protocol_error
from tests.clients.running import RunningNetwork
from tests.fault.hostile import Attacker, Target
from tests.fault.hostile_words import CID
from tests.fault.raw_http import Hostile, Outcome, head, send
from tests.unit.object_parts import FakeLeases, MemoryOwners, MemoryPool, stream

BODY = b"hello world"
MIB = 1 << 20
# The object path may fill its buffers (417 MiB in each worker); no request may go beyond.
GROWTH_MAX = 256 * MIB
ALLOWED_5XX = {501, 503, 505}
# What the gateways' specification has for a name that leads nowhere: 500, in these words.
UNRESOLVED = b"failed to resolve /ipns/"
PEER = "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d"
LINKS = {
    "linked.example": f"/ipfs/{CID}",
    "round.example": "/ipns/round.example",
}
ACCESS, SECRET = "attacker", "attacker-secret"


@dataclass
class Site:
    """Both front ends on ports of this process, over a catalog on disk."""

    target: Target
    objects: ObjectService
    catalog: LocalCatalog

    def left(self) -> dict[str, int]:
        """Rows of every keyspace, the bytes that are charged, and what of the buffers is taken."""
        store = self.objects._store
        pools = {
            "rings": store.engine.rings,
            "frames": store.engine.frames,
            "reads": store.reads,
        }
        found = {name: pool.in_use for name, pool in pools.items()}
        with self.catalog.read() as reader:
            for space in Space:
                found[space.name] = len(reader.scan(space, b"\x00", None, 10_000))
            found["charged"] = reader.counter(b"used/lease-1")
        return found


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock, entropy = SystemClock(), random.Random(5).randbytes
    catalog = LocalCatalog.open(tmp_path / "catalog")
    keys, pool = KeyRing(MemoryOwners(entropy), entropy), MemoryPool()
    accounts = AccountService(catalog, keys, clock=clock, entropy=entropy)
    objects = ObjectService(
        catalog, pool, pool, keys, FakeLeases(), clock=clock, entropy=entropy,
        publisher=IpfsPublisher(),
    )  # fmt: skip
    credential = await accounts.create("Eve", access_key=ACCESS, secret_key=SECRET)
    for name in ("target", "target-open"):
        await objects.create_bucket(credential.account, name, public=name.endswith("open"))
        bucket = await objects.configure_bucket(name, publishes=name.endswith("open"))
        await objects.put(bucket, "object", stream(BODY), Attributes())
    fetcher = Fetcher(clock)
    face = IamFace(
        catalog, accounts.credential, token_key=bytes(32),
        issuers=Issuers(fetcher.fetch, clock), clock=clock, entropy=entropy,
    )  # fmt: skip
    node = Node.over(
        objects, catalog, clock, entropy, owner=accounts.first, public_key=bytes(32),
        names=NoNames(), keys=KeyBook(catalog, bytes(32), clock, entropy),
    )  # fmt: skip
    apps: dict[str, tuple[Any, ErrorBody]] = {
        "s3": (S3App(objects, accounts.credential, clock=clock, iam=face), protocol_error),
        "ipfs": (_gateway(objects, catalog), plain_error),
        "api": (ApiApp(node, COMMANDS, open=True), plain_error),
    }
    stop, urls = asyncio.Event(), {}
    async with asyncio.TaskGroup() as group:
        for name, (app, error_body) in apps.items():
            listener = socket.create_server(("127.0.0.1", 0))
            urls[name] = f"http://127.0.0.1:{listener.getsockname()[1]}"
            limits = HttpLimits(
                head_timeout=2, body_window=2, idle_timeout=3, sweep=0.2, tunnels=name == "ipfs"
            )
            serving = serve(app, [listener], limits=limits, stop=stop, error_body=error_body)
            group.create_task(serving)
        yield Site(Target(urls["s3"], urls["ipfs"], urls["api"], ACCESS, SECRET), objects, catalog)
        stop.set()
    objects.close()
    fetcher.close()
    await catalog.close()


def _gateway(objects: ObjectService, catalog: LocalCatalog) -> Routing:
    clock, key = SystemClock(), IpnsName.parse(PEER)
    records = IpnsRecords(catalog, clock)
    names = Names(records, DnsLinks(LINKS, clock), ("localhost",), clock)
    app = IpfsApp(objects, catalog, IpfsConfig(), clock, names)
    return Routing(app, BlockIndex(objects, catalog), records, names, key, clock)


def judge(hostile: Hostile, outcome: Outcome) -> None:
    """What came back is not our fault, and is whole."""
    if hostile.kind == "ipfs api" and b'"Type": "error"' in outcome.received:
        return  # a command that failed, in Kubo's words
    # A HEAD has no words, but the headers tell of a name.
    of_name = b"HEAD " in hostile.data and b"\r\nipfs-uri: ipns://" in outcome.received
    unresolved = UNRESOLVED in outcome.received or of_name
    allowed = ALLOWED_5XX | ({500} if unresolved else set())
    wrong = [code for code in outcome.statuses if code >= 500 and code not in allowed]
    assert not wrong, f"{hostile.kind}: {wrong} for {hostile.data[:2000]!r}: {outcome.received!r}"
    assert b"InternalError" not in outcome.received
    assert b"InternalFailure" not in outcome.received


async def check_serving(target: Target) -> None:
    """A good request at each port is answered as always."""
    good = Attacker(0, target).signed("GET", f"/{target.bucket}/{target.key}")
    for request in (
        Hostile("good", target.s3, good),
        Hostile("good", target.ipfs, head("GET", f"/ipfs/{CID}", ["Host: x"])),
    ):
        outcome = await send(request)
        assert outcome.statuses == [200], outcome
        assert outcome.received.endswith(BODY)


@pytest.mark.parametrize("seed", range(4))
async def test_no_request_of_a_hostile_client_is_our_error(
    site: Site, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    attacker = Attacker(seed, site.target)
    kinds: Counter[str] = Counter()
    with caplog.at_level(logging.ERROR):
        for _ in range(40):
            batch = [attacker.draw() for _ in range(10)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(send(hostile)) for hostile in batch]
            for hostile, task in zip(batch, tasks, strict=True):
                judge(hostile, task.result())
                kinds[hostile.kind] += 1
            await check_serving(site.target)
    assert len(kinds) >= 15
    assert not caplog.records, caplog.text[-5000:]


async def test_clients_that_vanish_in_an_upload_leave_no_row_and_no_buffer(site: Site) -> None:
    bucket = site.objects.bucket("target")
    upload = (await site.objects.create_upload(bucket, "parts", Attributes())).upload_id
    await asyncio.sleep(0)
    before = site.left()
    attacker = Attacker(31, site.target)
    chance = attacker.chance
    part = f"/target/parts?partNumber=1&uploadId={upload}"
    kept = {}
    async with asyncio.TaskGroup() as group:
        for number in range(24):
            path = part if number % 3 == 0 else "/target/gone"
            data = chance.randbytes(chance.choice([40_000, 1_200_000, 2_500_000]))
            whole = attacker.signed("PUT", path, {}, data)
            cut = whole[: chance.randrange(len(whole) - len(data), len(whole))]
            # Half of them say that they end, the others are gone without a word.
            finish, pieces = number % 2 == 0, chance.choice([1, 4])
            gone = Hostile("vanish", site.target.s3, cut, finish, pieces)
            kept[number] = group.create_task(send(gone))
        taken = 0
        while not all(task.done() for task in kept.values()):
            taken = max(taken, site.left()["rings"])
            await asyncio.sleep(0)
    assert taken > 0
    assert not [task for task in kept.values() if 200 in task.result().statuses]
    async with asyncio.timeout(20):
        while site.left() != before:  # noqa: ASYNC110 - the server tells nobody that it has noticed
            await asyncio.sleep(0.05)
    await check_serving(site.target)


# ---------------------------------------------------------------- a whole network
@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    folder = tmp_path_factory.mktemp("hostile")
    with RunningNetwork(folder, "--pledge", "1GiB", "--workers", "2") as running:
        client = running.boto()
        for name in ("target", "target-open"):
            client.create_bucket(Bucket=name)
        running.cumulus("ipfs", "publish", "target-open", "on")
        client.put_bucket_acl(Bucket="target-open", ACL="public-read")
        for name in ("target", "target-open"):
            client.put_object(Bucket=name, Key="object", Body=BODY)
        client.put_object(Bucket="target", Key="large", Body=bytes(3 * MIB))
        yield running


def target_of(network: RunningNetwork) -> Target:
    access, secret = network.keys()
    return Target(network.url("s3"), network.url("ipfs"), network.url("ipfs_api"), access, secret)


def resident_bytes(network: RunningNetwork) -> dict[str, int]:
    """Memory of each child that is not shared with a file."""
    found = {}
    for name, pid in network.pids().items():
        text = Path(f"/proc/{pid}/status").read_text()
        found[name] = int(text.partition("RssAnon:")[2].split()[0]) << 10
    return found


def assert_unhurt(
    network: RunningNetwork, pids: dict[str, int], memory: dict[str, int], logs: dict[Path, int]
) -> None:
    """No process was restarted, none has grown much, none has logged an error of ours."""
    assert network.pids() == pids
    for name, after in resident_bytes(network).items():
        assert after - memory[name] < GROWTH_MAX, f"{name}: {memory[name]} -> {after}"
    for path in (network.data_dir / "logs").glob("*.log"):
        for line in path.read_text(errors="replace")[logs.get(path, 0) :].splitlines():
            entry = json.loads(line) if line.startswith("{") else {"level": "none"}
            assert entry["level"] not in ("error", "critical"), f"{path.name}: {line[:2000]}"


def log_sizes(network: RunningNetwork) -> dict[Path, int]:
    return {
        path: len(path.read_text(errors="replace"))
        for path in (network.data_dir / "logs").glob("*.log")
    }


@pytest.mark.network
@pytest.mark.timeout(300)
async def test_a_network_outlives_600_hostile_requests_and_serves_between_them(
    network: RunningNetwork,
) -> None:
    target = target_of(network)
    await check_serving(target)
    pids, memory, logs = network.pids(), resident_bytes(network), log_sizes(network)
    attacker = Attacker(2026, target)
    for _ in range(30):
        batch = [attacker.draw() for _ in range(20)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(send(hostile)) for hostile in batch]
        for hostile, task in zip(batch, tasks, strict=True):
            judge(hostile, task.result())
        await check_serving(target)
    assert_unhurt(network, pids, memory, logs)


@pytest.mark.network
@pytest.mark.timeout(300)
async def test_half_finished_requests_and_clients_that_do_not_read_keep_nobody_waiting(
    network: RunningNetwork,
) -> None:
    target = target_of(network)
    await check_serving(target)
    pids, memory, logs = network.pids(), resident_bytes(network), log_sizes(network)
    attacker, writers = Attacker(7, target), []
    host, port = "127.0.0.1", int(target.s3.rpartition(":")[2])
    body = attacker.chance.randbytes(300_000)
    for number in range(120):
        _, writer = await asyncio.open_connection(host, port)
        writers.append(writer)
        upload = attacker.signed("PUT", "/target/half", {}, body)
        match number % 4:
            case 0:  # a head without an end
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            case 1:  # a body that stops
                writer.write(upload[: len(upload) - attacker.chance.randrange(1, len(body))])
            case 2:  # a reply that nobody reads
                writer.write(attacker.signed("GET", "/target/large") * 20)
            case _:  # nothing at all
                pass
    for _ in range(20):
        began = time.monotonic()
        await check_serving(target)
        assert time.monotonic() - began < 5
    for writer in writers:
        writer.transport.abort()
    await check_serving(target)
    assert_unhurt(network, pids, memory, logs)
