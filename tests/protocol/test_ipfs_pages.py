"""Claims about what the gateway makes of directories and blocks: pages, and tars."""

import asyncio
import hashlib
import io
import re
import tarfile
from collections.abc import AsyncIterator
from functools import cache

import httpx
import pytest

from chain.cids import DAG_CBOR, DAG_JSON, RAW, SHA2_256, Cid
from gateway.ipfs.codecs import cbor, dagpb, directory, unixfs
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.codecs.unixfs import Data, Kind
from gateway.ipfs.index.blocks import BlockIndex, File, Inline, Known, Leaf
from gateway.ipfs.web.sending import Message
from tests.protocol.ipfs_site import IpfsSite

Block = tuple[Cid, bytes]
Found = File | Inline | Leaf | None
LISTED = "bafybeig6ka5mlwkl4subqhaiatalkcleo4jgnr3hqwvpmsqfca27cijp3i"
INSIDE = "bafybeibfevfxlvxp5vxobr5oapczpf7resxnleb7tkqmdorc4gl5cdva3y"
OUTSIDE = "bafybeicaj7kvxpcv4neaqzwhrqqmdstu4dhrwfpknrgebq6nzcecfucvyu"
LINKED = "QmWvY6FaqFMS89YAQ9NAPjVP4WZKA1qbHbicc9HeSKQTgt"
TEXT = b"I am a txt file on path with utf8\n"
CYRILLIC = "test%D1%82%D0%B5%D1%81%D1%82"
GENERATED = "public, max-age=604800, stale-while-revalidate=2678400"


def raw(data: bytes) -> Block:
    return Cid.of(RAW, SHA2_256, hashlib.sha256(data).digest()), data


def node(links: list[Link], message: Data) -> Block:
    data = dagpb.encode(links, unixfs.encode(message))
    return dagpb.cid_of(data), data


def folder(*links: Link) -> Block:
    return node(list(links), Data(Kind.DIRECTORY))


@pytest.fixture
async def site() -> AsyncIterator[IpfsSite]:
    site = await IpfsSite.start()
    yield site
    await site.stop()


