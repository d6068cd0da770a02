"""Claims about the IPFS path gateway, over the real object service in memory."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import cast

import httpx
import pytest

from chain.cids import Cid
from chain.net.transport import Buffer
from gateway.catalog.interface import Space
from gateway.errors import SlowDown
from gateway.ipfs.codecs import dagpb
from gateway.ipfs.codecs.car import CarReader
from gateway.ipfs.index.directories import Directories
from gateway.ipfs.index.indexer import Indexer
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.ipfs.web.app import IpfsApp
from gateway.ipfs.web.sending import Message
from gateway.ipfs.web.serving import IpfsConfig
from gateway.model import Attributes, ObjectVersion
from gateway.objects import ObjectService
from tests.unit.object_parts import FakeClock, World, stream

MIB = 1 << 20
HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
LARGE = random.Random(5).randbytes(3 * MIB + 12345)


class Site:
    """A published bucket behind the gateway."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.directories = Directories(world.catalog, world.clock)
        self.indexer = Indexer(world.objects, world.catalog, world.clock)
        self.app = IpfsApp(world.objects, world.catalog, IpfsConfig(), FakeClock())
        transport = httpx.ASGITransport(self.app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def put(
        self, key: str, data: bytes, content_type: str = "binary/octet-stream"
    ) -> ObjectVersion:
        bucket = self.world.objects.bucket("photos")
        attributes = Attributes(content_type=content_type)
        return await self.world.objects.put(bucket, key, stream(data), attributes)

    async def root(self, prefix: str = "") -> Cid:
        """The directory's CID, once it is current."""
        while await self.indexer.step():
            pass
        while await self.directories.step():
            pass
        return self.directories.root(self.world.objects.bucket("photos"), prefix)

    async def publish(self, on: bool) -> None:
        await self.world.objects.configure_bucket("photos", publishes=on)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.get(path, headers=names)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    world = await World(publisher=IpfsPublisher()).start()
    site = Site(world)
    await site.publish(True)
    yield site
    await site.http.aclose()
    world.objects.close()


async def test_a_file_is_served_by_its_cid_with_the_headers_of_the_specification(
    site: Site,
) -> None:
    version = await site.put("hello.txt", b"hello world", "text/plain")
    assert version.cid == HELLO
    got = await site.get(f"/ipfs/{HELLO}")
    assert (got.status_code, got.content) == (200, b"hello world")
    assert got.headers["etag"] == f'"{HELLO}"'
    assert got.headers["cache-control"] == "public, max-age=29030400, immutable"
    assert got.headers["x-ipfs-path"] == f"/ipfs/{HELLO}"
    assert got.headers["x-ipfs-roots"] == HELLO
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["access-control-allow-origin"] == "*"
    head = await site.http.head(f"/ipfs/{HELLO}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == "11"
    again = await site.get(f"/ipfs/{HELLO}", If_None_Match=f'W/"{HELLO}"')
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("header", "status", "start", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=1048570-1048585", 206, 1048570, 1048586),
        ("bytes=-10", 206, len(LARGE) - 10, len(LARGE)),
        ("bytes=3000000-", 206, 3000000, len(LARGE)),
        ("bytes=0-99999999", 206, 0, len(LARGE)),
        ("bytes=9-5", 200, 0, len(LARGE)),
        ("lines=1-2", 200, 0, len(LARGE)),
    ],
)
async def test_ranges_of_a_large_file(
    site: Site, header: str, status: int, start: int, end: int
) -> None:
    cid = (await site.put("large.bin", LARGE)).cid
    got = await site.get(f"/ipfs/{cid}", Range=header)
    assert got.status_code == status
    assert got.content == LARGE[start:end]
    assert got.headers["content-length"] == str(end - start)
    if status == 206:
        assert got.headers["content-range"] == f"bytes {start}-{end - 1}/{len(LARGE)}"


async def test_a_range_behind_the_end_is_416(site: Site) -> None:
    await site.put("h", b"hello world")
    got = await site.get(f"/ipfs/{HELLO}", Range="bytes=11-")
    assert got.status_code == 416
    assert got.headers["content-range"] == "bytes */11"


async def test_every_block_of_a_file_is_served_raw_and_hashes_to_its_cid(site: Site) -> None:
    cid = Cid.parse((await site.put("large.bin", LARGE)).cid or "")
    got = await site.get(f"/ipfs/{cid}?format=raw")
    assert got.headers["content-type"] == "application/vnd.ipld.raw"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["etag"] == f'"{cid}.raw"'
    assert cid.matches(got.content)
    leaves = dagpb.decode(got.content).links
    assert len(leaves) == 4
    joined = b""
    for link in leaves:
        leaf = await site.get(f"/ipfs/{link.cid}", Accept="application/vnd.ipld.raw")
        assert link.cid.matches(leaf.content)
        assert leaf.headers["content-location"].endswith("format=raw")
        joined += leaf.content
    assert joined == LARGE


async def test_a_bucket_is_a_directory_with_a_listing_and_paths(site: Site) -> None:
    await site.put("docs/a b.txt", b"spaced")
    await site.put("docs/<x>.html", b"<b>x</b>")
    await site.put("docs//empty", b"left out")
    await site.put("large.bin", LARGE)
    root = await site.root()
    redirect = await site.get(f"/ipfs/{root}/docs?a=b")
    assert redirect.status_code == 301
    assert redirect.headers["location"] == f"/ipfs/{root}/docs/?a=b"
    page = await site.get(f"/ipfs/{root}/docs/")
    assert page.status_code == 200
    assert "Index of" in page.text
    assert '<a class="ipfs-hash" translate="no" href="/ipfs/baf' in page.text
    assert f'href="/ipfs/{root}/docs/a%20b.txt"' in page.text
    assert "<x>" not in page.text
    assert "&lt;x&gt;.html" in page.text
    assert page.headers["etag"].startswith('"DirIndex-')
    assert page.headers["x-ipfs-roots"].split(",")[0] == str(root)
    again = await site.get(f"/ipfs/{root}/docs/", If_None_Match=page.headers["etag"])
    assert again.status_code == 304
    file = await site.get(f"/ipfs/{root}/docs/a%20b.txt")
    assert file.content == b"spaced"
    assert file.headers["x-ipfs-path"] == f"/ipfs/{root}/docs/a b.txt"
    assert file.headers["ipfs-uri"] == f"ipfs://{root}/docs/a%20b.txt"
    assert (await site.get(f"/ipfs/{root}/docs/none")).status_code == 404
    assert (await site.get(f"/ipfs/{root}/large.bin/under")).status_code == 404
    prefix = await site.root("docs")
    assert (await site.get(f"/ipfs/{prefix}/a%20b.txt")).content == b"spaced"


async def test_a_listing_reads_no_child(site: Site) -> None:
    await site.put("large.bin", LARGE)
    root = await site.root()
    site.world.pool.reads.clear()
    assert (await site.get(f"/ipfs/{root}/")).status_code == 200
    assert site.world.pool.reads == []


async def test_a_listing_goes_on_on_another_page(site: Site) -> None:
    for number in range(7):
        await site.put(f"n{number}", b"x")
    root = await site.root()
    app = IpfsApp(
        site.world.objects, site.world.catalog, IpfsConfig(listing_entries_max=5), FakeClock()
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://gateway"
    ) as http:
        page = await http.get(f"/ipfs/{root}/")
        assert page.text.count('class="ipfs-hash" translate="no" href') == 5
        assert 'href="?from=5"' in page.text
        rest = await http.get(f"/ipfs/{root}/?from=5")
        assert rest.text.count('class="ipfs-hash" translate="no" href') == 2
        assert "Next page" not in rest.text
        for place in ("x", "-1", "1" * 30, "3F"):
            assert (await http.get(f"/ipfs/{root}/?from={place}")).status_code == 400


async def test_index_html_stands_for_its_directory(site: Site) -> None:
    await site.put("index.html", b"<h1>home</h1>")
    root = await site.root()
    got = await site.get(f"/ipfs/{root}/")
    assert got.content == b"<h1>home</h1>"
    assert got.headers["content-type"] == "text/html; charset=utf-8"


async def test_a_large_directory_is_a_hamt_that_resolves_and_lists(site: Site) -> None:
    names = [f"{i:04d}-{'n' * 200}.txt" for i in range(1100)]
    for name in names:
        await site.put(name, name[:4].encode())
    root = await site.root()
    for name in (names[0], names[77], names[-1]):
        assert (await site.get(f"/ipfs/{root}/{name}")).text == name[:4]
    assert (await site.get(f"/ipfs/{root}/absent")).status_code == 404
    page = await site.get(f"/ipfs/{root}/")
    assert all(name in page.text for name in names)
    roots, blocks = await car(site, f"/ipfs/{root}?format=car&dag-scope=entity")
    assert roots == (root,)
    assert len(blocks) > 100
    assert all(cid.codec == 0x70 for cid, _ in blocks)


async def car(site: Site, path: str) -> tuple[tuple[Cid, ...] | None, list[tuple[Cid, bytes]]]:
    got = await site.get(path)
    assert got.status_code == 200, got.text
    reader = CarReader()
    blocks = list(reader.feed(got.content))
    reader.finish()
    return reader.roots, blocks


async def test_a_car_holds_the_whole_file_once_depth_first(site: Site) -> None:
    twice = LARGE[:MIB] * 2 + LARGE
    cid = Cid.parse((await site.put("twice.bin", twice)).cid or "")
    roots, blocks = await car(site, f"/ipfs/{cid}?format=car")
    assert roots == (cid,)
    order = [link.cid for link in dagpb.decode(blocks[0][1]).links]
    assert [c for c, _ in blocks] == [cid, *dict.fromkeys(order)]
    held = dict(blocks)
    assert b"".join(held[c] for c in order) == twice
    _, repeated = await car(site, f"/ipfs/{cid}?format=car&car-dups=y")
    assert [c for c, _ in repeated] == [cid, *order]


async def test_a_car_of_a_path_brings_the_blocks_that_lead_there(site: Site) -> None:
    await site.put("a/b/hello.txt", b"hello world")
    await site.put("a/other", b"other")
    root = await site.root()
    roots, blocks = await car(site, f"/ipfs/{root}/a/b/hello.txt?format=car")
    assert [str(c) for c in roots or ()] == [HELLO]
    assert len(blocks) == 4
    assert blocks[0][0] == root
    assert blocks[-1] == (Cid.parse(HELLO), b"hello world")
    _, everything = await car(site, f"/ipfs/{root}?format=car")
    assert len(everything) == 5
    _, block = await car(site, f"/ipfs/{root}/a?format=car&dag-scope=block")
    assert len(block) == 2


async def test_entity_bytes_bring_only_the_leaves_in_range(site: Site) -> None:
    cid = (await site.put("large.bin", LARGE)).cid
    for span, leaves in (
        ("0:0", [0]),
        ("1048576:2097152", [1, 2]),
        ("-5:*", [3]),
        ("0:-1", [0, 1, 2, 3]),
    ):
        _, blocks = await car(site, f"/ipfs/{cid}?format=car&entity-bytes={span}")
        links = dagpb.decode(blocks[0][1]).links
        assert [c for c, _ in blocks[1:]] == [links[i].cid for i in leaves]


async def test_nothing_of_a_private_bucket_is_served(site: Site) -> None:
    cid = Cid.parse((await site.put("large.bin", LARGE)).cid or "")
    root = await site.root()
    node = (await site.get(f"/ipfs/{cid}?format=raw")).content
    await site.publish(False)
    leaves = [link.cid for link in dagpb.decode(node).links]
    for hidden in (root, cid, *leaves):
        for form in ("", "?format=raw", "?format=car"):
            assert (await site.get(f"/ipfs/{hidden}{form}")).status_code == 404


async def test_removing_one_holder_of_a_block_leaves_the_others(site: Site) -> None:
    await site.put("one", LARGE)
    cid = (await site.put("two", LARGE)).cid
    bucket = site.world.objects.bucket("photos")
    await site.world.objects.delete(bucket, "one")
    assert (await site.get(f"/ipfs/{cid}")).content == LARGE
    await site.world.objects.delete(bucket, "two")
    assert (await site.get(f"/ipfs/{cid}")).status_code == 404


async def test_a_deleted_object_leaves_no_row_behind(site: Site) -> None:
    await site.put("one", LARGE)
    await site.put("one", b"replaced")
    await site.world.objects.delete(site.world.objects.bucket("photos"), "one")
    assert site.world.rows(Space.BLOCKS) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ipfs/notacid", 400),
        ("/ipfs/", 400),
        ("/ipfs/bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5f", 400),
        ("/ipfs/%zz", 400),
        (f"/ipfs/{HELLO}/%ff", 400),
        ("/ipfs/bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354", 404),
        (f"/ipfs/{HELLO}?format=zip", 406),
        (f"/ipfs/{HELLO}?format=car&dag-scope=some", 400),
        (f"/ipfs/{HELLO}?format=car&entity-bytes=x", 400),
        (f"/ipfs/{HELLO}?format=car&car-version=2", 400),
        ("/ipns/name", 501),
        ("/", 404),
        ("/other", 404),
        ("/ipfs/" + "a/" * 300, 400),
    ],
)
async def test_what_cannot_be_served_has_its_status_and_a_sentence(
    site: Site, path: str, status: int
) -> None:
    await site.put("hello", b"hello world")
    got = await site.get(path)
    assert got.status_code == status
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert got.text.strip()


