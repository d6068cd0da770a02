"""Claims about the API port, over the real object service in memory."""

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ipfs.api.app import ApiApp
from gateway.ipfs.api.call import parse_query
from gateway.ipfs.api.commands import COMMANDS
from gateway.ipfs.api.errors import BadCall
from gateway.ipfs.api.node import Node
from gateway.ipfs.blocks import BlockIndex
from gateway.ipfs.publish import IpfsPublisher
from gateway.ipfs.tokens import NoSuchToken, Tokens
from tests.unit.object_parts import World


class Api:
    """The API port over a world."""

    def __init__(self, world: World, *, open: bool = True) -> None:
        self.world = world
        self.tokens = Tokens(world.catalog, world.clock, random.Random(7).randbytes)
        self.node = Node(
            world.objects,
            world.catalog,
            BlockIndex(world.objects, world.catalog),
            self.tokens,
            world.clock,
            world.accounts.first,
            bytes(range(32)),
        )
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

    async def lines(self, command: str, *args: str, **options: Any) -> list[Any]:
        got = await self.post(command, *args, **options)
        assert got.status_code == 200, got.text
        return [json.loads(line) for line in got.text.splitlines()]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    world = await World(publisher=IpfsPublisher()).start()
    api = Api(world)
    yield api
    await api.http.aclose()
    world.objects.close()


async def test_only_post_is_served_and_only_known_commands(api: Api) -> None:
    got = await api.http.get("version")
    assert (got.status_code, got.headers["allow"]) == (405, "POST, OPTIONS")
    for path in ("nothing", "object/new", "version/x", "/other"):
        got = await api.http.post(path)
        assert got.status_code == 404, path
        assert got.json() == {"Message": "404 page not found", "Code": 0, "Type": "error"}
    assert (await api.ask("version"))["Version"]


async def test_it_says_who_it_is(api: Api) -> None:
    told = await api.ask("id")
    assert told["ID"].startswith("12D3KooW")
    assert told["Addresses"] == []
    assert await api.ask("swarm/peers") == {"Peers": []}


async def test_browsers_are_refused_where_no_token_is_needed(api: Api) -> None:
    for header in ("Origin", "Referer"):
        got = await api.http.post("version", headers={header: "http://evil.example"})
        assert (got.status_code, got.json()["Code"]) == (403, 4)
        assert "access-control-allow-origin" not in got.headers
    token = (await api.tokens.create(None))[1]
    headers = {"Origin": "http://evil.example", "Authorization": f"Bearer {token}"}
    assert (await api.http.post("version", headers=headers)).status_code == 403
    got = await api.http.options("version", headers={"Origin": "http://evil.example"})
    assert got.status_code == 403


async def test_elsewhere_a_token_is_needed_until_it_is_revoked(api: Api) -> None:
    async with api.client(open=False) as http:
        token, text = await api.tokens.create(None)
        for wrong in (None, "", "Basic x", "Bearer", f"Bearer {text}x", f"Bearer {'x' * 9999}"):
            headers = {} if wrong is None else {"Authorization": wrong}
            got = await http.post("version", headers=headers)
            assert (got.status_code, got.json()["Type"]) == (403, "error"), wrong
        headers = {"Authorization": f"Bearer {text}", "Origin": "http://app.example"}
        assert (await http.post("version", headers=headers)).status_code == 200
        preflight = await http.options("version", headers={"Origin": "http://app.example"})
        assert preflight.headers["access-control-allow-origin"] == "*"
        await api.tokens.revoke(token.id)
        assert (await http.post("version", headers=headers)).status_code == 403
    with pytest.raises(NoSuchToken):
        await api.tokens.revoke(token.id)


async def test_a_token_ends_with_its_bucket(api: Api) -> None:
    objects = api.world.objects
    bucket = objects.bucket("photos")
    _, text = await api.tokens.create(bucket)
    assert api.tokens.bucket_of(text.encode()) == "photos"
    await objects.delete_bucket(bucket)
    await objects.create_bucket(bucket.owner, "photos")
    assert api.tokens.bucket_of(text.encode()) is None


async def test_the_catalog_holds_no_token(api: Api) -> None:
    _, text = await api.tokens.create(None)
    assert text.encode() not in repr(api.world.catalog.__dict__).encode()
    assert [token.bucket for token in api.tokens.all()] == [""]
    for word in ("", "zz", "00", "0123456789abcdef", "00" * 33):
        with pytest.raises(NoSuchToken):
            await api.tokens.revoke(word)


@given(st.binary(max_size=200))
def test_a_query_is_read_or_refused(query: bytes) -> None:
    try:
        arguments, options = parse_query(query)
    except BadCall:
        return
    assert all("\x00" not in text for text in (*arguments, *options.values()))


def test_a_query_has_bounds() -> None:
    for query in (b"arg=" + b"a" * 40_000, b"arg=a&" * 2_000, b"arg=%zz", b"arg=%ff", b"arg=%00"):
        with pytest.raises(BadCall):
            parse_query(query)
    assert parse_query(b"arg=a%20b+c&x&y=1&y=2") == (("a b c",), {"x": "", "y": "2"})
