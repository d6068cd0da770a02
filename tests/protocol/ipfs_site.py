"""A gateway in memory that holds the blocks of public CARs, for claims about other makers' data.

The CARs lie in `$CUMULUS_FIXTURES/ipfs` (PROVISION.txt there says what is in them); tests skip with
a message where they are not.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest

from chain.cids import Cid
from chain.net.transport import Buffer
from gateway.ipfs.codecs import dagpb
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.packs import Packs
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.ipfs.web.app import IpfsApp
from gateway.ipfs.web.sending import Message, Send
from gateway.ipfs.web.serving import IpfsConfig, NameSystem
from gateway.model import Bucket
from tests.unit.object_parts import FakeClock, World

FIXTURES = Path(os.environ.get("CUMULUS_FIXTURES", "/nowhere")) / "ipfs"


def fixture(name: str) -> Path:
    """A file of the public fixtures; skips the test where there are none."""
    path = FIXTURES / name
    if not path.is_file():
        pytest.skip(f"set CUMULUS_FIXTURES to the folder that holds ipfs/{name}")
    return path


class IpfsSite:
    """A public bucket behind the gateway, and ways to fill it."""

    def __init__(self, world: World, names: NameSystem | None = None) -> None:
        self.world = world
        self.index = BlockIndex(world.objects, world.catalog)
        self.packs = Packs(world.objects, self.index, world.clock, random.Random(7).randbytes)
        self.app = IpfsApp(world.objects, world.catalog, IpfsConfig(), FakeClock(), names)
        transport = httpx.ASGITransport(self.app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    @classmethod
    async def start(cls, names: NameSystem | None = None) -> "IpfsSite":
        world = await World(publisher=IpfsPublisher()).start()
        await world.objects.configure_bucket("photos", publishes=True)
        return cls(world, names)

    async def stop(self) -> None:
        await self.http.aclose()
        self.world.objects.close()

    @property
    def bucket(self) -> Bucket:
        return self.world.objects.bucket("photos")

    async def hold(self, *names: str) -> None:
        """Import every block of these CARs."""
        for name in names:
            await self.packs.import_car(
                self.bucket, _pieces(fixture(name).read_bytes()), partial=True
            )

    async def put(self, blocks: Sequence[tuple[Cid, bytes]]) -> None:
        """Hold these blocks."""

        async def each() -> AsyncIterator[tuple[Cid, bytes]]:
            for block in blocks:
                yield block

        await self.packs.store(self.bucket, [blocks[0][0]], each())

    async def raw(self, cid: Cid) -> bytes:
        """The bytes of a block that is held."""
        found = self.index.block(cid)
        assert found is not None
        return await self.index.bytes_of(found)

    async def at(self, root: str, *path: str) -> Cid:
        """The CID at the end of a path through plain directories."""
        cid = Cid.parse(root)
        for name in path:
            node = dagpb.decode(await self.raw(cid))
            [cid] = [link.cid for link in node.links if link.name == name]
        return cid

    async def get(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        """A request; `_` in names of headers is `-`."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.request(method, path, headers=names)

    async def messages(
        self,
        path: str,
        app: IpfsApp | None = None,
        to: Send | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> list[Message]:
        """What a GET sends, also where the response is broken off before its end."""
        sent: list[Message] = []

        async def receive() -> Message:
            await asyncio.Event().wait()
            return {}

        async def send(message: Message) -> None:
            sent.append(dict(message))

        plain, _, query = path.partition("?")
        scope = {
            "type": "http", "method": "GET", "path": plain, "raw_path": plain.encode(),
            "query_string": query.encode(), "headers": list(headers), "client": ("192.0.2.1", 5),
        }  # fmt: skip
        await (app or self.app)(scope, receive, to or send)
        return sent


async def _pieces(data: bytes) -> AsyncIterator[Buffer]:
    for at in range(0, len(data), 1 << 16):
        yield data[at : at + (1 << 16)]
