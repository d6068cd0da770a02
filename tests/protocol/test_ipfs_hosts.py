"""Claims about hosts at the gateway: subdomains, DNSLink and proxies, on public fixtures."""

import pytest

from chain.cids import Cid
from gateway.ipfs.ipns import record
from gateway.ipfs.ipns.name import IpnsName, base36
from gateway.ipfs.sites.dnslink import DnsLinks
from tests.protocol.named_site import (
    CACHED,
    ED25519,
    GATEWAYS,
    HELLO_V1,
    LINKS,
    LISTING,
    RSA,
    SUBDOMAIN_ROOT,
    NamedSite,
)
from tests.unit.object_parts import FakeClock


@pytest.mark.parametrize("host", GATEWAYS)
async def test_paths_on_a_gateway_lead_to_the_contents_own_origin(
    known: NamedSite, host: str
) -> None:
    v0 = await known.at(SUBDOMAIN_ROOT, "hello-CIDv0")
    v1 = await known.at(SUBDOMAIN_ROOT, "hello-CIDv0to1")
    folder = await known.at(SUBDOMAIN_ROOT, "testdirlisting")
    folder_v1 = Cid(b"\x01\x70" + folder.multihash)
    assert (str(v0)[:2], str(v1)[0]) == ("Qm", "b")
    wiki, inlined = "en.wikipedia-on-ipfs.example.org", "en-wikipedia--on--ipfs-example-org"
    ed, rsa = IpnsName.parse(ED25519), IpnsName.parse(RSA)
    name = "Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt"
    for path, where in {
        f"/ipfs/{HELLO_V1}/": f"{HELLO_V1}.ipfs.{host}:8080/",
        f"/ipfs/{HELLO_V1}": f"{HELLO_V1}.ipfs.{host}:8080/",
        f"/ipfs/{folder}/": f"{folder_v1}.ipfs.{host}:8080/",
        f"/ipfs/{v0}/?x=y&z": f"{v1}.ipfs.{host}:8080/?x=y&z",
        f"/ipfs/{HELLO_V1}/{name}": f"{HELLO_V1}.ipfs.{host}:8080/{name}",
        f"/ipns/{ED25519}": f"{ed}.ipns.{host}:8080/",
        f"/ipns/{RSA}": f"{rsa}.ipns.{host}:8080/",
        f"/ipns/{base36(Cid(bytes([1, 0x70]) + rsa.multihash))}/a": f"{rsa}.ipns.{host}:8080/a",
        f"/ipns/{wiki}/wiki/": f"{inlined}.ipns.{host}:8080/wiki/",
    }.items():
        for scheme, headers in (("http", {}), ("https", {"X_Forwarded_Proto": "https"})):
            got = await known.at_host(host, path, **headers)
            assert (got.status_code, got.headers["location"]) == (301, f"{scheme}://{where}")
    # A proxy in front tells the true host.
    got = await known.at_host("fake.domain.com", f"/ipfs/{HELLO_V1}")
    assert got.status_code == 200
    got = await known.at_host("fake.domain.com", f"/ipfs/{v0}/", X_Forwarded_Host=host)
    assert got.headers["location"] == f"http://{v1}.ipfs.{host}/"


async def test_content_is_served_at_its_origin_and_nothing_else_is(known: NamedSite) -> None:
    folder = Cid(b"\x01\x70" + (await known.at(SUBDOMAIN_ROOT, "testdirlisting")).multihash)
    for root, path, status, said in (
        (f"{HELLO_V1}.ipfs", "/", 200, "hello"),
        (f"{HELLO_V1}.ipfs", f"/ipfs/{HELLO_V1}", 404, ""),
        (f"{folder}.ipfs", "/ipfs/file.txt", 200, "I am a txt file"),
        (f"{folder}.ipfs", "/ipfs/ipns/bar", 200, "text-file-content"),
        (f"{folder}.ipfs", "/", 200, "Index of"),
        (f"{IpnsName.parse(RSA)}.ipns", "/", 200, "hello"),
        (f"{IpnsName.parse(ED25519)}.ipns", "/", 200, "hello"),
        ("dnslink-test.example.org.ipns", "/", 200, "hello\n"),
        ("dnslink--test-example-org.ipns", "/", 200, "hello\n"),
        ("nothing-example-org.ipns", "/", 500, "nothing.example.org"),
    ):
        got = await known.at_host(f"{root}.example.com", path)
        assert (got.status_code, said in got.text) == (status, True), (root, path, got.text[:200])
    raw = await known.at_host(f"{HELLO_V1}.ipfs.localhost", "/?format=raw")
    assert (raw.content, raw.headers["etag"]) == (b"hello\n", f'"{HELLO_V1}.raw"')
    signed = await known.at_host(
        f"{IpnsName.parse(RSA)}.ipns.localhost", "/", Accept="application/vnd.ipfs.ipns-record"
    )
    assert record.verified(signed.content, IpnsName.parse(RSA)).value == f"/ipfs/{HELLO_V1}"
    other = base36(Cid(b"\x01\x70" + IpnsName.parse(RSA).multihash))
    got = await known.at_host(f"{other}.ipns.example.com", "/x?y")
    assert got.status_code == 301
    assert got.headers["location"] == f"http://{IpnsName.parse(RSA)}.ipns.example.com:8080/x?y"
    v0 = await known.at(SUBDOMAIN_ROOT, "hello-CIDv0")
    v1 = await known.at(SUBDOMAIN_ROOT, "hello-CIDv0to1")
    got = await known.at_host(f"{v0}.ipfs.example.com", "/")
    assert got.headers["location"] == f"http://{v1}.ipfs.example.com:8080/"


