"""Claims about websites' `_redirects` on the gateway, on public fixtures."""

import pytest

from chain.cids import Cid
from gateway.ipfs.sites.dnslink import DnsLinks
from tests.protocol.named_site import GATEWAYS, NamedSite
from tests.unit.object_parts import FakeClock


@pytest.fixture
async def websites(site: NamedSite) -> NamedSite:
    await site.hold("redirects_file/redirects.car", "redirects_file/redirects-spa.car")
    return site


REDIRECTS = "QmQyqMY5vUBSbSxyitJqthgwZunCQjDVtNd8ggVCxzuPQ4"
SPA = "bafybeib5lboymwd6p2eo4qb2lkueaine577flvsjjeuevmp2nlio72xv5q"


async def _v1(site: NamedSite, folder: str) -> str:
    return str(Cid(b"\x01\x70" + (await site.at(REDIRECTS, folder)).multihash))


@pytest.mark.parametrize("host", GATEWAYS)
async def test_redirects_files_are_followed_on_origins_of_their_own(
    websites: NamedSite, host: str
) -> None:
    root = await _v1(websites, "examples")
    base = f"{root}.ipfs.{host}"
    for path, status, where in (
        ("/redirect-one", 301, "/one.html"),
        ("/301-redirect-one", 301, "/one.html"),
        ("/302-redirect-two?a=b", 302, "/two.html?a=b"),
        ("/posts/2022/01/01/hello-world", 301, "/articles/2022/01/01/hello-world"),
        ("/splat/one.html", 301, "/redirected-splat/one.html"),
        ("/splat/%c3%a9/%0d%0aX:%20y", 301, "/redirected-splat/%C3%A9/%0D%0AX%3A%20y"),
    ):
        got = await websites.at_host(base, path)
        assert (got.status_code, got.headers["location"]) == (status, where)
    for path, status, page in (
        ("/200-index", 200, "index.html"),
        ("/catch-all", 200, "index.html"),
        ("/not-found/has-no-redirects-entry", 404, "404.html"),
        ("/gone/has-no-redirects-entry", 410, "410.html"),
        ("/unavail/has-no-redirects-entry", 451, "451.html"),
    ):
        got = await websites.at_host(base, path, Range="bytes=0-1")
        cid = await websites.at(REDIRECTS, "examples", page)
        assert got.status_code == (206 if status == 200 else status)
        assert got.headers["cache-control"] == "public, max-age=29030400, immutable"
        assert got.headers["etag"] == f'"{cid}"'
        if status != 200:
            assert got.content == await websites.raw(cid) or b"my 4" in got.content
            assert got.headers["content-type"].startswith("text/html")
    # A path gateway is no origin of one website: rules do not apply there.
    got = await websites.get(f"/ipfs/{root}/redirect-one")
    assert got.status_code == 404


async def test_redirects_files_that_cannot_be_used_are_told_only_where_they_are_needed(
    websites: NamedSite,
) -> None:
    for folder, path, status, said in (
        ("forced", "/not-found", 500, 'forced redirects (or "shadowing") are not supported'),
        ("too-large", "/not-found", 500, "redirects file size cannot exceed"),
        ("bad-codes", "/not-found", 500, "could not parse _redirects:"),
        ("bad-codes", "/found.html", 200, "my found"),
        ("newlines", "/redirect-one", 301, ""),
        ("good-codes", "/a301", 301, ""),
    ):
        got = await websites.at_host(f"{await _v1(websites, folder)}.ipfs.localhost", path)
        assert (got.status_code, said in got.text) == (status, True), (folder, got.text)
        if status == 500:
            assert "could not parse _redirects:" in got.text


async def test_redirects_apply_on_dnslink_hosts_and_what_they_give_is_not_for_ever(
    websites: NamedSite,
) -> None:
    folder = await websites.at(REDIRECTS, "examples")
    links = {"site.example.org": f"/ipfs/{folder}", "spa.example.org": f"/ipfs/{SPA}"}
    websites.names._links = DnsLinks(links, FakeClock())
    got = await websites.at_host("site.example.org", "/redirect-one")
    assert (got.status_code, got.headers["location"]) == (301, "/one.html")
    got = await websites.at_host("site.example.org", "/not-found/has-no-redirects-entry")
    assert got.status_code == 404
    assert "my 404" in got.text
    assert got.headers["etag"] == '"Qmd9GD7Bauh6N2ZLfNnYS3b7QVAijbud83b8GE8LPMNBBP"'
    assert "immutable" not in got.headers.get("cache-control", "")
    got = await websites.at_host("spa.example.org", "/any/route/of/it")
    assert got.status_code == 200
    assert got.headers["content-type"].startswith("text/html")


async def test_an_ipfs_404_page_stands_for_what_is_not_there_in_browsers(site: NamedSite) -> None:
    for key in ("index.html", "ipfs-404.html", "deep/ipfs-404.html"):
        await site.put_object(key, f"page {key}".encode())
    root = await site.root()
    for path, accept, said in (
        ("/nope", "text/html,*/*", "page ipfs-404.html"),
        ("/deep/down/nope", "text/html", "page deep/ipfs-404.html"),
        ("/nope", "image/png", ""),
    ):
        got = await site.at_host(f"{root}.ipfs.localhost", path, Accept=accept)
        assert got.status_code == 404
        assert said in got.text
        assert ("page" in got.text) == bool(said)
