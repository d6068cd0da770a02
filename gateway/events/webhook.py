"""Notifications by HTTP POST: the driver that comes with Cumulus.

A connection for each delivery, no redirects, no proxies: a request goes to the configured address
or nowhere. Only the status of the answer counts.
"""

import asyncio
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from gateway.events.message import Message
from gateway.events.places import Webhook
from gateway.events.target import TargetRefused, TargetUnavailable

SECONDS = 10.0  # for a delivery in all
_STATUS_LINE_MAX = 8192
# Whoever says this of a document says it again: the document is at fault, not the moment.
_REFUSALS = frozenset({400, 405, 411, 413, 414, 415, 422, 431})


class WebhookTarget:
    """Posts {"Records": […]} with `batch` records at most."""

    def __init__(self, webhook: Webhook, seconds: float = SECONDS) -> None:
        """Raises OSError for an authority that cannot be read."""
        parts = urlsplit(webhook.url)
        self._secure = parts.scheme == "https"
        self._place = (parts.hostname, parts.port or (443 if self._secure else 80))
        self._tls = ssl.create_default_context(cafile=webhook.ca or None) if self._secure else None
        self._seconds = seconds
        self.batch = webhook.batch
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}"]
        if webhook.token:
            scheme = "" if " " in webhook.token else "Bearer "
            lines.append(f"Authorization: {scheme}{webhook.token}")
        lines += ["Content-Type: application/json", "User-Agent: Cumulus", "Connection: close"]
        self._head = "\r\n".join(lines)

    async def deliver(self, messages: Sequence[Message]) -> None:
        """See Target. 2xx is delivered."""
        for body in _documents(messages):
            try:
                async with asyncio.timeout(self._seconds):
                    status = await self._post(body)
            except TimeoutError:
                raise TargetUnavailable(f"no answer within {self._seconds:g} s") from None
            except (OSError, ValueError, EOFError) as error:
                raise TargetUnavailable(f"cannot be reached: {error}") from None
            if status in _REFUSALS:
                raise TargetRefused(f"status {status}")
            if not 200 <= status < 300:
                raise TargetUnavailable(f"status {status}")

    async def _post(self, body: bytes) -> int:
        host, port = self._place
        reader, writer = await asyncio.open_connection(
            host, port, ssl=self._tls, limit=_STATUS_LINE_MAX
        )
        try:
            writer.write(f"{self._head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            words = (await reader.readuntil(b"\n")).split(None, 2)
        except asyncio.LimitOverrunError as error:
            raise ValueError(f"no HTTP answer: {error}") from None
        finally:
            writer.transport.abort()
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise ValueError("no HTTP answer")
        return int(words[1])

    async def close(self) -> None:
        """Nothing stays open."""


def _documents(messages: Sequence[Message]) -> list[bytes]:
    """Records of several messages in one document; test events for themselves."""
    if len(messages) == 1:
        return [messages[0].document]
    documents: list[bytes] = []
    records: list[msgspec.Raw] = []
    for message in messages:
        found = msgspec.json.decode(message.document, type=_Records).Records
        if found:
            records += found
        else:
            documents.append(message.document)
    if records:
        documents.append(msgspec.json.encode({"Records": records}))
    return documents


class _Records(msgspec.Struct):
    Records: list[msgspec.Raw] = msgspec.field(default_factory=list)