async def test_what_fits_no_label_and_what_is_no_cid_is_told_before_any_redirect(
    known: NamedSite,
) -> None:
    long = await known.at(SUBDOMAIN_ROOT, "hello-CIDv1_TOO_LONG")
    for host, path in (("example.com", f"/ipfs/{long}"), (f"{long}.ipfs.example.com", "/")):
        got = await known.at_host(host, path)
        assert got.status_code == 400
        assert "CID incompatible with DNS label length limit of 63" in got.text
    got = await known.at_host("example.com", "/ipfs/QmInvalidCID")
    assert got.status_code == 400
    assert 'invalid path "/ipfs/QmInvalidCID"' in got.text
    assert (await known.at_host("example.com", "/")).status_code == 404


async def test_urls_of_protocol_handlers_lead_to_content_paths(site: NamedSite) -> None:
    page = "QmXoypizjW3WknFiJnKLwHCnL72vedxjQkDDP1mXWo6uco/wiki/Diego_Maradona.html"
    for path, where in {
        f"/ipfs/?uri=ipfs%3A%2F%2F{page.replace('/', '%2F')}": f"/ipfs/{page}",
        "/ipns/?uri=ipns%3A%2F%2Fen.example.org": "/ipns/en.example.org",
        "/ipfs/?uri=ipfs%3A%2F%2FQmX/a%20b%3Fq=1%23f": "/ipfs/QmX/a%20b?q=1",
    }.items():
        for host in ("example.com", "elsewhere.org"):
            got = await site.at_host(host, path)
            assert (got.status_code, got.headers["location"]) == (301, where)
    got = await site.at_host("example.com", "/ipfs/?uri=http%3A%2F%2Fevil.example")
    assert got.status_code == 400
    got = await site.get(f"/ipfs/ipfs/{HELLO_V1}/x?y=z")
    assert (got.status_code, got.headers["location"]) == (301, f"/ipfs/{HELLO_V1}/x?y=z")


# ---------------------------------------------------------------- DNSLink
async def test_a_dnslink_name_is_a_website_on_its_own_host(known: NamedSite) -> None:
    for host, path, said in (
        ("dnslink-over-ipns.example.org", "/", "hello\n"),
        ("dnslink-test.example.org", "/", "hello\n"),
        ("dnslink-subpath.example.org", "/root3/root4/index.html", "hello\n"),
        ("DNSLINK-subpath.example.org", "/root3/root4/", "hello\n"),
    ):
        got = await known.at_host(host, path)
        assert (got.status_code, got.text) == (200, said)
        assert "immutable" not in got.headers.get("cache-control", "")
        assert got.headers["x-ipfs-path"] == f"/ipns/{host.lower()}{path}"
    moved = await known.at_host("dnslink-dir-listing.example.org", "/ą/ę")
    assert moved.status_code == 301
    assert moved.headers["location"].lower() == "/%c4%85/%c4%99/"
    listed = await known.at_host("dnslink-dir-listing.example.org", "/")
    assert "Index of" in listed.text
    assert '<a href="/">..</a>' not in listed.text


