"""What strangers say to a ZeroMQ port: bytes of ZMTP 3.1 (RFC 37) and CURVE (RFC 26) gone wrong.

Written by hand and sent over plain TCP: libzmq speaks no wrong ZMTP, and its own sockets wait for
ever once a server has refused them.
"""

import asyncio
import random
from urllib.parse import urlsplit

GREETING_BYTES = 64
HELLO_BYTES = 192  # after the command's name
CLOSE_SECONDS = 10.0


def greeting(mechanism: bytes) -> bytes:
    """A client's greeting."""
    signature, version = b"\xff" + bytes(8) + b"\x7f", b"\x03\x01"
    return signature + version + mechanism.ljust(20, b"\0") + bytes(32)


def command(name: bytes, data: bytes) -> bytes:
    """A command frame."""
    body = bytes([len(name)]) + name + data
    if len(body) < 256:
        return b"\x04" + bytes([len(body)]) + body
    return b"\x06" + len(body).to_bytes(8, "big") + body


def refused(chance: random.Random) -> dict[str, bytes]:
    """By kind: what a CURVE server ends the connection over at once."""
    curve, random_bytes = greeting(b"CURVE"), chance.randbytes
    huge = b"\x02" + (2**62).to_bytes(8, "big") + random_bytes(500)
    ready = command(b"READY", b"\x0bSocket-Type\0\0\0\x06DEALER")
    hello = b"\x01\0" + bytes(72) + random_bytes(HELLO_BYTES - 74)
    return {
        "nothing known": b"GET" + random_bytes(300),
        "the first ZMTP": b"\x01\0" + b"\x05\0abcd" + random_bytes(300),
        "a huge frame in the greeting": greeting(b"")[:12] + huge,
        "no mechanism": greeting(b"NULL") + ready + b"\0\x05hello",
        "a password": greeting(b"PLAIN") + command(b"HELLO", b"\x01a\x01b"),
        "a box that nobody can open": curve + command(b"HELLO", hello),
        "a short HELLO": curve + command(b"HELLO", random_bytes(9)),
        "INITIATE before HELLO": curve + command(b"INITIATE", random_bytes(400)),
        "a huge frame for HELLO": curve + huge,
        "garbage for HELLO": curve + random_bytes(300),
    }


async def refusal(address: str, data: bytes) -> bytes:
    """What a server says before it hangs up. Raises TimeoutError if it does not."""
    split, said = urlsplit(address), b""
    async with asyncio.timeout(CLOSE_SECONDS):
        reader, writer = await asyncio.open_connection(split.hostname, split.port)
        try:
            writer.write(data)
            while more := await reader.read(1 << 16):
                said += more
        except ConnectionError:
            pass  # it hung up before it had read all
        finally:
            writer.transport.abort()
    return said


async def cut(address: str, data: bytes) -> None:
    """Say something, then break off."""
    split = urlsplit(address)
    async with asyncio.timeout(CLOSE_SECONDS):
        _, writer = await asyncio.open_connection(split.hostname, split.port)
        writer.write(data)
        await writer.drain()
        writer.transport.abort()
