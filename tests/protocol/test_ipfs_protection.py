"""Claims about what the gateway refuses: blocked content, too many requests, waits without end."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from chain.cids import DAG_PB, RAW, SHA2_256, Cid
from chain.net.http import serve
from gateway.ipfs.codecs import dagpb, unixfs
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.errors import Busy, Denied
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.deny_files import DenyFiles
from gateway.ipfs.web.admission import Admission
from gateway.ipfs.web.app import IpfsApp
from gateway.ipfs.web.sending import Message
from gateway.ipfs.web.serving import IpfsConfig
from gateway.model import Attributes
from gateway.objects import ObjectService
from tests.protocol.ipfs_site import IpfsSite
from tests.unit.object_parts import FakeClock


def cid_of(block: bytes, codec: int) -> Cid:
    return Cid.of(codec, SHA2_256, hashlib.sha256(block).digest())


LEAVES = [b"first part, ", b"second part"]
LEAF_CIDS = [cid_of(leaf, RAW) for leaf in LEAVES]
FILE = dagpb.encode(
    [Link(cid, "", len(leaf)) for cid, leaf in zip(LEAF_CIDS, LEAVES, strict=True)],
    unixfs.encode(
        unixfs.Data(unixfs.Kind.FILE, size=23, block_sizes=tuple(len(leaf) for leaf in LEAVES))
    ),
)
FILE_CID = cid_of(FILE, DAG_PB)
INNER = dagpb.encode([Link(FILE_CID, "file", 0)], unixfs.DIRECTORY_DATA)
INNER_CID = cid_of(INNER, DAG_PB)
ROOT = dagpb.encode([Link(INNER_CID, "inner", 0)], unixfs.DIRECTORY_DATA)
ROOT_CID = cid_of(ROOT, DAG_PB)


@pytest.fixture
async def site() -> AsyncIterator[IpfsSite]:
    site = await IpfsSite.start()
    blocks = [(ROOT_CID, ROOT), (INNER_CID, INNER), (FILE_CID, FILE)]
    await site.put([*blocks, *zip(LEAF_CIDS, LEAVES, strict=True)])
    yield site
    await site.stop()


def app(site: IpfsSite, config: IpfsConfig | None = None, deny: DenyFiles | None = None) -> IpfsApp:
    parts = site.world
    return IpfsApp(parts.objects, parts.catalog, config or IpfsConfig(), FakeClock(), None, deny)


def body(sent: list[Message]) -> bytes:
    return b"".join(message["body"] for message in sent[1:])


async def status(
    site: IpfsSite, tmp_path: Path, rule: str, path: str, *, app_: IpfsApp | None = None
) -> int:
    file = tmp_path / "list.deny"
    file.write_text(rule + "\n")
    sent = await site.messages(path, app_ or app(site, deny=DenyFiles([file], FakeClock())))
    found: int = sent[0]["status"]
    return found


async def test_a_blocked_block_is_served_in_no_form_and_on_no_walk(
    site: IpfsSite, tmp_path: Path
) -> None:
    raw = Cid.of(RAW, SHA2_256, FILE_CID.digest)
    for rule in (f"/ipfs/{FILE_CID}", f"/ipfs/{FILE_CID}/*", f"/ipfs/{raw}"):
        for path in (
            f"/ipfs/{FILE_CID}",
            f"/ipfs/{FILE_CID}?format=raw",
            f"/ipfs/{FILE_CID}?format=car",
            f"/ipfs/{raw}?format=raw",
            f"/ipfs/{ROOT_CID}/inner/file",
            f"/ipfs/{ROOT_CID}?format=car",
        ):
            assert await status(site, tmp_path, rule, path) == 410, (rule, path)
        assert await status(site, tmp_path, rule, f"/ipfs/{ROOT_CID}/inner/") == 200
    legal = f"/ipfs/{LEAF_CIDS[1]} gateway_status:451"
    assert await status(site, tmp_path, legal, f"/ipfs/{ROOT_CID}/inner/file") == 451
    assert await status(site, tmp_path, legal, f"/ipfs/{LEAF_CIDS[0]}") == 200
    inline = "/ipfs/bafkqabtimvwgy3yk"
    assert await status(site, tmp_path, inline, inline) == 410


async def test_a_blocked_path_is_blocked_wherever_its_directory_is_reached(
    site: IpfsSite, tmp_path: Path
) -> None:
    rule = f"/ipfs/{INNER_CID}/f*"
    for path in (f"/ipfs/{INNER_CID}/file", f"/ipfs/{ROOT_CID}/inner/file"):
        assert await status(site, tmp_path, rule, path) == 410
    assert await status(site, tmp_path, rule, f"/ipfs/{FILE_CID}") == 200
    assert await status(site, tmp_path, "/ipns/bad.example", "/ipns/bad.example") == 410
    assert await status(site, tmp_path, "/ipns/bad.example", "/ipns/good.example") == 501


async def test_every_look_up_of_an_index_with_rules_asks_them(
    site: IpfsSite, tmp_path: Path
) -> None:
    file = tmp_path / "list.deny"
    file.write_text(f"/ipfs/{FILE_CID}\n")
    parts = site.world
    index = BlockIndex(parts.objects, parts.catalog, DenyFiles([file], FakeClock()))
    for look in (index.find, index.block, index.file):
        with pytest.raises(Denied):
            look(FILE_CID)
        look(INNER_CID)
    assert site.index.block(FILE_CID) is not None  # jobs see what is there


async def test_an_unreadable_denylist_answers_503(site: IpfsSite, tmp_path: Path) -> None:
    missing = app(site, deny=DenyFiles([tmp_path / "none.deny"], FakeClock()))
    sent = await site.messages(f"/ipfs/{FILE_CID}", missing)
    assert sent[0]["status"] == 503


def test_requests_are_counted_in_all_and_by_client_while_they_last() -> None:
    admission = Admission(3, 2)
    with admission.request("a"), admission.request("a"):
        with pytest.raises(Busy), admission.request("a"):
            pass
        with admission.request("b"), pytest.raises(Busy), admission.request("c"):
            pass
    with admission.request("a"), admission.request("a"), admission.request("b"):
        pass


async def test_ranges_of_large_files_are_refused_where_that_is_said(site: IpfsSite) -> None:
    part = [(b"range", b"bytes=0-4")]
    for most, expected in ((None, 206), (23, 206), (22, 501)):
        narrow = app(site, IpfsConfig(range_size_max=most))
        sent = await site.messages(f"/ipfs/{FILE_CID}", narrow, headers=part)
        assert sent[0]["status"] == expected
        whole = await site.messages(f"/ipfs/{FILE_CID}", narrow)
        assert whole[0]["status"] == 200


async def test_a_client_with_too_many_requests_is_told_when_to_come_again(
    site: IpfsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, waiting = asyncio.Event(), asyncio.Event()
    read = ObjectService.read

    async def slow(self: ObjectService, *args: object) -> AsyncIterator[object]:
        waiting.set()
        await go.wait()
        async for part in read(self, *args):  # type: ignore[arg-type]
            yield part

    monkeypatch.setattr(ObjectService, "read", slow)
    busy = app(site, IpfsConfig(client_requests_max=1))
    async with asyncio.TaskGroup() as group:
        first = group.create_task(site.messages(f"/ipfs/{LEAF_CIDS[0]}", busy))
        await waiting.wait()
        second = await site.messages(f"/ipfs/{LEAF_CIDS[0]}", busy)
        assert second[0]["status"] == 429
        assert (b"retry-after", b"1") in second[0]["headers"]
        go.set()
    assert body(first.result()) == LEAVES[0]
    assert body(await site.messages(f"/ipfs/{LEAF_CIDS[0]}", busy)) == LEAVES[0]


async def test_content_that_does_not_come_in_time_is_504(
    site: IpfsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    monkeypatch.setattr(ObjectService, "read", never)
    sent = await site.messages(f"/ipfs/{FILE_CID}", app(site, IpfsConfig(timeout=0.01)))
    assert sent[0]["status"] == 504


async def test_a_response_that_stands_still_is_broken_off(
    site: IpfsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = await site.world.objects.put(site.bucket, "large", _large(), Attributes())
    read = ObjectService.read

    async def stuck(self: ObjectService, *args: object) -> AsyncIterator[object]:
        async for part in read(self, *args):  # type: ignore[arg-type]
            yield part
            await asyncio.Event().wait()

    monkeypatch.setattr(ObjectService, "read", stuck)
    sent = await site.messages(f"/ipfs/{version.cid}", app(site, IpfsConfig(timeout=0.3)))
    assert sent[0]["status"] == 200
    assert sent[-1]["more_body"]


async def test_a_car_in_flight_ends_a_second_after_its_bucket_is_switched_off(
    site: IpfsSite,
) -> None:
    blocks = [number.to_bytes(2, "big") * 1000 for number in range(200)]
    links = [Link(cid_of(block, RAW), f"{i:03}", 0) for i, block in enumerate(blocks)]
    folder = dagpb.encode(links, unixfs.DIRECTORY_DATA)
    root = cid_of(folder, DAG_PB)
    await site.put([(root, folder), *((cid_of(block, RAW), block) for block in blocks)])
    clock = FakeClock()
    gateway = IpfsApp(site.world.objects, site.world.catalog, IpfsConfig(), clock)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == 2:
            await site.world.objects.configure_bucket("photos", publishes=False)
            clock.ns += 2 * 10**9

    await site.messages(f"/ipfs/{root}?format=car", gateway, send)
    assert sent[0]["status"] == 200
    assert sent[-1]["more_body"]
    assert len(body(sent)) < len(b"".join(blocks)) // 2


async def test_a_car_that_lacks_a_block_ends_without_its_last_chunk(site: IpfsSite) -> None:
    large = [bytes([number]) * (1 << 20) for number in range(3)]
    cids = [cid_of(block, RAW) for block in large]
    folder = dagpb.encode([Link(cid, str(i), 0) for i, cid in enumerate(cids)], b"\x08\x01")
    whole = cid_of(folder, DAG_PB)
    await site.put([(whole, folder), (cids[0], large[0]), (cids[2], large[2])])
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(cast("Any", site.app), [listener], stop=stop))
        try:
            for path, ends in ((f"{whole}?format=car", False), (f"{cids[2]}?format=car", True)):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(f"GET /ipfs/{path} HTTP/1.1\r\nHost: x\r\n".encode())
                writer.write(b"Connection: close\r\n\r\n")
                got = await reader.read(-1)
                writer.close()
                assert got.startswith(b"HTTP/1.1 200")
                assert b"transfer-encoding: chunked" in got
                assert len(got) > 1 << 20
                assert got.endswith(b"\r\n0\r\n\r\n") is ends
        finally:
            stop.set()


async def _large() -> AsyncIterator[bytes]:
    for number in range(3):
        yield bytes([number]) * (1 << 20)
