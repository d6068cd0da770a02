"""Claims about `_redirects`, hosts and DNSLink answers: pure parts, bytes of strangers."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ipfs.errors import BadRequest
from gateway.ipfs.sites import hosts, redirects
from gateway.ipfs.sites.dnslink import DnsLinks, Link, ResolverFailed, parse_answer
from gateway.ipfs.sites.hosts import Gateway, Other, Subdomain, label, place, uninlined
from gateway.ipfs.sites.redirects import BadRedirects, Page, Redirect, answer, parse
from tests.unit.object_parts import FakeClock

GATEWAYS = frozenset({"localhost", "example.com"})
HELLO = "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am"


def asked(rules: str, path: str, query: str = "") -> Redirect | Page | None:
    """What the rules say of a URL's path."""
    return answer(parse(rules.encode()), tuple(part for part in path.split("/") if part), query)


@pytest.mark.parametrize(
    ("rules", "path", "said"),
    [
        ("/a /b", "/a", Redirect(301, "/b")),
        ("  /a\t/b   302\r\n", "/a/", Redirect(302, "/b")),
        ("# /a /x\n\n/a /b 308", "/a", Redirect(308, "/b")),
        ("/a /b\n/a /c", "/a", Redirect(301, "/b")),
        ("/a /b", "/a/b", None),
        ("/a/b /c", "/a", None),
        ("/:x/:xy /n?a=:x&b=:xy", "/1/2", Redirect(301, "/n?a=1&b=2")),
        ("/:x /:y", "/1", Redirect(301, "/:y")),
        ("/:a/:b /:a", "/:b/s", Redirect(301, "/%3Ab")),
        ("/s/* /t/:splat", "/s/x/y", Redirect(301, "/t/x/y")),
        ("/s/* /t/:splat", "/s", None),
        ("/* https://b.example/:splat 307", "/x", Redirect(307, "https://b.example/x")),
        ("/a ipfs://CID/x 303", "/a", Redirect(303, "ipfs://CID/x")),
        ("/caf%C3%A9 /b", "/café", Redirect(301, "/b")),
        ("/a /b 200", "/a", Page(200, ("b",))),
        ("/a /b%20c/?x 404", "/a", Page(404, ("b c",))),
        ("/app/* /app/:splat.html 200", "/app/x/y", Page(200, ("app", "x", "y.html"))),
        ("/* /index.html 200", "/any/way", Page(200, ("index.html",))),
        ("/* /404.html 451", "/any", Page(451, ("404.html",))),
        ("/* https://b.example/ 200", "/any", None),
    ],
)
def test_the_first_rule_that_matches_counts(
    rules: str, path: str, said: Redirect | Page | None
) -> None:
    assert asked(rules, path) == said


def test_a_clients_query_goes_on_behind_the_rules_own() -> None:
    assert asked("/a /b", "/a", "x=y") == Redirect(301, "/b?x=y")
    assert asked("/a /b?c=d#e", "/a", "x=y") == Redirect(301, "/b?c=d&x=y#e")


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ("/a", "missing 'to' path"),
        ("/a /b 301 x", "must match format"),
        ("a /b", "must begin with '/'"),
        ("/*/a /b", "must end with asterisk"),
        ("/*/* /b", "at most one asterisk"),
        ("/a b", "invalid URL scheme"),
        ("/a javascript:x", "invalid URL scheme"),
        ("/a http://[x", "invalid URL scheme"),
        ("/a /b 301!", "forced redirects"),
        ("/a /b 999", "not supported"),
        ("/a /b 0x12", "not supported"),
        ("/a /b ٣٠١", "not supported"),
        ("/a%zz /b", "invalid URL escape"),
        ("/a /b\n" * 20_000, "cannot exceed 65536"),
    ],
)
def test_files_that_cannot_be_used_say_why(rules: str, why: str) -> None:
    with pytest.raises(BadRedirects, match=why) as error:
        parse(rules.encode())
    assert str(error.value).startswith("could not parse _redirects:")


LINE = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(["/", "*", "/:a", ":splat", "/x", "301", "200", "404", "http://h/", "%2f"]),
    ),
    max_size=5,
).map("".join)


@given(st.lists(st.lists(LINE, max_size=4).map(" ".join), max_size=6), st.lists(st.text()))
def test_random_rules_are_refused_or_answer_with_what_fits_a_header(
    lines: list[str], path: list[str]
) -> None:
    try:
        rules = parse("\n".join(lines).encode("utf-8", "replace"))
    except BadRedirects:
        return
    segments = tuple(part.replace("/", "") for part in path if part.replace("/", ""))
    said = answer(rules, segments, "q=1")
    if isinstance(said, Redirect):
        assert said.location.isascii()
        assert said.location.isprintable()
        assert " " not in said.location
    if isinstance(said, Page):
        assert not any("/" in part or not part for part in said.path)