async def test_methods_probes_and_cache_only_requests(site: Site) -> None:
    await site.put("hello", b"hello world")
    posted = await site.http.post(f"/ipfs/{HELLO}", content=b"x")
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert (await site.http.options(f"/ipfs/{HELLO}")).status_code == 200
    probe = await site.get("/ipfs/bafkqaaa")
    assert (probe.status_code, probe.content) == (200, b"")
    assert (await site.get(f"/ipfs/{HELLO}", Cache_Control="only-if-cached")).status_code == 200
    strange = "/ipfs/bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    assert (await site.get(strange, Cache_Control="only-if-cached")).status_code == 412
    assert (await site.get(f"/ipfs/{HELLO}", Service_Worker="script")).status_code == 400


async def test_names_for_saving_are_safe_in_a_header(site: Site) -> None:
    await site.put("hello", b"hello world")
    got = await site.get(f"/ipfs/{HELLO}?filename=%C3%A4%22%0d%0a.pdf&download=true")
    assert got.headers["content-disposition"] == (
        "attachment; filename=\"____.pdf\"; filename*=UTF-8''%C3%A4%22%0D%0A.pdf"
    )
    assert got.headers["content-type"] == "application/pdf"
    inline = await site.get(f"/ipfs/{HELLO}?filename=a.png")
    assert inline.headers["content-disposition"].startswith("inline; ")


