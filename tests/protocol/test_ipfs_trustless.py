"""Claims about blocks and CARs of other makers' data, on the public fixtures."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from chain.cids import IDENTITY, Cid
from gateway.ipfs.codecs import dagpb
from gateway.ipfs.codecs.car import CarReader
from gateway.ipfs.codecs.links import links
from tests.protocol.ipfs_site import FIXTURES, IpfsSite, fixture

pytestmark = pytest.mark.asyncio(loop_scope="module")

TWO_FILES = "bafybeietjm63oynimmv5yyqay33nui4y4wx6u3peezwetxgiwvfmelutzu"
MIXED = "bafybeidh6k2vzukelqtrjsmd4p52cpmltd2ufqrdtdg6yigi73in672fwu"
HAMT = "bafybeidbclfqleg2uojchspzd4bob56dqetqjsj27gy2cq3klkkgxtpn4i"
CBOR_DIR = "bafybeia264q44a3kmfc2otctzu4egp2k235o3t7mslz2yjraymp4nv6asi"
DUPLICATES = "bafybeihchr7vmgjaasntayyatmp5sv6xza57iy2h4xj7g46bpjij6yhrmy"
MISSING = "QmYhmPjhFjYFyaoiuNzYv8WGavpSRDwdHWe5B4M5du5Rtk"
BLOCKS = "bafybeie72edlprgtlwwctzljf6gkn2wnlrddqjbkxo3jomh4n7omwblxly"
# What the recipes of the fixtures name.
FIRST_KIB = "QmPKt7ptM2ZYSGPUc8PmPT2VBkLDK3iqpG9TBJY7PCE9rF"
THIRD_KIB = "QmWXY482zQdwecnfBsj78poUUuPXvyw2JAFAEMw4tzTavV"
CHUNKS = [
    "bafkreie5noke3mb7hqxukzcy73nl23k6lxszxi5w3dtmuwz62wnvkpsscm",
    "bafkreih4ephajybraj6wnxsbwjwa77fukurtpl7oj7t7pfq545duhot7cq",
    "bafkreigu7buvm3cfunb35766dn7tmqyh2um62zcio63en2btvxuybgcpue",
    "bafkreicll3huefkc3qnrzeony7zcfo7cr3nbx64hnxrqzsixpceg332fhe",
    "bafkreifst3pqztuvj57lycamoi7z34b4emf7gawxs74nwrc2c7jncmpaqm",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[IpfsSite]:
    fixture("PROVISION.txt")
    site = await IpfsSite.start()
    await site.hold(*(str(x.relative_to(FIXTURES)) for x in sorted(FIXTURES.rglob("*.car"))))
    yield site
    await site.stop()


def blocks_of(got: httpx.Response) -> list[str]:
    """The CIDs of a CAR, in order; each block is checked."""
    assert got.status_code == 200, got.text
    assert got.headers["content-type"].startswith("application/vnd.ipld.car; version=1")
    reader = CarReader()
    found = [str(cid) for cid, _ in reader.feed(got.content)]
    reader.finish()
    return found


async def car(site: IpfsSite, path: str, **query: str) -> list[str]:
    """By the query and by the Accept header: the same blocks."""
    options = "&".join(f"{name.replace('_', '-')}={value}" for name, value in query.items())
    by_query = blocks_of(await site.get(f"{path}?format=car&{options}"))
    accept = "application/vnd.ipld.car"
    assert blocks_of(await site.get(f"{path}?{options}", Accept=accept)) == by_query
    return by_query


async def below(site: IpfsSite, cid: Cid) -> list[str]:
    """All blocks below a CID, depth first, each once."""
    found: dict[str, None] = {}
    waiting = [cid]
    while waiting:
        at = waiting.pop()
        if str(at) in found:
            continue
        found[str(at)] = None
        if at.hash_code != IDENTITY:
            waiting += reversed(links(at, await site.raw(at)))
    return list(found)[1:]


async def test_a_car_of_a_path_has_the_blocks_of_the_path_and_all_below(site: IpfsSite) -> None:
    subdir = await site.at(TWO_FILES, "subdir")
    file = await site.at(TWO_FILES, "subdir", "ascii.txt")
    expected = [TWO_FILES, str(subdir), str(file)]
    assert await car(site, f"/ipfs/{TWO_FILES}/subdir/ascii.txt") == expected
    assert (await site.get(f"/ipfs/{TWO_FILES}/subdir/none?format=car")).status_code == 404


async def test_a_car_through_a_hamt_has_only_the_shards_on_the_way(site: IpfsSite) -> None:
    whole = await car(site, f"/ipfs/{HAMT}", dag_scope="entity")
    for name in ("685.txt", "1.txt"):
        all_below = await car(site, f"/ipfs/{HAMT}/{name}")
        one = await car(site, f"/ipfs/{HAMT}/{name}", dag_scope="block")
        assert one[0] == HAMT
        shards, file = one[:-1], one[-1]
        assert set(shards) <= set(whole)
        assert len(shards) < 5
        assert all_below == [*one, *await below(site, Cid.parse(file))]


async def test_a_car_through_dag_cbor_has_the_document_and_the_file(site: IpfsSite) -> None:
    document = await site.at(CBOR_DIR, "document")
    file = (await car(site, f"/ipfs/{document}/files/single"))[-1]
    assert await car(site, f"/ipfs/{document}/files/single") == [str(document), file]
    entity = await car(site, f"/ipfs/{CBOR_DIR}/document", dag_scope="entity")
    assert entity == [CBOR_DIR, str(document)]


async def test_scope_block_has_one_block_at_the_end_of_the_path(site: IpfsSite) -> None:
    subdir = str(await site.at(TWO_FILES, "subdir"))
    file = str(await site.at(TWO_FILES, "subdir", "ascii.txt"))
    at = f"/ipfs/{TWO_FILES}/subdir"
    assert await car(site, at, dag_scope="block") == [TWO_FILES, subdir]
    assert await car(site, f"{at}/ascii.txt", dag_scope="block") == [TWO_FILES, subdir, file]


async def test_scope_entity_has_a_directory_without_its_children(site: IpfsSite) -> None:
    assert await car(site, f"/ipfs/{TWO_FILES}", dag_scope="entity") == [TWO_FILES]
    shards = await car(site, f"/ipfs/{HAMT}", dag_scope="entity")
    assert await car(site, f"/ipfs/{HAMT}", dag_scope="entity", entity_bytes="0:*") == shards
    assert len(shards) == len(set(shards)) > 100
    assert all(Cid.parse(cid).codec == 0x70 for cid in shards)


async def test_scopes_entity_and_all_have_a_file_with_all_its_blocks(site: IpfsSite) -> None:
    subdir = await site.at(MIXED, "subdir")
    ascii_file = str(await site.at(MIXED, "subdir", "ascii.txt"))
    file = await site.at(MIXED, "subdir", "multiblock.txt")
    at = f"/ipfs/{MIXED}/subdir"
    way = [MIXED, str(subdir)]
    assert await car(site, f"{at}/ascii.txt", dag_scope="entity") == [*way, ascii_file]
    chunked = [*way, str(file), *CHUNKS]
    for scope in ("entity", "all"):
        assert await car(site, f"{at}/multiblock.txt", dag_scope=scope) == chunked
    assert await car(site, at, dag_scope="all") == [*way, *await below(site, subdir)]


@pytest.mark.parametrize(
    ("span", "chunks"),
    [
        ("0:*", [0, 1, 2, 3, 4]),
        ("512:*", [2, 3, 4]),
        ("512:1023", [2, 3]),
        ("512:-256", [2, 3]),
        ("-5:*", [3, 4]),
        ("-9999:*", [0, 1, 2, 3, 4]),
        ("-9999:-3", [0, 1, 2, 3]),
        ("0:0", [0]),
        ("1025:1025", [4]),
        ("5000:*", []),
    ],
)
async def test_entity_bytes_choose_the_fewest_blocks(
    site: IpfsSite, span: str, chunks: list[int]
) -> None:
    file = await site.at(MIXED, "subdir", "multiblock.txt")
    found = await car(site, f"/ipfs/{file}", dag_scope="entity", entity_bytes=span)
    assert found == [str(file), *(CHUNKS[i] for i in chunks)]


async def test_a_block_that_is_missing_outside_the_range_is_not_needed(site: IpfsSite) -> None:
    at = f"/ipfs/{MISSING}"
    assert await car(site, at, dag_scope="entity", entity_bytes="0:1000") == [MISSING, FIRST_KIB]
    assert await car(site, at, dag_scope="entity", entity_bytes="2200:*") == [MISSING, THIRD_KIB]
    for span, where in (("bytes=997-1000", "997-1000"), ("bytes=2200-2201", "2200-2201")):
        got = await site.get(at, Range=span)
        assert got.status_code == 206
        assert got.headers["content-range"] == f"bytes {where}/3072"
        assert len(got.content) == int(got.headers["content-length"])


async def test_duplicates_are_written_where_they_are_asked_for(site: IpfsSite) -> None:
    names = [link.name for link in dagpb.decode(await site.raw(Cid.parse(DUPLICATES))).links]
    files = [str(await site.at(DUPLICATES, name)) for name in names]
    for dups in ("y", "n"):
        accept = f"application/vnd.ipld.car; version=1; order=dfs; dups={dups}"
        expected = [DUPLICATES]
        for name, file in zip(names, files, strict=True):
            expected += [file, *(CHUNKS if name == "multiblock.txt" else [])]
        if dups == "n":
            expected = list(dict.fromkeys(expected))
        for query in ("", "?format=car"):
            got = await site.get(f"/ipfs/{DUPLICATES}{query}", Accept=accept)
            assert blocks_of(got) == expected
            assert f"order=dfs; dups={dups}" in got.headers["content-type"]
    unknown = await site.get(f"/ipfs/{DUPLICATES}", Accept="application/vnd.ipld.car; order=unk")
    assert "order=" in unknown.headers["content-type"]
    assert set(blocks_of(unknown)) == set(expected)


async def test_an_identity_cid_is_no_block_of_a_car(site: IpfsSite) -> None:
    got = await site.get(
        "/ipfs/bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa",
        Accept="application/vnd.ipld.car; dups=y",
    )
    assert blocks_of(got) == []


async def test_headers_of_a_car(site: IpfsSite) -> None:
    at = f"/ipfs/{TWO_FILES}/subdir"
    got = await site.get(f"{at}?dag-scope=block", Accept="application/vnd.ipld.car;dups=y")
    assert got.headers["content-disposition"].startswith(
        f'attachment; filename="{TWO_FILES}_subdir.car"'
    )
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["accept-ranges"] == "none"
    assert got.headers["cache-control"] == "public, max-age=29030400, immutable"
    assert got.headers["content-location"] == f"{at}?dag-scope=block&format=car&car-dups=y"
    tag = got.headers["etag"]
    assert tag.startswith('W/"')
    accept = {"Accept": "application/vnd.ipld.car;dups=y"}
    again = await site.get(f"{at}?dag-scope=block", If_None_Match=tag, **accept)
    assert again.status_code == 304
    other = await site.get(f"{at}?dag-scope=entity", If_None_Match=tag, **accept)
    assert other.status_code == 200
    named = await site.get(f"{at}?format=car&filename=mine.car")
    assert 'filename="mine.car"' in named.headers["content-disposition"]
    assert "content-location" not in named.headers


@pytest.mark.parametrize(
    "query",
    [
        "dag-scope=some", "entity-bytes=a:b", "entity-bytes=5", "entity-bytes=9:3",
        "entity-bytes=-3:-9", "car-version=2", "car-order=bfs", "car-dups=maybe",
    ],
)  # fmt: skip
async def test_parameters_that_mean_nothing_are_refused(site: IpfsSite, query: str) -> None:
    assert (await site.get(f"/ipfs/{TWO_FILES}?format=car&{query}")).status_code == 400


async def test_raw_blocks_come_as_they_are_with_their_headers(site: IpfsSite) -> None:
    folder, file = await site.at(BLOCKS, "dir"), await site.at(BLOCKS, "dir", "ascii.txt")
    accept = "application/vnd.ipld.raw"
    for got in (
        await site.get(f"/ipfs/{BLOCKS}/dir?format=raw"),
        await site.get(f"/ipfs/{folder}", Accept=accept),
    ):
        assert got.content == await site.raw(folder)
        assert got.headers["content-type"] == accept
    part = await site.get(f"/ipfs/{BLOCKS}/dir", Accept=accept, Range="bytes=6-16")
    assert (part.status_code, part.headers["content-range"]) == (206, "bytes 6-16/57")
    assert part.content == (await site.raw(folder))[6:17]
    got = await site.get(f"/ipfs/{BLOCKS}/dir/ascii.txt?filename=foobar.bin", Accept=accept)
    assert got.content == await site.raw(file)
    assert got.headers["content-length"] == str(len(got.content))
    assert got.headers["content-disposition"].startswith('attachment; filename="foobar.bin"')
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["etag"] == f'"{file}.raw"'
    assert got.headers["x-ipfs-path"] == f"/ipfs/{BLOCKS}/dir/ascii.txt"
    assert got.headers["x-ipfs-roots"] == f"{BLOCKS},{folder},{file}"
    assert got.headers["cache-control"] == "public, max-age=29030400, immutable"
    several = await site.get(f"/ipfs/{file}", Accept=accept, Range="bytes=6-16,0-4")
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges")
    assert b"Content-Type: application/vnd.ipld.raw\r\n" in several.content


async def test_any_block_of_the_fixtures_is_served_raw_and_as_a_car(site: IpfsSite) -> None:
    for name in ("path_gateway_dag/plain-cbor.car", "path_gateway_dag/gateway-json-cbor.car"):
        reader = CarReader()
        for cid, block in reader.feed(fixture(name).read_bytes()):
            assert (await site.get(f"/ipfs/{cid}?format=raw")).content == block
            got = await site.get(f"/ipfs/{cid}?format=car&dag-scope=block")
            assert blocks_of(got) == [str(cid)]


async def test_the_cid_of_another_codec_names_the_same_block(site: IpfsSite) -> None:
    cid = Cid.parse(TWO_FILES)
    as_raw = Cid.of(0x55, cid.hash_code, cid.digest)
    got = await site.get(f"/ipfs/{as_raw}?format=raw")
    assert got.content == await site.raw(cid)
    strange = Cid.of(0x300000, cid.hash_code, cid.digest)
    assert (await site.get(f"/ipfs/{strange}?format=raw")).content == got.content
    assert blocks_of(await site.get(f"/ipfs/{strange}?format=car")) == [str(strange)]
    assert (await site.get(f"/ipfs/{strange}")).status_code == 406
