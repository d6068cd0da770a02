"""Claims about names on the gateway: IPNS records and where they lead, on public fixtures."""

import asyncio
import random
from contextlib import suppress

import pytest

from chain.cids import Cid
from gateway.ipfs.ipns import record
from gateway.ipfs.ipns.keys import generate, name_of
from gateway.ipfs.ipns.name import IpnsName
from gateway.ipfs.ipns.record import InvalidRecord
from tests.protocol.ipfs_site import FIXTURES, fixture
from tests.protocol.named_site import (
    CACHE_ROOT,
    CACHED,
    ED25519,
    HELLO_V1,
    WITH_PATH,
    YEAR,
    NamedSite,
)


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