async def test_the_query_beats_accept_and_an_unserved_type_is_406(site: Site) -> None:
    await site.put("hello", b"hello world")
    got = await site.get(f"/ipfs/{HELLO}?format=raw", Accept="application/vnd.ipld.car")
    assert got.headers["content-type"] == "application/vnd.ipld.raw"
    assert "content-location" not in got.headers
    chosen = await site.get(
        f"/ipfs/{HELLO}", Accept="application/vnd.ipld.car; order=dfs; dups=y; version=1"
    )
    assert chosen.headers["content-type"].endswith("dups=y")
    refused = await site.get(f"/ipfs/{HELLO}", Accept="application/vnd.ipld.dag-json")
    assert refused.status_code == 406


async def test_a_storage_failure_before_the_first_byte_is_503(site: Site) -> None:
    cid = (await site.put("large.bin", LARGE)).cid
    site.world.pool.segments.clear()
    got = await site.get(f"/ipfs/{cid}")
    assert got.status_code == 503
    assert got.headers["retry-after"] == "1"


async def test_a_car_that_cannot_be_finished_is_broken_off(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    cid = (await site.put("large.bin", LARGE)).cid
    read = ObjectService.read

    async def breaks(
        self: ObjectService, version: ObjectVersion, start: int = 0, end: int | None = None
    ) -> AsyncIterator[Buffer]:
        async for part in read(self, version, start, min(cast("int", end), start + MIB)):
            yield part
        raise SlowDown

    monkeypatch.setattr(ObjectService, "read", breaks)
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {}

    async def send(message: Message) -> None:
        sent.append(dict(message))

    scope = {
        "type": "http", "method": "GET", "path": f"/ipfs/{cid}", "query_string": b"format=car",
        "raw_path": f"/ipfs/{cid}".encode(), "headers": [],
    }  # fmt: skip
    await site.app(scope, receive, send)
    assert sent[0]["status"] == 200
    assert len(sent) > 1
    assert all(message["more_body"] for message in sent[1:])


async def test_reading_stops_when_the_client_goes(site: Site) -> None:
    cid = (await site.put("large.bin", LARGE)).cid
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(dict(message))

    scope = {
        "type": "http", "method": "GET", "path": f"/ipfs/{cid}", "query_string": b"",
        "raw_path": f"/ipfs/{cid}".encode(), "headers": [],
    }  # fmt: skip
    await site.app(scope, receive, send)
    assert sum(len(m.get("body", b"")) for m in sent) < len(LARGE)
