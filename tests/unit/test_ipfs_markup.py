"""Claims about the pages for people (gateway/ipfs/web/pages.py, listing.py, dag_page.py)."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.cids import DAG_CBOR, DAG_JSON, RAW, SHA2_256, Cid
from gateway.ipfs.codecs import cbor
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.codecs.data_model import Value
from gateway.ipfs.web import dag_page, listing, pages
from gateway.ipfs.web.pages import Place, size_text

ROOT = "bafybeig6ka5mlwkl4subqhaiatalkcleo4jgnr3hqwvpmsqfca27cijp3i"
CID = Cid.parse(ROOT)
FILE = "bafkreialihlqnf5uwo4byh4n3cmwlntwqzxxs2fg5vanqdi3d7tb2l5xkm"
ENTRY = Link(Cid.parse(FILE), "file-źł.txt", 34)


class Page(HTMLParser):
    """The links and the text of a page; every element but a few is closed."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.links: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page.decode())
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")
        if tag not in {"meta", "link"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def listed(place: Place) -> str:
    return listing.page(CID, place, 95, [ENTRY]).decode()


def test_a_path_gateway_links_to_paths() -> None:
    page = listed(Place("ipfs", ROOT, ("ą", "ę")))
    for part in (
        "Index of",
        f'/ipfs/<a href="/ipfs/{ROOT}">{ROOT}</a>/<a href="/ipfs/{ROOT}/%C4%85">ą</a>/'
        f'<a href="/ipfs/{ROOT}/%C4%85/%C4%99">ę</a>',
        f'<a href="/ipfs/{ROOT}/%C4%85/%C4%99/..">..</a>',
        f'<a href="/ipfs/{ROOT}/%C4%85/%C4%99/file-%C5%BA%C5%82.txt">file-źł.txt</a>',
        f'<a class="ipfs-hash" translate="no" '
        f'href="/ipfs/{FILE}?filename=file-%25C5%25BA%25C5%2582.txt">bafk…5xkm</a>',
        "34 B",
        "95 B",
    ):
        assert part in page
    assert ">..</a>" not in listed(Place("ipfs", ROOT))


def test_a_subdomain_is_the_root_of_its_content_and_other_content_is_elsewhere() -> None:
    page = listed(Place("ipfs", ROOT, ("ą", "ę"), True, "example.com:8080"))
    for part in (
        f'/ipfs/<a href="//example.com:8080/ipfs/{ROOT}">{ROOT}</a>/'
        f'<a href="//example.com:8080/ipfs/{ROOT}/%C4%85">ą</a>/'
        f'<a href="//example.com:8080/ipfs/{ROOT}/%C4%85/%C4%99">ę</a>',
        '<a href="/%C4%85/%C4%99/..">..</a>',
        '<a href="/%C4%85/%C4%99/file-%C5%BA%C5%82.txt">file-źł.txt</a>',
        f'<a class="ipfs-hash" translate="no" '
        f'href="//example.com:8080/ipfs/{FILE}?filename=file-%25C5%25BA%25C5%2582.txt">',
    ):
        assert part in page
    root = listed(Place("ipfs", ROOT, (), True, "example.com"))
    assert '<a href="/file-%C5%BA%C5%82.txt">' in root
    assert '<a href="/">..</a>' not in root


def test_a_dnslink_website_has_no_gateway_for_other_content() -> None:
    page = listed(Place("ipns", "site.example.org", ("ą", "ę"), True, "site.example.org:8080"))
    for part in (
        '/ipns/<a href="//site.example.org:8080/">site.example.org</a>/'
        '<a href="//site.example.org:8080/%C4%85">ą</a>/'
        '<a href="//site.example.org:8080/%C4%85/%C4%99">ę</a>',
        '<a href="/%C4%85/%C4%99/..">..</a>',
        '<a href="/%C4%85/%C4%99/file-%C5%BA%C5%82.txt">file-źł.txt</a>',
        f'<a class="ipfs-hash" translate="no" href="https://cid.ipfs.tech/#{FILE}" '
        'target="_blank" rel="noreferrer noopener">',
    ):
        assert part in page


@given(
    name=st.binary(min_size=1, max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
def test_whatever_a_name_is_its_link_leads_to_it(name: str) -> None:
    data = listing.page(CID, Place("ipfs", ROOT, (name,)), 0, [Link(ENTRY.cid, name, 0)])
    page = Page(data)
    raw = name.encode("utf-8", "surrogateescape")
    [_, crumb, up, entry, content] = page.links
    assert unquote_to_bytes(crumb) == f"/ipfs/{ROOT}/".encode() + raw
    assert unquote_to_bytes(up) == f"/ipfs/{ROOT}/".encode() + raw + b"/.."
    assert unquote_to_bytes(entry) == f"/ipfs/{ROOT}/".encode() + raw + b"/" + raw
    assert all(re.fullmatch(r"[A-Za-z0-9/?=%._~-]*", link) for link in page.links)
    assert content.startswith(f"/ipfs/{FILE}?filename=")


def test_a_page_of_many_says_where_it_goes_on() -> None:
    page = listing.page(CID, Place("ipfs", ROOT, ("a",)), 0, [ENTRY], start="1f", more='2"')
    assert b'<a rel="next" href="?from=2&quot;">Next page</a>' in page
    assert f'<a href="/ipfs/{ROOT}/a/">First page</a>'.encode() in page
    assert b"<nav>" not in listing.page(CID, Place("ipfs", ROOT), 0, [ENTRY])
    assert b"Nothing is in this directory" in listing.page(CID, Place("ipfs", ROOT), 0, [])


def test_the_policy_of_a_page_allows_its_style_and_nothing_else() -> None:
    page = listed(Place("ipfs", ROOT))
    [style] = re.findall(r"<style>(.*?)</style>", page, re.S)
    digest = hashlib.sha256(style.encode()).digest()
    assert base64.b64encode(digest).decode() in pages.POLICY
    assert "default-src 'none'" in pages.POLICY
    assert "script" not in pages.POLICY
    assert not re.search(r"style=|<script|http:", page.replace("http://www.w3.org/2000/svg", ""))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9940, "9.9 kB"),
        (9960, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (1 << 30, "1.1 GB"),
        ((1 << 64) - 1, "18 EB"),
    ],
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert size_text(count) == text


def block(value: Value) -> tuple[Cid, bytes]:
    data = cbor.encode(value)
    return Cid.of(DAG_CBOR, SHA2_256, hashlib.sha256(data).digest()), data


def test_a_block_is_shown_with_its_links_and_where_to_have_it() -> None:
    cid, data = block(
        {"<k>": [ENTRY.cid, "<v>", b"\x00abc", 1.5, True, None, -1], "e": {}, "l": []}
    )
    shown = dag_page.page(cid, Place("ipfs", str(cid)), data)
    page = Page(shown)
    assert f"/ipfs/{FILE}" in page.links
    assert "?format=raw" in page.links
    assert "?format=dag-cbor" in page.links
    for word in ("<k>", "<v>", "1.5", "true", "null", "-1", "{}", "[]", "dag-cbor (0x71)"):
        assert word in page.words
    assert b"00 61 62 63" in shown
    assert b".abc" in shown
    isolated = dag_page.page(cid, Place("ipfs", str(cid), (), True, "example.com"), data)
    assert f"//example.com/ipfs/{FILE}" in Page(isolated).links


@pytest.mark.parametrize("value", ["text <b>", 7, None, b"", ENTRY.cid, [], {}])
def test_a_block_of_one_value_is_shown(value: Value) -> None:
    cid, data = block(value)
    Page(dag_page.page(cid, Place("ipfs", str(cid)), data))


def test_a_page_stays_small_whatever_the_block() -> None:
    deep: Value = 1
    for _ in range(200):
        deep = [deep]
    large: list[Value] = [
        [0] * 50_000,
        deep,
        "x" * 200_000,
        bytes(200_000),
        {"a": [[0] * 100] * 100},
    ]
    for value in large:
        cid, data = block(value)
        page = dag_page.page(cid, Place("ipfs", str(cid)), data)
        Page(page)
        assert len(page) < 300_000
    cid, data = block(deep)
    assert dag_page.page(cid, Place("ipfs", str(cid)), data).count(b"<dl>") == 24


@given(data=st.binary(max_size=64))
def test_a_block_that_cannot_be_read_is_still_a_page(data: bytes) -> None:
    for codec in (DAG_CBOR, DAG_JSON):
        cid = Cid.of(codec, SHA2_256, hashlib.sha256(data).digest())
        Page(dag_page.page(cid, Place("ipfs", str(cid)), data))


def test_entity_tags_name_the_form_and_the_content() -> None:
    other = Cid.of(RAW, SHA2_256, bytes(32))
    assert listing.etag(CID).startswith('"DirIndex-')
    assert dag_page.etag(CID).startswith('"DagIndex-')
    assert len({listing.etag(CID), listing.etag(other), dag_page.etag(CID)}) == 3
