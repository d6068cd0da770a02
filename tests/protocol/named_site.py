"""A gateway with names in memory, for claims on public fixtures."""

import httpx

from chain.cids import Cid
from gateway.ipfs.index.directories import Directories
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.ipfs.ipns.name import IpnsName
from gateway.ipfs.ipns.store import IpnsRecords
from gateway.ipfs.names import Names
from gateway.ipfs.sites.dnslink import DnsLinks
from gateway.model import Attributes
from tests.protocol.ipfs_site import FIXTURES, IpfsSite
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

    @classmethod
    async def begun(cls) -> "NamedSite":
        """An empty public bucket behind it."""
        site = cls(await World(publisher=IpfsPublisher()).start())
        await site.world.objects.configure_bucket("photos", publishes=True)
        return site

    async def hold_known(self) -> None:
        """Hold the fixtures of subdomains, caches and listings, and their records."""
        await self.hold(f"{SUBDOMAINS}/fixtures.car", "gateway-cache/fixtures.car")
        await self.hold("dir_listing/fixtures.car")
        await self.hold_records(SUBDOMAINS)
        await self.hold_records("gateway-cache")
