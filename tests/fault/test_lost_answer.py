"""The catalog's writer dies behind a commit and before its answer: 503, and a retry is right."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from chain.net.nodes import NodeTransport
from gateway.accounts import AccountService
from gateway.catalog.client import CatalogClient
from gateway.catalog.interface import CatalogUnavailable, Space
from gateway.errors import ServiceUnavailable
from gateway.keys import KeyRing
from gateway.objects import ObjectService
from gateway.records import OutboxRow, decode
from gateway.s3.app import S3App
from tests.conformance.s3_server import CREDENTIALS
from tests.protocol.s3_asgi import Answer, FixedClock, signed_call
from tests.unit.object_parts import FakeLeases, MemoryOwners, MemoryPool, lease_bytes

HELPER = Path(__file__).with_name("catalog_process.py")
ROOT = Path(__file__).parents[2]
MIB = 1 << 20


class Writer:
    """The catalog's process, which is started again whenever it died."""

    def __init__(self, folder: Path) -> None:
        self.marker = folder / "die"
        self.address = f"ipc://{folder}/run/catalog.ipc"
        self.command = [sys.executable, str(HELPER), "serve", str(folder / "catalog")]
        self.command += [self.address, str(self.marker)]
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = 0

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT
        )

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def again(self) -> None:
        """Wait for its death, then start it."""
        assert self.process is not None
        assert await asyncio.to_thread(self.process.wait, 20) == 9
        self.deaths += 1
        self.start()


class Site:
    """The S3 front end over a catalog in another process."""

    def __init__(self, writer: Writer, catalog: CatalogClient) -> None:
        clock, entropy = FixedClock(), random.Random(3).randbytes
        keys = KeyRing(MemoryOwners(entropy), entropy)
        self.writer, self.catalog, self.pool = writer, catalog, MemoryPool()
        self.accounts = AccountService(catalog, keys, clock=clock, entropy=entropy)
        self.objects = ObjectService(
            catalog, self.pool, self.pool, keys, FakeLeases(), clock=clock, entropy=entropy
        )
        self.app = S3App(self.objects, CREDENTIALS.get, clock=clock)

    async def start(self) -> None:
        for credential in CREDENTIALS.values():
            account = credential.account
            await when_back(partial(self.accounts.create, account.name, id=account.id))
        assert (await signed_call(self.app, "PUT", "/bucket")).status == 200

    async def lost(self, method: str, target: str, body: bytes = b"") -> Answer:
        """Ask while the answer gets lost, see 503, and ask again until the writer is back."""
        self.writer.marker.touch()
        first = await signed_call(self.app, method, target, body=body)
        assert (first.status, first.code) == (503, "ServiceUnavailable")
        assert first.headers["retry-after"] == "1"
        assert not self.writer.marker.exists()
        await self.writer.again()
        return await self.ask(method, target, body)

    async def ask(self, method: str, target: str, body: bytes = b"") -> Answer:
        for _ in range(200):
            answer = await signed_call(self.app, method, target, body=body)
            if answer.status != 503:
                return answer
            await asyncio.sleep(0.05)
        raise AssertionError("the writer did not come back")

    def rows(self, space: Space) -> list[tuple[bytes, bytes]]:
        with self.catalog.read() as reader:
            return reader.scan(space, b"\x00", None, 10_000)

    def used(self) -> int:
        with self.catalog.read() as reader:
            return reader.counter(b"used/lease-1")

    def told(self) -> int:
        """Bytes that the ledger is told of, in all."""
        rows = [decode(OutboxRow, value) for _, value in self.rows(Space.OUTBOX)]
        return sum(row.size if row.operation == "put" else -row.size for row in rows)


async def when_back(attempt: Callable[[], Awaitable[object]]) -> None:
    for _ in range(200):
        try:
            await attempt()
        except (CatalogUnavailable, ServiceUnavailable):
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("the writer did not come back")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    (tmp_path / "run").mkdir(mode=0o700)
    writer = Writer(tmp_path)
    writer.start()
    yield writer
    writer.end()


@pytest.fixture
async def site(writer: Writer, tmp_path: Path) -> AsyncIterator[Site]:
    transport = NodeTransport()
    catalog = CatalogClient(tmp_path / "catalog", transport.connect(writer.address))
    site = Site(writer, catalog)
    await site.start()
    yield site
    site.objects.close()
    await catalog.close()
    await transport.close()


@pytest.mark.parametrize("size", [100, MIB + 5])
async def test_a_put_whose_answer_was_lost_is_there_once_after_a_retry(
    site: Site, size: int
) -> None:
    body = random.Random(size).randbytes(size)
    assert (await site.lost("PUT", "/bucket/key", body)).status == 200
    assert (await site.ask("GET", "/bucket/key")).body == body
    listed = await site.ask("GET", "/bucket")
    assert listed.body.count(b"<Key>key</Key>") == 1
    assert site.used() == site.told() == lease_bytes(size)
    assert len(site.rows(Space.LIVE)) == 1
    assert len(site.rows(Space.BODIES)) + len(site.rows(Space.STREAMS)) == 1
    # The first attempt was a version of its own; what it stored is on its way out.
    assert len(site.rows(Space.RELEASES)) == (1 if size > MIB else 0)
    assert (await site.lost("DELETE", "/bucket/key")).status == 204
    assert (await site.ask("GET", "/bucket/key")).code == "NoSuchKey"
    assert site.used() == site.told() == 0
    for space in (Space.LIVE, Space.VERSIONS, Space.BODIES, Space.STREAMS):
        assert site.rows(space) == []
    assert site.writer.deaths == 2


async def test_a_lost_completion_answers_the_same_object_again(site: Site) -> None:
    created = await site.lost("POST", "/bucket/key?uploads")
    upload = created.body.decode().partition("<UploadId>")[2].partition("<")[0]
    target = f"/bucket/key?partNumber=1&uploadId={upload}"
    part = await site.lost("PUT", target, b"a part")
    assert part.status == 200
    # An upload whose answer was lost is nobody's: it stays until it is aborted.
    assert len(site.rows(Space.UPLOADS)) == 2
    assert len(site.rows(Space.PARTS)) == 1
    assert site.used() == lease_bytes(6)
    named = f"<Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag></Part>"
    document = f"<CompleteMultipartUpload>{named}</CompleteMultipartUpload>".encode()
    done = await site.lost("POST", f"/bucket/key?uploadId={upload}", document)
    assert done.status == 200
    assert (await site.ask("GET", "/bucket/key")).body == b"a part"
    assert len(site.rows(Space.LIVE)) == 1
    assert site.used() == site.told() == lease_bytes(6)
    assert site.rows(Space.PARTS) == []


async def test_a_bucket_whose_answer_was_lost_is_the_callers_own(site: Site) -> None:
    again = await site.lost("PUT", "/second")
    assert again.code in ("", "BucketAlreadyOwnedByYou")
    listed = await site.ask("GET", "/")
    assert listed.body.count(b"<Name>second</Name>") == 1
