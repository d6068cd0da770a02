"""Claims about `/routing/v1` on the gateway, on public fixtures."""

import json
import random
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.ipfs.ipns import record
from gateway.ipfs.ipns.keys import generate, name_of
from gateway.ipfs.ipns.name import IpnsName
from gateway.ipfs.web.routing import Routing, multiaddr
from tests.protocol.named_site import (
    ED25519,
    HELLO_V1,
    YEAR,
    NamedSite,
)


@pytest.fixture
async def routed(known: NamedSite) -> AsyncIterator[httpx.AsyncClient]:
    peer = name_of(generate("ed25519", 0, random.Random(4).randbytes))
    app = Routing(known.app, known.index, known.records, known.names, peer, known.world.clock)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gw.example:8080") as http:
        yield http


async def test_the_gateway_is_the_provider_of_what_it_holds_and_of_nothing_else(
    routed: httpx.AsyncClient, known: NamedSite
) -> None:
    got = await routed.get(f"/routing/v1/providers/{HELLO_V1}")
    assert got.headers["content-type"] == "application/json"
    [provider] = got.json()["Providers"]
    assert provider["Addrs"] == ["/dns/gw.example/tcp/8080/http"]
    assert provider["Protocols"] == ["transport-ipfs-gateway-http"]
    assert provider["ID"].startswith("12D3Koo")
    lines = {"Accept": "application/x-ndjson"}
    got = await routed.get(f"/routing/v1/providers/{HELLO_V1}", headers=lines)
    assert [json.loads(line) for line in got.text.splitlines()] == [provider]
    for query in ("filter-protocols=transport-bitswap", "filter-addrs=tls", "filter-addrs=!http"):
        got = await routed.get(f"/routing/v1/providers/{HELLO_V1}?{query}")
        assert got.json() == {"Providers": []}
    got = await routed.get(f"/routing/v1/providers/{HELLO_V1}?filter-addrs=http,tls")
    assert got.json() == {"Providers": [provider]}
    missing = "bafkreidfdrlkeq4m4xnxuyx6iae76fdm4wgl5d4xzsb77ixhyqwumhz244"
    await known.world.objects.configure_bucket("photos", publishes=False)
    for path, kind in (
        (f"providers/{missing}", "Providers"),
        (f"providers/{HELLO_V1}", "Providers"),
        (f"peers/{ED25519}", "Peers"),
    ):
        got = await routed.get(f"/routing/v1/{path}")
        assert (got.status_code, got.json()) == (200, {kind: []})
        assert got.headers["cache-control"].startswith("public, max-age=15,")
    for path, status in (
        ("providers/x", 400), ("peers/x", 400), ("ipns/x", 400), ("other/x", 404), ("ipns/", 404),
    ):  # fmt: skip
        assert (await routed.get(f"/routing/v1/{path}")).status_code == status
    assert (await routed.put(f"/routing/v1/providers/{HELLO_V1}")).status_code == 405
    got = await routed.get(f"/routing/v1/providers/{HELLO_V1}", headers={"Accept": "image/png"})
    assert got.status_code == 406
    # On a website's own host it is one of its pages.
    got = await routed.get(
        f"/routing/v1/providers/{HELLO_V1}", headers={"Host": "dnslink-test.example.org"}
    )
    assert got.status_code == 404


async def test_records_are_had_by_name_and_put_only_by_who_holds_a_known_key(
    routed: httpx.AsyncClient, known: NamedSite
) -> None:
    kind = {"Content-Type": "application/vnd.ipfs.ipns-record"}
    key = generate("ed25519", 0, random.Random(5).randbytes)
    name, now = name_of(key), known.world.clock.now_ns()

    def signed(sequence: int) -> bytes:
        return record.make(key, f"/ipfs/{HELLO_V1}", sequence, now + YEAR, 10**9).raw

    where = f"/routing/v1/ipns/{name}"
    got = await routed.get(where)
    assert (got.status_code, got.headers["content-type"][:10]) == (200, "text/plain")
    assert (await routed.put(where, content=signed(1), headers=kind)).status_code == 403
    await known.records.put(name, signed(1))
    assert (await routed.put(where, content=signed(2), headers=kind)).status_code == 200
    got = await routed.get(where)
    assert got.content == signed(2)
    assert got.headers["content-type"] == kind["Content-Type"]
    assert got.headers["cache-control"].startswith("public, max-age=1, stale-while-revalidate=")
    again = await routed.get(where, headers={"If-None-Match": got.headers["etag"]})
    assert again.status_code == 304
    for body, headers, status in (
        (signed(1), kind, 400),
        (signed(3)[:-1], kind, 400),
        (bytes(10_241), kind, 400),
        (signed(3), {"Content-Type": "text/plain"}, 406),
    ):
        assert (await routed.put(where, content=body, headers=headers)).status_code == status
    other = f"/routing/v1/ipns/{IpnsName.parse(ED25519)}"
    assert (await routed.put(other, content=signed(9), headers=kind)).status_code == 400


@pytest.mark.parametrize(
    ("host", "scheme", "address"),
    [
        ("gw.example", "http", "/dns/gw.example/tcp/80/http"),
        ("GW.example:8443", "https", "/dns/gw.example/tcp/8443/https"),
        ("127.0.0.1:8080", "http", "/ip4/127.0.0.1/tcp/8080/http"),
        ("[::1]:8080", "http", "/ip6/::1/tcp/8080/http"),
        ("[::1]", "https", "/ip6/::1/tcp/443/https"),
        ("a b", "http", ""),
        ("a:0", "http", ""),
        ("a:b", "http", ""),
        ("", "http", ""),
        ("a/tcp/1", "http", ""),
    ],
)
def test_a_host_is_an_address_that_others_can_dial(host: str, scheme: str, address: str) -> None:
    assert multiaddr(host, scheme) == address
