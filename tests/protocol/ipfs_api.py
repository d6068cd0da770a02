"""The API port over the real object service in memory."""

import json
import random
from typing import Any

import httpx

from gateway.ipfs.api.app import ApiApp
from gateway.ipfs.api.commands import COMMANDS
from gateway.ipfs.api.node import Node
from gateway.ipfs.ipns.keybook import KeyBook
from gateway.ipfs.ipns.store import IpnsRecords
from gateway.ipfs.names import Names
from gateway.ipfs.sites.dnslink import DnsLinks
from tests.unit.object_parts import World


class Api:
    """The API port over a world."""

    def __init__(self, world: World, *, open: bool = True) -> None:
        self.world = world
        records = IpnsRecords(world.catalog, world.clock)
        names = Names(records, DnsLinks({}, world.clock), (), world.clock)
        self.node = Node.over(
            world.objects,
            world.catalog,
            world.clock,
            random.Random(8).randbytes,
            owner=world.accounts.first,
            public_key=bytes(range(32)),
            names=names,
            keys=KeyBook(world.catalog, bytes(32), world.clock, random.Random(9).randbytes),
        )
        self.tokens = self.node.tokens
        self.http = self.client(open)

    def client(self, open: bool) -> httpx.AsyncClient:
        app = ApiApp(self.node, COMMANDS, open=open)
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api/api/v0/")

    async def post(self, command: str, *args: str, **options: Any) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in options.items()}
        files = names.pop("files", None)
        query = [*(("arg", arg) for arg in args), *names.items()]
        return await self.http.post(command, params=query, files=files)

    async def ask(self, command: str, *args: str, **options: Any) -> Any:
        got = await self.post(command, *args, **options)
        assert got.status_code == 200, got.text
        return got.json()

    async def do(self, command: str, *args: str, **options: Any) -> None:
        """A command that says nothing."""
        got = await self.post(command, *args, **options)
        assert (got.status_code, got.content) == (200, b""), got.text

    async def refused(self, command: str, *args: str, **options: Any) -> str:
        """The message of a command that fails."""
        got = await self.post(command, *args, **options)
        assert got.status_code in {400, 500}, got.text
        assert got.json()["Type"] == "error"
        return str(got.json()["Message"])

    async def lines(self, command: str, *args: str, **options: Any) -> list[Any]:
        got = await self.post(command, *args, **options)
        assert got.status_code == 200, got.text
        return [json.loads(line) for line in got.text.splitlines()]
