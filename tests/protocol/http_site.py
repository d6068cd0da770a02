"""A running HTTP server with an application of its own, and a client that sends raw bytes."""
# ruff: noqa: ARG002 - an ASGI application takes three arguments, needed or not

import asyncio
import contextlib
import datetime
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from uvicorn.protocols.utils import ClientDisconnected

from chain.net.http import HttpLimits, serve, tls_context
from chain.net.http_exchange import FILL

FAST = HttpLimits(
    head_timeout=0.4, idle_timeout=0.4, body_rate=1000, body_window=0.4, write_timeout=0.4,
    linger_seconds=0.2, connections=8, pipeline=8, shutdown=2.0, sweep=0.05,
)  # fmt: skip

AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]
Certificate = tuple[Path, Path]


def make_certificate(directory: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    pem, secret = directory / f"{name}.pem", directory / f"{name}.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, secret


@dataclass
class Site:
    """A running server and what its application saw."""

    port: int = 0
    client_tls: ssl.SSLContext | None = None
    server_tls: ssl.SSLContext | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    scopes: list[AsgiMessage] = field(default_factory=list)
    bodies: list[tuple[int, str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    first: asyncio.Event = field(default_factory=asyncio.Event)  # `on_fill` has its first step
    pieces: list[int] = field(default_factory=list)

    async def app(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        try:
            await getattr(self, "on_" + scope["path"].strip("/").split("/")[0], self.on_echo)(
                scope, receive, send
            )
        finally:
            self.left.set()

    async def reply(
        self, send: Send, status: int = 200, body: bytes = b"", headers: Headers = ()
    ) -> None:
        length = (b"content-length", b"%d" % len(body))
        head = {"type": "http.response.start", "status": status, "headers": [length, *headers]}
        await send(head)
        await send({"type": "http.response.body", "body": body})

    async def read(self, receive: Receive) -> bytes | None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.bodies.append((len(body), "disconnect"))
                return None
            self.pieces.append(len(message["body"]))
            body += cast("bytes", message["body"])
            if not message["more_body"]:
                self.bodies.append((len(body), "complete"))
                return body

    async def on_echo(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        body = await self.read(receive)
        if body is not None:
            await self.reply(send, body=body)

    async def on_fill(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        """Reads the body to places of `step` bytes, as the path says, and sends it back."""
        fill, step = scope["extensions"][FILL], int(scope["path"].rpartition("/")[2])
        self.entered.set()
        body = b""
        try:
            while True:
                place = bytearray(step)
                count = await fill(memoryview(place))
                self.pieces.append(count)
                body += place[:count]
                if count < step:
                    break
                if len(body) == step:
                    self.first.set()
                    await self.gate.wait()
        except ClientDisconnected:
            self.bodies.append((len(body), "disconnect"))
            raise
        self.bodies.append((len(body), "complete"))
        await self.reply(send, body=body)

    async def on_refuse(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        await self.reply(send, 403, b"no")

    async def on_wait(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        self.entered.set()
        await self.gate.wait()
        await self.on_echo(scope, receive, send)

    async def on_stream(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def on_endless(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})

    async def on_crash(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        raise ValueError("a secret detail")

    async def on_inject(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        await self.reply(send, headers=[(b"x", b"1\r\nset-cookie: evil")])

    async def on_short(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"123", "more_body": True})

    async def on_watch(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        await self.read(receive)
        self.entered.set()
        assert (await receive())["type"] == "http.disconnect"

    async def connect(self) -> "Client":
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, ssl=self.client_tls))

    async def exchange(self, data: bytes) -> bytes:
        """Everything that comes back until the server closes."""
        client = await self.connect()
        client.writer.write(data)
        try:
            return await client.rest()
        finally:
            await client.close()


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, data: bytes) -> tuple[int, bytes, bytes]:
        self.writer.write(data)
        return await self.reply()

    async def reply(self) -> tuple[int, bytes, bytes]:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            body = await self.reader.readexactly(int(length[1])) if length else b""
        return int(head[9:12]), head, body

    async def rest(self) -> bytes:
        data = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            async with asyncio.timeout(10):
                while piece := await self.reader.read(1 << 16):
                    data += piece
        return data

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()


Running = Callable[..., contextlib.AbstractAsyncContextManager[Site]]


@contextlib.asynccontextmanager
async def running_site(
    certificate: Certificate | None, limits: HttpLimits = FAST, **options: Any
) -> AsyncIterator[Site]:
    site = Site()
    if certificate is not None:
        site.server_tls = tls_context(*certificate)
        site.client_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        site.client_tls.check_hostname = False
        site.client_tls.verify_mode = ssl.CERT_NONE
    listener = socket.create_server(("127.0.0.1", 0))
    site.port = listener.getsockname()[1]
    async with asyncio.TaskGroup() as group:
        group.create_task(
            serve(
                site.app, [listener], tls=site.server_tls, limits=limits, stop=site.stop, **options
            )
        )
        yield site
        site.gate.set()
        site.stop.set()


def head(method: str, target: str, *lines: str, host: str = "host: x") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", host, *lines, "", ""]).encode("latin-1")
