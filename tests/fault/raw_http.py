"""Bytes to an HTTP port, and what comes back."""

import asyncio
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

ANSWER_SECONDS = 20.0
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


@dataclass(frozen=True)
class Hostile:
    """One connection: what is sent, and how it ends."""

    kind: str
    url: str
    data: bytes
    # The client closes its half when all is sent, so that nothing is left to wait for.
    finish: bool = True
    pieces: int = 1


@dataclass
class Outcome:
    """What came back on one connection."""

    statuses: list[int] = field(default_factory=list)
    received: bytes = b""


def head(method: str, path: str, lines: list[str], version: str = "HTTP/1.1") -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {path} {version}", *lines, "", ""]).encode("latin-1", "replace")


async def send(hostile: Hostile) -> Outcome:
    """Send it and read until the server has no more to say. Raises TimeoutError if it hangs."""
    split = urlsplit(hostile.url)
    outcome = Outcome()
    async with asyncio.timeout(ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(split.hostname, split.port)
        try:
            step = -(-len(hostile.data) // hostile.pieces)
            for at in range(0, len(hostile.data), step):
                writer.write(hostile.data[at : at + step])
                await writer.drain()
            if hostile.finish:
                writer.write_eof()
                outcome.received = await reader.read(4 << 20)
                while more := await reader.read(4 << 20):
                    outcome.received += more
        except (ConnectionError, OSError):
            pass  # cut off while it was still sending
        finally:
            writer.transport.abort()
    outcome.statuses = [int(code) for code in _STATUS.findall(outcome.received)]
    return outcome
