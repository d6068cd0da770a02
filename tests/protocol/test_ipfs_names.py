"""Claims about names on the gateway: IPNS, DNSLink, subdomains and proxies, on public fixtures."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest

from chain.cids import Cid
from gateway.ipfs.directories import Directories
from gateway.ipfs.ipns import record
from gateway.ipfs.ipns.keys import generate, name_of
from gateway.ipfs.ipns.name import IpnsName, base36
from gateway.ipfs.ipns.record import InvalidRecord
from gateway.ipfs.ipns.store import IpnsRecords
from gateway.ipfs.names import Names
from gateway.ipfs.publish import IpfsPublisher
from gateway.ipfs.routing import Routing, multiaddr
from gateway.ipfs.sites.dnslink import DnsLinks
from gateway.model import Attributes
from tests.protocol.ipfs_site import FIXTURES, IpfsSite, fixture
from tests.unit.ipfs_jobs import settle
from tests.unit.object_parts import FakeClock, World, stream

SUBDOMAINS = "subdomain_gateway"
CACHED = "k51qzi5uqu5dlxdsdu5fpuu7h69wu4ohp32iwm9pdt9nq3y5rpn3ln9j12zfhe"
WITH_PATH = "k51qzi5uqu5djokp3m1keo36hoxtd6u3a1d2rg1camf6al7p3huy63dojlm57c"
ED25519 = "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d"
RSA = "QmVujd5Vb7moysJj8itnGufN7MEtPRCNHkKpNuA4onsRa3"
SUBDOMAIN_ROOT = "QmYiPNLU7Hc739sqcBH5DgVmk5mKTQVzKSqvJJeNGWTgrE"
CACHE_ROOT = "bafybeib3ffl2teiqdncv3mkz4r23b5ctrwkzrrhctdbne6iboayxuxk5ui"
LISTING = "bafybeig6ka5mlwkl4subqhaiatalkcleo4jgnr3hqwvpmsqfca27cijp3i"
HELLO_V1 = "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am"
LINKS = {
    "dnslink-dir-listing.example.org": f"/ipfs/{LISTING}",
    "dnslink-over-ipns.example.org": f"/ipns/{ED25519}",
    "dnslink-subpath.example.org": f"/ipfs/{CACHE_ROOT}/root2",
    "dnslink-test.example.org": f"/ipfs/{HELLO_V1}",
    "en.wikipedia-on-ipfs.example.org": f"/ipfs/{CACHE_ROOT}",
    "deep.example.org": "/ipfs/bafkqaaa" + "/x" * 600,
    "round.example.org": "/ipns/and-round.example.org",
    "and-round.example.org": "/ipns/round.example.org",
}
GATEWAYS = ("example.com", "localhost")
YEAR = 365 * 86400 * 10**9


class NamedSite(IpfsSite):
    """A gateway with names."""

    def __init__(self, world: World) -> None:
        self.records = IpnsRecords(world.catalog, world.clock)
        self.names = Names(self.records, DnsLinks(LINKS, FakeClock()), GATEWAYS, world.clock)
        super().__init__(world, self.names)

    async def hold_records(self, folder: str) -> None:
        """Keep the records of a folder of the fixtures."""
        for path in sorted((FIXTURES / folder).glob("*.ipns-record")):
            name = IpnsName.parse(path.name.split(".")[0].split("_")[0])
            await self.records.put(name, path.read_bytes())

    async def put_object(self, key: str, data: bytes) -> None:
        await self.world.objects.put(self.bucket, key, stream(data), Attributes())

    async def root(self) -> Cid:
        """The directory of the whole bucket."""
        await settle(self.world)
        directories = Directories(self.world.catalog, self.world.clock)
        return directories.root(self.bucket)

    async def at_host(self, host: str, path: str = "/", **headers: str) -> httpx.Response:
        """A GET of a path on this host, with a port."""
        return await self.get(path, Host=f"{host}:8080", **headers)


@pytest.fixture
async def site() -> AsyncIterator[NamedSite]:
    site = NamedSite(await World(publisher=IpfsPublisher()).start())
    await site.world.objects.configure_bucket("photos", publishes=True)
    yield site
    await site.stop()


@pytest.fixture
async def known(site: NamedSite) -> NamedSite:
    """With the fixtures of subdomains, caches and listings."""
    await site.hold(f"{SUBDOMAINS}/fixtures.car", "gateway-cache/fixtures.car")
    await site.hold("dir_listing/fixtures.car")
    await site.hold_records(SUBDOMAINS)
    await site.hold_records("gateway-cache")
    return site


# ---------------------------------------------------------------- records
async def test_records_that_their_key_did_not_sign_by_v2_are_refused_and_their_names_are_5xx(
    site: NamedSite,
) -> None:
    fixture(
        "ipns_records/k51qzi5uqu5dit2ku9mutlfgwyz8u730on38kd10m97m36bjt66my99hb6103f_v2.ipns-record"
    )
    answers = {}
    for path in sorted((FIXTURES / "ipns_records").glob("*.ipns-record")):
        text, _, kind = path.stem.partition("_")
        with suppress(InvalidRecord):
            await site.records.put(IpnsName.parse(text), path.read_bytes())
        got = await site.get(f"/ipns/{text}")
        answers[kind] = (got.status_code, got.text if got.status_code == 200 else "")
    assert answers == {
        "v1": (500, ""),
        "v1-v2-broken-v1-value": (500, ""),
        "v1-v2-broken-signature-v2": (500, ""),
        "v1-v2-broken-signature-v1": (200, "v1+v2 with broken signature v1"),
        "v1-v2": (200, "v1+v2 record"),
        "v2": (200, "v2-only record"),
    }


async def test_a_name_is_served_as_its_record_says_and_cached_for_its_ttl_not_for_ever(
    known: NamedSite,
) -> None:
    roots = [
        await known.at(CACHE_ROOT, *path)
        for path in ((), ("root2",), ("root2", "root3"), ("root2", "root3", "root4"))
    ]
    page = await known.at(CACHE_ROOT, "root2", "root3", "root4", "index.html")
    paths = {
        "root2/root3/root4/index.html": f'"{page}"',
        "root2/root3/root4/": f'"{roots[3]}"',
    }
    for path, tag in paths.items():
        got = await known.get(f"/ipns/{CACHED}/{path}")
        assert (got.status_code, got.content) == (200, b"hello\n")
        assert got.headers["x-ipfs-path"] == f"/ipns/{CACHED}/{path}"
        assert got.headers["ipfs-uri"] == f"ipns://{CACHED}/{path}"
        wanted = [*roots, page] if path.endswith("l") else roots
        assert got.headers["x-ipfs-roots"] == ",".join(map(str, wanted))
        assert "immutable" not in got.headers["cache-control"]
        assert int(got.headers["cache-control"].removeprefix("public, max-age=")) > 10**9
        assert got.headers["etag"] == tag
        again = await known.get(f"/ipns/{CACHED}/{path}", If_None_Match=tag)
        assert again.status_code == 304
    listed = await known.get(f"/ipns/{CACHED}/root2/root3/")
    assert listed.status_code == 200
    assert "immutable" not in listed.headers.get("cache-control", "")
    assert f"_CID-{roots[2]}" in listed.headers["etag"]


async def test_a_record_may_lead_below_a_root(known: NamedSite) -> None:
    listed = await known.get(f"/ipns/{WITH_PATH}/")
    assert "Index of" in listed.text
    assert "root3" in listed.text
    got = await known.get(f"/ipns/{WITH_PATH}/root3/root4/index.html")
    assert (got.status_code, got.content) == (200, b"hello\n")


async def test_other_spellings_of_a_key_lead_to_the_canonical_one(known: NamedSite) -> None:
    for old, new in (
        (
            "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK",
            "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8",
        ),
        (
            "QmcJM7PRfkSbcM5cf1QugM5R37TLRKyJGgBEhXjLTB8uA2",
            "k2k4r8ol4m8kkcqz509c1rcjwunebj02gcnm5excpx842u736nja8ger",
        ),
    ):
        got = await known.get(f"/ipns/{old}/root2/?a=b")
        assert (got.status_code, got.headers["location"]) == (302, f"/ipns/{new}/root2/?a=b")
    base32 = str(IpnsName.parse(ED25519).cid)
    assert (await known.get(f"/ipns/{base32}")).content == b"hello\n"


async def test_the_record_itself_is_served_and_verifies(known: NamedSite) -> None:
    name = IpnsName.parse(CACHED)
    for path, accept in (
        (f"/ipns/{CACHED}?format=ipns-record", "*/*"),
        (f"/ipns/{CACHED}", "application/vnd.ipfs.ipns-record"),
    ):
        got = await known.get(path, Accept=accept)
        assert got.status_code == 200
        assert got.headers["content-type"] == "application/vnd.ipfs.ipns-record"
        assert got.headers["content-disposition"].startswith("attachment; ")
        assert f"{CACHED}.ipns-record" in got.headers["content-disposition"]
        assert got.headers["x-content-type-options"] == "nosniff"
        kept = record.verified(got.content, name)
        assert kept.value == f"/ipfs/{CACHE_ROOT}"
        seconds = int(got.headers["cache-control"].removeprefix("public, max-age="))
        assert seconds == kept.cache_seconds(known.world.clock.now_ns())
        again = await known.get(path, Accept=accept, If_None_Match=got.headers["etag"])
        assert again.status_code == 304
    head = await known.get(f"/ipns/{CACHED}?format=ipns-record", "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))
    file = "test\u0442\u0435\u0441\u0442.ipns-record"
    named = await known.get(f"/ipns/{CACHED}?format=ipns-record&filename={file}")
    assert named.headers["content-disposition"] == (
        'attachment; filename="test____.ipns-record"; '
        "filename*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.ipns-record"
    )


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/ipns/{CACHED}/root2?format=ipns-record", 400),
        ("/ipns/dnslink-test.example.org?format=ipns-record", 400),
        (f"/ipfs/{HELLO_V1}?format=ipns-record", 400),
        ("/ipns/k2k4r8ol4m8kkcqz509c1rcjwunebj02gcnm5excpx842u736nja8ger?format=ipns-record", 404),
        ("/ipns/k2k4r8ol4m8kkcqz509c1rcjwunebj02gcnm5excpx842u736nja8ger", 500),
        ("/ipns/nothing.example.org", 500),
        ("/ipns/round.example.org", 500),
        ("/ipns/deep.example.org", 500),
        ("/ipns/no%20name", 400),
        ("/ipns/", 400),
    ],
)
async def test_names_that_lead_nowhere_are_errors_of_their_kind(
    site: NamedSite, path: str, status: int
) -> None:
    got = await site.get(path)
    assert got.status_code == status
    assert "max-age" not in got.headers.get("cache-control", "")
    if status in (404, 500):
        cached = await site.get(path, Cache_Control="only-if-cached")
        assert cached.status_code == 412


async def test_only_a_newer_record_replaces_one_and_a_dead_one_is_nothing(site: NamedSite) -> None:
    key = generate("ed25519", 0, random.Random(3).randbytes)
    name, now = name_of(key), site.world.clock.now_ns()

    def signed(target: str, sequence: int, eol_ns: int) -> bytes:
        path = f"/ipfs/{Cid.of(0x55, 0, target.encode())}"
        return record.make(key, path, sequence, eol_ns, 60 * 10**9).raw

    first, second = signed("one", 1, now + YEAR), signed("two", 2, now + YEAR)
    await site.records.put(name, second)
    for old in (first, signed("two", 2, now + YEAR // 2)):
        with pytest.raises(Exception, match=str(name)):
            await site.records.put(name, old)
    assert (await site.get(f"/ipns/{name}")).text == "two"
    longer = signed("two", 2, now + 2 * YEAR)
    puts = (site.records.put(name, longer), site.records.put(name, longer))
    async with asyncio.TaskGroup() as group:
        for put in puts:
            group.create_task(put)
    kept = site.records.get(name)
    assert kept is not None
    assert kept.raw == longer
    got = await site.get(f"/ipns/{name}")
    assert got.headers["cache-control"] == "public, max-age=60"
    with pytest.raises(InvalidRecord, match="expired"):
        await site.records.put(name, signed("late", 9, now))
    site.world.clock.ns += 3 * YEAR
    assert (await site.get(f"/ipns/{name}")).status_code == 500


# ---------------------------------------------------------------- subdomains
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


@pytest.mark.parametrize(
    ("kind", "root", "name"),
    [
        (
            "json",
            "baguqeeram5ujjqrwheyaty3w5gdsmoz6vittchvhk723jjqxk7hakxkd47xq",
            "k51qzi5uqu5dhjghbwdvbo6mi40htrq6e2z4pwgp15pgv3ho1azvidttzh8yy2",
        ),
        (
            "cbor",
            "bafyreibs4utpgbn7uqegmd2goqz4bkyflre2ek2iwv743fhvylwi4zeeim",
            "k51qzi5uqu5dghjous0agrwavl8vzl64xckoqzwqeqwudfr74kfd11zcyk3b7l",
        ),
    ],
)
async def test_ipld_data_under_a_name_is_that_under_its_cid_but_for_caches(
    site: NamedSite, kind: str, root: str, name: str
) -> None:
    await site.hold(f"path_gateway_dag/dag-{kind}-traversal.car")
    await site.hold_records("path_gateway_dag")
    for query in ("", f"?format=dag-{kind}", "/foo/link/bar"):
        named, fixed = [await site.get(f"{p}{query}") for p in (f"/ipns/{name}", f"/ipfs/{root}")]
        assert (named.status_code, named.content) == (200, fixed.content)
        assert "immutable" not in named.headers.get("cache-control", "")
    media = f"application/vnd.ipld.dag-{kind}"
    got = await site.get(f"/ipns/{name}", Accept=media)
    assert got.headers["content-type"] == media
    assert got.headers["etag"] == f'"{root}.dag-{kind}"'
    assert got.headers["x-ipfs-path"] == f"/ipns/{name}"
    assert got.headers["x-ipfs-roots"] == root
    page = await site.get(f"/ipns/{name}/", Accept="text/html")
    assert "DagIndex-" in page.headers["etag"]
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "content-disposition" not in page.headers
    assert page.headers.get("cache-control", "public, max-age=").startswith("public, max-age=")
    assert "</html>" in page.text


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


# ---------------------------------------------------------------- _redirects
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


# ---------------------------------------------------------------- /routing/v1
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