@pytest.mark.parametrize("host", GATEWAYS)
async def test_listings_on_a_subdomain_link_within_the_site_and_to_its_gateway(
    known: NamedSite, host: str
) -> None:
    at, gateway = f"{LISTING}.ipfs.{host}", f"//{host}:8080/ipfs"
    root = await known.at_host(at)
    assert "Index of" in root.text
    assert '<a href="/">..</a>' not in root.text
    moved = await known.at_host(at, "/ą/ę")
    assert (moved.status_code, moved.headers["location"]) == (301, "/%C4%85/%C4%99/")
    page = await known.at_host(at, "/ą/ę/")
    file = await known.at(LISTING, "ą", "ę", "file-źł.txt")
    assert page.headers["etag"].startswith('"DirIndex-')
    for part in (
        '<a href="/%C4%85/%C4%99/..">..</a>',
        f'/ipfs/<a href="{gateway}/{LISTING}">{LISTING}</a>/'
        f'<a href="{gateway}/{LISTING}/%C4%85">ą</a>/'
        f'<a href="{gateway}/{LISTING}/%C4%85/%C4%99">ę</a>',
        '<a href="/%C4%85/%C4%99/file-%C5%BA%C5%82.txt">file-źł.txt</a>',
        f'<a class="ipfs-hash" translate="no" '
        f'href="{gateway}/{file}?filename=file-%25C5%25BA%25C5%2582.txt">',
    ):
        assert part in page.text
    folder = Cid(b"\x01\x70" + (await known.at(SUBDOMAIN_ROOT, "testdirlisting")).multihash)
    listed = await known.at_host(f"{folder}.ipfs.{host}")
    for part in ('<a href="/hello">hello</a>', '<a href="/ipfs">ipfs</a>'):
        assert part in listed.text
    below = await known.at_host(f"{folder}.ipfs.{host}", "/ipfs/ipns/")
    for part in (
        '<a href="/ipfs/ipns/..">..</a>',
        '<a href="/ipfs/ipns/bar">bar</a>',
        f'/ipfs/<a href="{gateway}/{folder}">{folder}</a>/<a href="{gateway}/{folder}/ipfs">ipfs'
        f'</a>/<a href="{gateway}/{folder}/ipfs/ipns">ipns</a>',
    ):
        assert part in below.text


async def test_listings_on_a_dnslink_website_link_within_it_and_look_cids_up_elsewhere(
    known: NamedSite,
) -> None:
    host = "dnslink-dir-listing.example.org"
    page = await known.at_host(host, "/ą/ę/")
    file = await known.at(LISTING, "ą", "ę", "file-źł.txt")
    assert page.headers["etag"].startswith('"DirIndex-')
    for part in (
        '<a href="/%C4%85/%C4%99/..">..</a>',
        f'/ipns/<a href="//{host}:8080/">{host}</a>/<a href="//{host}:8080/%C4%85">ą</a>/'
        f'<a href="//{host}:8080/%C4%85/%C4%99">ę</a>',
        '<a href="/%C4%85/%C4%99/file-%C5%BA%C5%82.txt">file-źł.txt</a>',
        f'<a class="ipfs-hash" translate="no" href="https://cid.ipfs.tech/#{file}" '
        'target="_blank" rel="noreferrer noopener">',
    ):
        assert part in page.text


async def test_private_content_is_reached_by_no_host(known: NamedSite) -> None:
    await known.world.objects.configure_bucket("photos", publishes=False)
    for host, path in (
        ("gateway", f"/ipfs/{HELLO_V1}"),
        ("gateway", f"/ipns/{CACHED}/root2/root3/root4/index.html"),
        ("gateway", "/ipns/dnslink-test.example.org"),
        (f"{HELLO_V1}.ipfs.example.com", "/"),
        (f"{IpnsName.parse(RSA)}.ipns.localhost", "/"),
        ("dnslink--test-example-org.ipns.localhost", "/"),
        ("dnslink-test.example.org", "/"),
    ):
        got = await known.at_host(host, path)
        assert got.status_code == 404, (host, path)
        assert "hello\n" not in got.text


async def test_a_resolver_that_fails_stops_websites_and_not_the_path_gateway(
    known: NamedSite,
) -> None:
    async def fetch(_url: str) -> bytes:
        raise OSError("no route")

    known.names._links = DnsLinks(LINKS, FakeClock(), "https://dns.example/q", fetch)
    for host, path, status in (
        ("elsewhere.example", f"/ipfs/{HELLO_V1}", 200),
        ("elsewhere.example", "/", 502),
        ("dnslink-test.example.org", "/", 200),
        ("gateway", "/ipns/elsewhere.example", 502),
        ("127.0.0.1", "/", 404),
    ):
        got = await known.at_host(host, path)
        assert got.status_code == status, (host, path)
        assert status == 200 or got.headers["cache-control"] == "no-store"