@given(st.binary(max_size=200))
def test_random_files_break_nothing(data: bytes) -> None:
    try:
        answer(parse(data), ("a",), "")
    except BadRedirects:
        return


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("localhost", Gateway("localhost")),
        ("LOCALHOST:8080", Gateway("localhost:8080")),
        ("example.com.", Gateway("example.com")),
        (f"{HELLO}.ipfs.localhost:80", Subdomain("localhost:80", "ipfs", HELLO)),
        ("QmX.IPFS.Example.com", Subdomain("example.com", "ipfs", "QmX")),
        ("en.wiki.org.ipns.example.com", Subdomain("example.com", "ipns", "en.wiki.org")),
        ("a.ipld.example.com", Other("a.ipld.example.com", "a.ipld.example.com")),
        ("ipfs.example.com", Other("ipfs.example.com", "ipfs.example.com")),
        ("Elsewhere.org:81", Other("elsewhere.org", "elsewhere.org:81")),
        ("127.0.0.1:8080", Other("", "127.0.0.1:8080")),
        ("[::1]:8080", Other("", "[::1]:8080")),
        ("", Other("", "")),
        ("a b", Other("", "a b")),
        ("../x", Other("", "../x")),
    ],
)
def test_hosts_are_gateways_content_roots_or_neither(
    host: str, found: Gateway | Subdomain | Other
) -> None:
    assert place(host, GATEWAYS) == found


@given(st.text(max_size=80))
def test_random_hosts_break_nothing(host: str) -> None:
    found = place(host + ".ipfs.localhost", GATEWAYS)
    assert isinstance(found, Subdomain | Gateway)
    for namespace in hosts.NAMESPACES:
        try:
            text = label(namespace, host)
        except BadRequest:
            continue
        assert len(text) <= 63
        assert urlsplit(f"http://{text}.ipfs.localhost/").hostname == f"{text}.ipfs.localhost"


@given(
    st.from_regex(
        r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?){1,4}",
        fullmatch=True,
    )
)
def test_a_domain_name_comes_back_from_its_label(name: str) -> None:
    if hosts.is_domain(name):
        assert uninlined(label("ipns", name)) == name


def doh(*records: tuple[int, str, int], status: int = 0) -> bytes:
    """A resolver's answer."""
    answers = [{"name": "x", "type": kind, "TTL": ttl, "data": data} for kind, data, ttl in records]
    return json.dumps({"Status": status, "Answer": answers}).encode()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (doh((16, "dnslink=/ipfs/a", 60)), Link("/ipfs/a", 60)),
        (doh((16, '"dnslink=/ipns/" "b"', 5)), Link("/ipns/b", 5)),
        (doh((16, "dnslink=/ipfs/b", 1), (16, "dnslink=/ipfs/a", 2)), Link("/ipfs/a", 2)),
        (doh((5, "dnslink=/ipfs/a", 60), (16, "v=spf1", 60)), None),
        (doh((16, "dnslink=/dnslink/a", 60)), None),
        (doh(status=3), None),
        (b'{"Status": 0}', None),
    ],
)
def test_answers_of_resolvers_are_read(body: bytes, found: Link | None) -> None:
    assert parse_answer(body) == found


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"Status":2}', b'{"Status":0,"Answer":{"a":1}}']
)
def test_answers_that_tell_nothing_are_errors(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_answer(body)


async def test_the_map_comes_first_and_answers_are_kept_for_their_time() -> None:
    clock, urls = FakeClock(), list[str]()

    async def fetch(url: str) -> bytes:
        urls.append(url)
        if "bad" in url:
            raise OSError("no route")
        return doh((16, "dnslink=/ipfs/a", 100)) if "site" in url else doh(status=3)

    links = DnsLinks({"Own.example.": "/ipfs/own"}, clock, "https://dns.example/q", fetch)
    assert await links.link("own.EXAMPLE") == Link("/ipfs/own", 0)
    for _ in range(3):
        assert await links.link("site.example") == Link("/ipfs/a", 100)
        assert await links.link("none.example") is None
    assert urls == [
        "https://dns.example/q?name=_dnslink.site.example&type=TXT",
        "https://dns.example/q?name=_dnslink.none.example&type=TXT",
    ]
    assert await links.link("localhost") is None
    clock.ns += 99 * 10**9
    await links.link("site.example")
    await links.link("none.example")
    assert len(urls) == 3
    with pytest.raises(ResolverFailed):
        await links.link("bad.example")
    with pytest.raises(ResolverFailed):  # a failure is not kept
        await links.link("bad.example")
    assert len(urls) == 5
    off = DnsLinks({}, clock, "off", fetch)
    assert await off.link("site.example") is None


def test_ten_thousand_rules_are_matched_in_bounded_time() -> None:
    rules = parse(b"/a /b\n" * (redirects.FILE_BYTES_MAX // 6))
    assert len(rules) > 10_000
    assert answer(rules, ("b",) * 200, "") is None


async def test_a_name_is_asked_for_once_at_a_time_and_floods_of_names_are_refused() -> None:
    gate, urls = asyncio.Event(), list[str]()

    async def fetch(url: str) -> bytes:
        urls.append(url)
        await gate.wait()
        if "bad" in url:
            raise OSError("no route")
        return doh((16, "dnslink=/ipfs/a", 100))

    links = DnsLinks({}, FakeClock(), "https://dns.example/q", fetch)
    found: list[Link | None] = []
    failed = list[str]()

    async def look(name: str) -> None:
        try:
            found.append(await links.link(name))
        except ResolverFailed as error:
            failed.append(str(error))

    async with asyncio.TaskGroup() as group:
        for name in ("site.example", "bad.example"):
            for _ in range(3):
                group.create_task(look(name))
        left = group.create_task(look("left.example"))
        for number in range(20):
            group.create_task(look(f"n{number}.example"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sum("too many" in text for text in failed) == 7
        left.cancel()
        gate.set()
    assert len(urls) == len(set(urls)) == 16
    assert sum("no route" in text for text in failed) == 3
    assert found == [Link("/ipfs/a", 100)] * 16
    assert await links.link("left.example") == Link("/ipfs/a", 100)