# ---------------------------------------------------------------------- listings
async def test_a_directory_is_listed_where_its_path_ends_with_a_slash(site: IpfsSite) -> None:
    await site.hold("dir_listing/fixtures.car")
    root = await site.get(f"/ipfs/{LISTED}/")
    assert "Index of" in root.text
    assert f'<a href="/ipfs/{LISTED}/">..</a>' not in root.text
    assert ">..</a>" not in root.text
    moved = await site.get(f"/ipfs/{LISTED}/ą/ę")
    assert moved.status_code == 301
    assert moved.headers["location"] == f"/ipfs/{LISTED}/%C4%85/%C4%99/"
    page = await site.get(f"/ipfs/{LISTED}/ą/ę/")
    file = await site.at(LISTED, "ą", "ę", "file-źł.txt")
    assert page.headers["etag"].startswith('"DirIndex-')
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == GENERATED
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for part in (
        "Index of",
        f'/ipfs/<a href="/ipfs/{LISTED}">{LISTED}</a>/<a href="/ipfs/{LISTED}/%C4%85">ą</a>/'
        f'<a href="/ipfs/{LISTED}/%C4%85/%C4%99">ę</a>',
        f'<a href="/ipfs/{LISTED}/%C4%85/%C4%99/..">..</a>',
        f'<a href="/ipfs/{LISTED}/%C4%85/%C4%99/file-%C5%BA%C5%82.txt">file-źł.txt</a>',
        f'<a class="ipfs-hash" translate="no" href="/ipfs/{file}'
        '?filename=file-%25C5%25BA%25C5%2582.txt">',
    ):
        assert part in page.text
    for known in (page.headers["etag"], f'"{page.headers["x-ipfs-roots"].split(",")[-1]}"', "*"):
        got = await site.get(f"/ipfs/{LISTED}/ą/ę/", If_None_Match=known)
        assert (got.status_code, got.content) == (304, b"")
    head = await site.get(f"/ipfs/{LISTED}/ą/ę/", "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == page.headers["etag"]


@cache
def big_directory(count: int, more: str = "") -> tuple[list[Block], Cid]:
    target = raw(b"x")[0]
    names = [f"file number {number:05} of the whole{more}" for number in range(count)]
    links = [Link(target, name, 1) for name in names]
    built = directory.build(links)
    return list(built.blocks), built.root


def names(page: httpx.Response) -> list[str]:
    return re.findall(r">(file number \d+ of the whole)[^<]*</a>", page.text)


async def pages(site: IpfsSite, root: Cid) -> list[httpx.Response]:
    found, place = [], ""
    while True:
        found.append(await site.get(f"/ipfs/{root}/{place}"))
        onward = re.search(r'rel="next" href="(\?from=[0-9A-F]+)"', found[-1].text)
        if onward is None:
            return found
        place = onward[1]


async def test_a_large_directory_is_sorted_while_it_fits_one_page(site: IpfsSite) -> None:
    blocks, root = big_directory(1900, "!" * 100)
    assert len(blocks) > 1
    await site.put(blocks[::-1])
    [page] = await pages(site, root)
    assert names(page) == [f"file number {number:05} of the whole" for number in range(1900)]


async def test_pages_of_a_larger_directory_show_each_entry_once(site: IpfsSite) -> None:
    blocks, root = big_directory(5000)
    await site.put(blocks[::-1])
    found = await pages(site, root)
    assert len(found) == 5
    shown = [name for page in found for name in names(page)]
    assert sorted(shown) == [f"file number {number:05} of the whole" for number in range(5000)]
    # Any place is good, also one where nothing is; what is none is refused.
    assert len(names(await site.get(f"/ipfs/{root}/?from=8"))) == 1000
    assert names(await site.get(f"/ipfs/{root}/?from=FFFFFFFFFFFFFFFF")) == []
    assert (await site.get(f"/ipfs/{root}/?from=ff")).status_code == 400
    assert (await site.get(f"/ipfs/{root}/?from={'F' * 65}")).status_code in (200, 400)


async def test_a_page_of_a_large_directory_reads_only_its_own_blocks(
    site: IpfsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks, root = big_directory(5000)
    await site.put(blocks[::-1])
    read = []
    find = BlockIndex.find

    def counted(index: BlockIndex, cid: Cid, known: Known | None = None) -> Found:
        read.append(cid)
        return find(index, cid, known)

    monkeypatch.setattr(BlockIndex, "find", counted)
    for place in ("", "?from=80", "?from=F7"):
        read.clear()
        assert len(names(await site.get(f"/ipfs/{root}/{place}"))) > 100
        assert 5 < len(read) < len(blocks) / 2


async def test_a_hamt_that_has_a_shard_twice_is_refused(site: IpfsSite) -> None:
    inner = node([Link(raw(b"x")[0], "00a", 1)], Data(Kind.SHARD, b"\x01", None, (), 0x22, 256))
    twice = [Link(inner[0], "00", 1), Link(inner[0], "01", 1)]
    outer = node(twice, Data(Kind.SHARD, b"\x03", None, (), 0x22, 256))
    await site.put([outer, inner])
    assert (await site.get(f"/ipfs/{outer[0]}/")).status_code == 406


# ---------------------------------------------------------------------- blocks as pages
@pytest.mark.parametrize(
    ("kind", "root"),
    [
        ("json", "baguqeeram5ujjqrwheyaty3w5gdsmoz6vittchvhk723jjqxk7hakxkd47xq"),
        ("cbor", "bafyreibs4utpgbn7uqegmd2goqz4bkyflre2ek2iwv743fhvylwi4zeeim"),
    ],
)
async def test_browsers_get_a_page_of_a_block(site: IpfsSite, kind: str, root: str) -> None:
    await site.hold(f"path_gateway_dag/dag-{kind}-traversal.car")
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    for accept in ("text/html", browser):
        page = await site.get(f"/ipfs/{root}/", Accept=accept)
        assert page.status_code == 200
        assert page.headers["etag"] == f'"DagIndex-{page.headers["etag"].split("-", 1)[1]}'
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == GENERATED
        assert "content-disposition" not in page.headers
        assert page.headers["vary"] == "Accept"
        assert (await site.get(f"/ipfs/{root}/")).headers["vary"] == "Accept"
        assert "</html>" in page.text
        for shown in ("foo", "link", "banana", "monkey", f"?format=dag-{kind}", "?format=raw"):
            assert shown in page.text
    moved = await site.get(f"/ipfs/{root}?a=b", Accept="text/html")
    assert (moved.status_code, moved.headers["location"]) == (301, f"/ipfs/{root}/?a=b")
    same = await site.get(f"/ipfs/{root}/", Accept="text/html", If_None_Match=page.headers["etag"])
    assert same.status_code == 304
    # A format, or a download, is the block.
    for query in (f"?format=dag-{kind}", "?download=true"):
        got = await site.get(f"/ipfs/{root}/{query}", Accept="text/html")
        assert got.headers["content-type"] == f"application/vnd.ipld.dag-{kind}"
    assert (await site.get(f"/ipfs/{root}/foo/", Accept="text/html")).status_code == 501


async def test_plain_json_is_shown_by_the_browser_itself(site: IpfsSite) -> None:
    await site.hold("path_gateway_dag/plain-json.car")
    root = "bagaaierajjsnhsxqlgfrvknlt7z2heoljcgfv37cn45tu7mhmr23x3ekiboq"
    got = await site.get(f"/ipfs/{root}", Accept="text/html")
    assert got.headers["content-type"] == "application/json"


@pytest.mark.parametrize("codec", [DAG_CBOR, DAG_JSON])
async def test_what_is_in_a_block_cannot_become_markup(site: IpfsSite, codec: int) -> None:
    attack = "</dd><script>alert(1)</script>"
    data = cbor.encode({attack: attack}) if codec == DAG_CBOR else attack.encode()
    cid = Cid.of(codec, SHA2_256, hashlib.sha256(data).digest())
    await site.put([(cid, data)])
    page = await site.get(f"/ipfs/{cid}/", Accept="text/html")
    assert "<script" not in page.text


# ---------------------------------------------------------------------- tars
def opened(got: httpx.Response) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(got.content), mode="r:", errors="surrogateescape")


def content_of(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


async def test_a_file_and_a_directory_are_had_as_a_tar(site: IpfsSite) -> None:
    await site.hold("path_gateway_tar/fixtures.car")
    file = str(await site.at(LISTED, "ą", "ę", "file-źł.txt"))
    for query, accept in (("?format=tar", "*/*"), ("", "application/x-tar")):
        got = await site.get(f"/ipfs/{file}{query}", Accept=accept)
        assert got.status_code == 200
        assert got.headers["content-type"] == "application/x-tar"
        assert got.headers["content-disposition"].startswith(f'attachment; filename="{file}.tar"')
        assert got.headers["etag"] == f'W/"{file}.x-tar"'
        assert got.headers["x-content-type-options"] == "nosniff"
        assert content_of(opened(got), file) == TEXT
    whole = await site.get(f"/ipfs/{LISTED}?format=tar")
    assert content_of(opened(whole), f"{LISTED}/ą/ę/file-źł.txt") == TEXT
    assert whole.content == (await site.get(f"/ipfs/{LISTED}?format=tar")).content
    below = await site.get(f"/ipfs/{LISTED}/ą?format=tar")
    top = await site.at(LISTED, "ą")
    assert opened(below).getnames() == [f"{top}", f"{top}/ę", f"{top}/ę/file-źł.txt"]
    named = await site.get(f"/ipfs/{LISTED}?filename={CYRILLIC}.tar&format=tar")
    assert named.headers["content-disposition"] == (
        f"attachment; filename=\"test____.tar\"; filename*=UTF-8''{CYRILLIC}.tar"
    )
    same = await site.get(f"/ipfs/{LISTED}?format=tar", If_None_Match=f'W/"{LISTED}.x-tar"')
    assert same.status_code == 304
    assert (await site.get(f"/ipfs/{LISTED}?format=tar", "HEAD")).content == b""


async def test_names_may_climb_within_a_tar_but_not_out_of_it(site: IpfsSite) -> None:
    await site.hold("path_gateway_tar/inside-root.car", "path_gateway_tar/outside-root.car")
    inside = opened(await site.get(f"/ipfs/{INSIDE}?format=tar"))
    assert f"{INSIDE}/foobar/file" in inside.getnames()
    outside = await site.get(f"/ipfs/{OUTSIDE}?format=tar")
    assert outside.status_code == 406
    assert "relative UnixFS paths outside the root are not allowed, use CAR instead" in outside.text


async def test_links_times_and_modes_are_in_a_tar(site: IpfsSite) -> None:
    link = node([], Data(Kind.SYMLINK, b"../f", mtime=(99, 0)))
    file = node([], Data(Kind.FILE, b"inline", 6, mode=0o600, mtime=(1234, 500_000_000)))
    root = node(
        [Link(file[0], "f", 1), Link(link[0], "l", 1)],
        Data(Kind.DIRECTORY, mode=0o2775, mtime=(77, 0)),
    )
    await site.put([root, link, file])
    archive = opened(await site.get(f"/ipfs/{root[0]}?format=tar"))
    top, first, second = archive.getmembers()
    assert (top.isdir(), top.mode, top.mtime) == (True, 0o2775, 77)
    assert (first.isreg(), first.mode, first.mtime) == (True, 0o600, 1234.5)
    assert content_of(archive, first.name) == b"inline"
    assert (second.issym(), second.linkname, second.mtime) == (True, "../f", 99)


async def test_a_tar_leads_through_no_link_that_it_brings(site: IpfsSite) -> None:
    link, file = node([], Data(Kind.SYMLINK, b"/etc")), raw(b"root::0:0")
    root = folder(Link(link[0], "a", 1), Link(file[0], "a/passwd", 1))
    await site.put([root, link, file])
    assert (await site.get(f"/ipfs/{root[0]}?format=tar")).status_code == 406


async def test_a_tar_that_lacks_a_block_is_no_tar(site: IpfsSite) -> None:
    small, missing = raw(b"x"), raw(b"not here")
    soon = folder(Link(small[0], "a", 1), Link(missing[0], "b", 1))
    large = raw(bytes(100_000))
    late = folder(Link(large[0], "a", 1), Link(missing[0], "b", 1))
    await site.put([soon, late, small, large])
    assert (await site.get(f"/ipfs/{soon[0]}?format=tar")).status_code == 404
    # The status is sent by then: the response is broken off, without its last chunk.
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/ipfs/{late[0]}",
        "raw_path": f"/ipfs/{late[0]}".encode(),
        "query_string": b"format=tar",
        "headers": [],
    }
    await site.app(scope, receive, send)
    start, *parts = sent
    assert start["status"] == 200
    assert parts
    assert all(part["more_body"] for part in parts)


async def test_a_tar_has_all_of_a_large_directory(site: IpfsSite) -> None:
    blocks, root = big_directory(1900, "!" * 100)
    await site.put([raw(b"x"), *blocks])
    names = opened(await site.get(f"/ipfs/{root}?format=tar")).getnames()
    assert sorted(names) == sorted(
        [str(root), *(f"{root}/file number {n:05} of the whole{'!' * 100}" for n in range(1900))]
    )


async def test_data_that_is_no_unixfs_has_no_tar(site: IpfsSite) -> None:
    data = cbor.encode([1])
    block = (Cid.of(DAG_CBOR, SHA2_256, hashlib.sha256(data).digest()), data)
    root = folder(Link(block[0], "a", 1))
    await site.put([root, block])
    for cid in (block[0], root[0]):
        assert (await site.get(f"/ipfs/{cid}?format=tar")).status_code == 406


# ---------------------------------------------------------------------- errors
async def test_browsers_get_a_page_of_what_went_wrong_and_programs_a_sentence(
    site: IpfsSite,
) -> None:
    missing = raw(b"not here")[0]
    for path, status in (
        (f"/ipfs/{missing}", 404),
        ("/ipfs/<b>", 400),
        (f"/ipfs/{missing}?format=x", 406),
    ):
        text = await site.get(path)
        assert (text.status_code, text.headers["content-type"]) == (
            status,
            "text/plain; charset=utf-8",
        )
        page = await site.get(path, Accept="text/html,*/*;q=0.8")
        assert page.status_code == status
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert f"<strong>{status} " in page.text
        assert "<b>" not in page.text
        head = await site.get(path, "HEAD", Accept="text/html")
        assert head.headers["content-length"] == str(len(page.content))
