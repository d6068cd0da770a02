"""Claims about the client of trustless gateways, over real sockets."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chain.cids import RAW, SHA2_256, Cid
from chain.clock import SystemClock
from gateway.ipfs.foreign import trustless
from gateway.ipfs.foreign.blocks import FetchFailed
from gateway.ipfs.foreign.trustless import TrustlessGateway

BLOCK = b"a block"
CID = Cid.of(RAW, SHA2_256, hashlib.sha256(BLOCK).digest())
RAW_TYPE = "application/vnd.ipld.raw"


class Server:
    """Says `reply` to whoever comes; notes what was asked."""

    def __init__(self) -> None:
        self.reply = b""
        self.heads: list[str] = []
        self.stay = False

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self.reply)
        await writer.drain()
        if self.stay:
            await reader.read()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    server.server.close()


@pytest.fixture
async def gateway(server: Server) -> AsyncIterator[TrustlessGateway]:
    threads = ThreadPoolExecutor(2)
    yield TrustlessGateway(server.url + "/", threads, SystemClock())
    threads.shutdown(wait=False)


def said(status: int, kind: str, body: bytes, length: int | None = None, more: str = "") -> bytes:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{more}\r\n"
    return head.encode() + body


async def test_a_block_and_a_car_are_asked_for_as_the_specification_says(
    server: Server, gateway: TrustlessGateway
) -> None:
    server.reply = said(200, RAW_TYPE, BLOCK)
    assert await gateway.block(CID) == BLOCK
    server.reply = said(200, "application/vnd.ipld.car; version=1", b"car" * 200_000)
    assert b"".join([bytes(part) async for part in gateway.car(CID)]) == b"car" * 200_000
    first, second = server.heads
    assert first.startswith(f"GET /ipfs/{CID}?format=raw HTTP/1.1\r\n")
    assert f"Accept: {RAW_TYPE}\r\n" in first
    assert second.startswith(f"GET /ipfs/{CID}?format=car&dag-scope=all HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"no HTTP\r\n\r\n",
        said(404, RAW_TYPE, BLOCK),
        said(200, "text/html", BLOCK),
        said(200, RAW_TYPE, BLOCK, length=100),
        said(200, RAW_TYPE, bytes((2 << 20) + 1)),
        said(302, RAW_TYPE, b"", more="Location: http://other.example/\r\n"),
        said(302, RAW_TYPE, b"", more="Location: file:///etc/passwd\r\n"),
        said(302, RAW_TYPE, b"", more="Location: /again\r\n"),
    ],
)
async def test_any_other_answer_is_no_block(
    server: Server, gateway: TrustlessGateway, reply: bytes
) -> None:
    server.reply = reply
    with pytest.raises(FetchFailed):
        await gateway.block(CID)
    assert len(server.heads) <= 1 + trustless.REDIRECTS_MAX


async def test_a_gateway_that_does_not_go_on_is_left(
    server: Server, gateway: TrustlessGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trustless, "WAIT_SECONDS", 0.1)
    server.stay = True
    server.reply = said(200, RAW_TYPE, BLOCK, length=100)
    began = time.monotonic()
    with pytest.raises(FetchFailed):
        await gateway.block(CID)
    assert time.monotonic() - began < 5


async def test_an_address_that_nobody_serves_is_no_block() -> None:
    threads = ThreadPoolExecutor(1)
    for url in ("http://127.0.0.1:1", "ftp://127.0.0.1", "nonsense"):
        with pytest.raises(FetchFailed):
            await TrustlessGateway(url, threads, SystemClock()).block(CID)
    threads.shutdown()
