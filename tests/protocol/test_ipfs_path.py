"""Claims about files and directories of other makers on the path gateway, on public fixtures."""

import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio

from chain.cids import Cid
from tests.protocol.ipfs_site import FIXTURES, IpfsSite, fixture

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTING = "bafybeig6ka5mlwkl4subqhaiatalkcleo4jgnr3hqwvpmsqfca27cijp3i"
CACHE = "bafybeib3ffl2teiqdncv3mkz4r23b5ctrwkzrrhctdbne6iboayxuxk5ui"
LINKED = "QmWvY6FaqFMS89YAQ9NAPjVP4WZKA1qbHbicc9HeSKQTgt"
FILES = "bafybeihchr7vmgjaasntayyatmp5sv6xza57iy2h4xj7g46bpjij6yhrmy"
PERCENT = "bafybeig675grnxcmshiuzdaz2xalm6ef4thxxds6o6ypakpghm5kghpc34"
FOREIGN = "QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN"
IMMUTABLE = "public, max-age=29030400, immutable"
GENERATED = "public, max-age=604800, stale-while-revalidate=2678400"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[IpfsSite]:
    fixture("PROVISION.txt")
    site = await IpfsSite.start()
    await site.hold(*(str(x.relative_to(FIXTURES)) for x in sorted(FIXTURES.rglob("*.car"))))
    yield site
    await site.stop()


async def test_a_directory_is_redirected_to_its_name_with_a_slash(site: IpfsSite) -> None:
    got = await site.get(f"/ipfs/{LISTING}/ą/ę")
    assert (got.status_code, got.headers["location"]) == (
        301,
        f"/ipfs/{LISTING}/%C4%85/%C4%99/",
    )
    assert got.headers["ipfs-uri"] == f"ipfs://{LISTING}/%C4%85/%C4%99"
    got = await site.get(f"/ipfs/{LISTING}/%C4%85?a=b c")
    assert got.headers["location"] == f"/ipfs/{LISTING}/%C4%85/?a=b%20c"


async def test_a_page_of_a_directory_says_where_it_is(site: IpfsSite) -> None:
    page = await site.get(f"/ipfs/{LISTING}/ą/ę/")
    file = await site.at(LISTING, "ą", "ę", "file-źł.txt")
    assert page.headers["etag"].startswith('"DirIndex-')
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == GENERATED
    assert "Index of" in page.text
    assert str(file) in page.text
    assert (await site.get(f"/ipfs/{LISTING}/none")).status_code == 404


async def test_headers_of_files_and_directories_name_each_segment(site: IpfsSite) -> None:
    names = ["root2", "root3", "root4", "index.html"]
    cids = [CACHE] + [str(await site.at(CACHE, *names[: n + 1])) for n in range(4)]
    for depth, slash, tag, control in (
        (2, "/", f'"DirIndex-[^"]*_CID-{cids[2]}"', GENERATED),
        (3, "/", f'"{cids[3]}"', IMMUTABLE),
        (4, "", f'"{cids[4]}"', IMMUTABLE),
    ):
        path = "/".join(["/ipfs", CACHE, *names[:depth]]) + slash
        got = await site.get(path)
        assert got.status_code == 200
        assert got.headers["x-ipfs-path"] == path
        assert got.headers["x-ipfs-roots"] == ",".join(cids[: depth + 1])
        assert re.fullmatch(tag, got.headers["etag"])
        assert got.headers["cache-control"] == control
        own = got.headers["etag"]
        for matching in (own, f"W/{own}", f'"a", "b", {own}', "*"):
            again = await site.get(path, If_None_Match=matching)
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["cache-control"] == control
        assert (await site.get(path, If_None_Match='"other"')).status_code == 200
    weak = await site.get(f"/ipfs/{CACHE}/root2/root3/", If_None_Match=f'W/"{cids[2]}"')
    assert weak.status_code == 304


async def test_only_if_cached_asks_whether_it_is_here(site: IpfsSite) -> None:
    for method in ("GET", "HEAD"):
        for path, status in ((f"/ipfs/{CACHE}/root2/root3/root4/", 200), (f"/ipfs/{FOREIGN}", 412)):
            got = await site.get(path, method, Cache_Control="only-if-cached")
            assert got.status_code == status


async def test_a_symbolic_link_is_its_target_as_bytes(site: IpfsSite) -> None:
    got = await site.get(f"/ipfs/{LINKED}/bar")
    assert (got.status_code, got.content) == (200, b"foo")
    assert got.headers["content-type"] == "inode/symlink"
    page = (await site.get(f"/ipfs/{LINKED}/")).text
    assert ">foo<" in page
    assert ">bar<" in page
    raw = await site.get(f"/ipfs/{LINKED}?format=raw")
    assert raw.content == await site.raw(Cid.parse(LINKED))


async def test_parts_of_a_file(site: IpfsSite) -> None:
    path = f"/ipfs/{FILES}/ascii.txt"
    whole = (await site.get(path)).content
    for wanted, start, end in (("6-16", 6, 17), ("-3", 28, 31), ("30-", 30, 31)):
        got = await site.get(path, Range=f"bytes={wanted}")
        assert (got.status_code, got.content) == (206, whole[start:end])
        assert got.headers["content-range"] == f"bytes {start}-{end - 1}/31"
        assert got.headers["content-type"].startswith("text/plain")
    assert (await site.get(path, Range="bytes=31-")).status_code == 416
    tag = f'"{await site.at(FILES, "ascii.txt")}"'
    assert (await site.get(path, Range="bytes=0-1", If_Range=tag)).status_code == 206
    assert (await site.get(path, Range="bytes=0-1", If_Range='"old"')).status_code == 200


