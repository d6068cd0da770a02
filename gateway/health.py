"""Asks a running network whether it is ready."""

import asyncio
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

REPLY_BYTES_MAX = 1 << 20
SECONDS = 3.0


async def ready(console: str) -> bool:
    """Whether GET /health/ready says 200."""
    status, _ = await fetch(console, "/health/ready")
    return status == 200


async def report(console: str) -> dict[str, Any]:
    """What /health/ready says is there and missing; empty when nothing answers."""
    _, body = await fetch(console, "/health/ready")
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


async def fetch(base: str, path: str) -> tuple[int, bytes]:
    """(status, body) of a GET; status 0 when there is no answer. For this machine's own ports."""
    parts = urlsplit(base)
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port, ssl=_trusting() if parts.scheme == "https" else None
            )
            try:
                head = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                raw = await reader.read(REPLY_BYTES_MAX)
                while chunk := await reader.read(REPLY_BYTES_MAX):
                    raw += chunk
                    if len(raw) > REPLY_BYTES_MAX:
                        return 0, b""
            finally:
                # Not closed in order: for a TLS goodbye the loop may not live long enough.
                writer.transport.abort()
                await writer.wait_closed()
    except (OSError, TimeoutError):
        return 0, b""
    return _parse(raw)


def _parse(raw: bytes) -> tuple[int, bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return 0, b""
    return int(words[1][:3]), body


def _trusting() -> ssl.SSLContext:
    """No check of who answers: the address is this machine's own listener."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