async def test_several_parts_of_a_file_come_as_multipart(site: IpfsSite) -> None:
    path = f"/ipfs/{FILES}/ascii.txt"
    whole = (await site.get(path)).content
    got = await site.get(path, Range="bytes=6-16,0-4")
    assert got.status_code == 206
    [mark] = re.findall(r"^multipart/byteranges; boundary=(\S+)$", got.headers["content-type"])
    assert got.headers["content-length"] == str(len(got.content))
    assert "content-range" not in got.headers
    parts = got.content.split(b"\r\n--" + mark.encode())
    assert (parts[0], parts[-1]) == (b"", b"--\r\n")
    for part, (start, end) in zip(parts[1:-1], ((6, 17), (0, 5)), strict=True):
        head, _, body = part.partition(b"\r\n\r\n")
        assert f"Content-Range: bytes {start}-{end - 1}/31".encode() in head
        assert b"Content-Type: text/plain" in head
        assert body == whole[start:end]


@pytest.mark.parametrize(
    "segment",
    [
        "Portugal%252C+España=Peninsula%20Ibérica.txt",
        "Portugal%252C%2BEspa%C3%B1a%3DPeninsula%20Ib%C3%A9rica.txt",
        "Portugal%252C%2bEspa%c3%b1a%3dPeninsula%20Ib%c3%a9rica%2etxt",
    ],
)
async def test_a_name_that_looks_encoded_is_found_however_it_is_written(
    site: IpfsSite, segment: str
) -> None:
    file = await site.at(PERCENT, "Portugal%2C+España=Peninsula Ibérica.txt")
    got = await site.get(f"/ipfs/{PERCENT}/{segment}")
    assert got.content == await site.raw(file)
    canonical = quote("Portugal%2C+España=Peninsula Ibérica.txt", safe="")
    assert got.headers["ipfs-uri"] == f"ipfs://{PERCENT}/{canonical}"
    assert "x-ipfs-path" not in got.headers


async def test_scripts_of_other_origins_may_read_what_is_public(site: IpfsSite) -> None:
    for method in ("GET", "OPTIONS"):
        got = await site.get("/ipfs/bafkqabtimvwgy3yk/", method)
        assert got.status_code == 200
        assert got.headers["access-control-allow-origin"] == "*"
        for header, names in (
            ("methods", {"GET", "HEAD", "OPTIONS"}),
            ("allow-headers", {"Content-Type", "Range", "User-Agent", "X-Requested-With"}),
            (
                "expose-headers",
                {
                    "Content-Range", "Content-Length", "X-Ipfs-Path", "X-Ipfs-Roots",
                    "X-Chunked-Output", "X-Stream-Output", "Ipfs-Uri",
                },
            ),
        ):  # fmt: skip
            field = header if header.endswith("headers") else f"allow-{header}"
            found = got.headers[f"access-control-{field}"]
            assert names <= {name.strip() for name in found.split(",")}


async def test_a_worker_may_not_be_registered_for_a_whole_namespace(site: IpfsSite) -> None:
    got = await site.get(f"/ipfs/{FILES}", Service_Worker="script")
    assert got.status_code == 400
    got = await site.get(f"/ipfs/{FILES}/ascii.txt", Service_Worker="script")
    assert got.status_code == 200


async def test_head_says_what_get_sends(site: IpfsSite) -> None:
    for path in (
        f"/ipfs/{FILES}/multiblock.txt",
        f"/ipfs/{FILES}/",
        f"/ipfs/{CACHE}/root2/root3/root4/",
        f"/ipfs/{await site.at(FILES, 'multiblock.txt')}",
        f"/ipfs/{FILES}/ascii.txt?format=raw",
        f"/ipfs/{FILES}?format=car",
    ):
        got, head = await site.get(path), await site.get(path, "HEAD")
        assert (head.status_code, head.content) == (200, b"")
        left_out = {"server-timing"}
        if "format=car" in path:  # how long it becomes is known when it is made
            left_out.add("content-length")
        sent = {k: v for k, v in got.headers.items() if k not in left_out}
        assert {k: v for k, v in head.headers.items() if k not in left_out} == sent


async def test_links_that_name_the_namespace_twice_or_a_uri_lead_on(site: IpfsSite) -> None:
    got = await site.get(f"/ipfs/ipfs/{FILES}/ascii.txt?a=b")
    assert (got.status_code, got.headers["location"]) == (301, f"/ipfs/{FILES}/ascii.txt?a=b")
    uri = quote(f"ipfs://{FILES}/a b?x=y", safe="")
    got = await site.get(f"/ipfs/?uri={uri}")
    assert (got.status_code, got.headers["location"]) == (301, f"/ipfs/{FILES}/a%20b?x=y")
    assert (await site.get("/ipfs/?uri=https%3A%2F%2Fexample.org")).status_code == 400
