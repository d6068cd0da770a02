"""Buckets as websites, as a visitor's browser meets them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.s3.addressing import site_bucket
from gateway.s3.app import S3App
from gateway.s3.website import (
    Redirect,
    RoutingRule,
    Website,
    location,
    parse_website,
    website_document,
)
from tests.protocol.s3_asgi import Answer, call, make_app, signed_call

SITE = {"host": "www.s3-website.localhost:9000"}
PAGES = {
    "index.html": b"home",
    "docs/index.html": b"docs",
    "docs/a.html": b"a",
    "404.html": b"not here",
}


def configuration(inner: str = "", error: str = "404.html") -> bytes:
    pages = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>"
    if error:
        pages += f"<ErrorDocument><Key>{error}</Key></ErrorDocument>"
    return f"<WebsiteConfiguration>{pages}{inner}</WebsiteConfiguration>".encode()


async def site(document: bytes | None = None, acl: str = "public-read") -> S3App:
    app = await make_app()
    assert (await signed_call(app, "PUT", "/www", {"x-amz-acl": acl})).status == 200
    for key, page in PAGES.items():
        put = await signed_call(app, "PUT", f"/www/{key}", {"x-amz-acl": acl}, page)
        assert put.status == 200
    put = await signed_call(app, "PUT", "/www?website", {}, document or configuration())
    assert put.status == 200, put.body
    return app


async def visit(app: S3App, path: str, method: str = "GET", **headers: str) -> Answer:
    return await call(app, method, path, SITE | headers)


@pytest.mark.parametrize(
    ("path", "page"),
    [("/", b"home"), ("/index.html", b"home"), ("/docs/", b"docs"), ("/docs/a.html", b"a")],
)
async def test_a_visitor_gets_the_page_at_an_address(path: str, page: bytes) -> None:
    answer = await visit(await site(), path)
    assert (answer.status, answer.body) == (200, page)


async def test_a_directory_without_its_slash_is_redirected_on_the_same_host() -> None:
    app = await site()
    answer = await visit(app, "/docs")
    assert answer.status == 302
    assert answer.headers["location"] == "http://www.s3-website.localhost:9000/docs/"
    await signed_call(app, "PUT", "/www//evil.test/index.html", {}, b"x")
    elsewhere = await visit(app, "//evil.test")
    assert elsewhere.headers["location"].startswith("http://www.s3-website.localhost:9000//")


async def test_what_is_not_there_is_the_error_document_with_its_status() -> None:
    app = await site()
    answer = await visit(app, "/none", range="bytes=0-1")
    assert (answer.status, answer.body) == (404, b"not here")
    assert (await visit(app, "/none", "HEAD")).status == 404
    bare = await visit(await site(configuration(error="gone.html")), "/none")
    assert (bare.status, bare.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert b"<li>Code: NoSuchKey</li>" in bare.body


async def test_a_private_bucket_shows_nothing() -> None:
    answer = await visit(await site(acl="private"), "/")
    assert (answer.status, b"AccessDenied" in answer.body) == (403, True)


async def test_only_sites_answer_and_only_reads() -> None:
    app = await site()
    assert (await visit(app, "/x", "PUT")).status == 405
    assert (await signed_call(app, "DELETE", "/www?website")).status == 204
    gone = await visit(app, "/")
    assert (gone.status, b"NoSuchWebsiteConfiguration" in gone.body) == (404, True)
    nobody = await call(app, "GET", "/", {"host": "none.s3-website.localhost"})
    assert (nobody.status, b"NoSuchBucket" in nobody.body) == (404, True)


async def test_objects_and_buckets_redirect() -> None:
    app = await site()
    moved = {"x-amz-website-redirect-location": "https://new.test/page"}
    moved["x-amz-acl"] = "public-read"
    await signed_call(app, "PUT", "/www/old.html", moved, b"old")
    for method in ("GET", "HEAD"):
        answer = await visit(app, "/old.html", method)
        assert (answer.status, answer.headers["location"]) == (301, "https://new.test/page")
    everything = b"<WebsiteConfiguration><RedirectAllRequestsTo><HostName>new.test</HostName>" \
        b"<Protocol>https</Protocol></RedirectAllRequestsTo></WebsiteConfiguration>"  # fmt: skip
    away = await visit(await site(everything), "/a%20b?c=1")
    assert (away.status, away.headers["location"]) == (301, "https://new.test/a%20b")


RULES = (
    "<RoutingRules>"
    "<RoutingRule><Condition><KeyPrefixEquals>blog/</KeyPrefixEquals></Condition>"
    "<Redirect><ReplaceKeyPrefixWith>docs/</ReplaceKeyPrefixWith></Redirect></RoutingRule>"
    "<RoutingRule><Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>"
    "</Condition><Redirect><HttpRedirectCode>307</HttpRedirectCode><ReplaceKeyWith>docs/a.html"
    "</ReplaceKeyWith></Redirect></RoutingRule></RoutingRules>"
)


async def test_rules_route_by_prefix_and_by_error() -> None:
    app = await site(configuration(RULES))
    base = "http://www.s3-website.localhost:9000"
    blog = await visit(app, "/blog/a.html")
    assert (blog.status, blog.headers["location"]) == (301, f"{base}/docs/a.html")
    none = await visit(app, "/none")
    assert (none.status, none.headers["location"]) == (307, f"{base}/docs/a.html")
    assert (await visit(app, "/docs/a.html")).body == b"a"


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        ("", "InvalidArgument"),
        ("<IndexDocument><Suffix>a/b</Suffix></IndexDocument>", "InvalidArgument"),
        ("<RedirectAllRequestsTo><HostName>a b</HostName></RedirectAllRequestsTo>",
         "InvalidRequest"),
        ("<RedirectAllRequestsTo><HostName>a</HostName><Protocol>ftp</Protocol>"
         "</RedirectAllRequestsTo>", "InvalidRequest"),
        ("<IndexDocument><Suffix>i</Suffix></IndexDocument>" + RULES.replace("307", "300"),
         "InvalidRequest"),
        ("<IndexDocument><Suffix>i</Suffix></IndexDocument>" + RULES.replace("404", "200"),
         "InvalidRequest"),
        ("<IndexDocument><Suffix>i</Suffix></IndexDocument>" + "<RoutingRules>"
         + "<RoutingRule><Redirect><HostName>h</HostName></Redirect></RoutingRule>" * 51
         + "</RoutingRules>", "InvalidRequest"),
    ],
)  # fmt: skip
def test_a_configuration_that_means_nothing_is_refused(inner: str, code: str) -> None:
    with pytest.raises(StoreError) as refused:
        parse_website(f"<WebsiteConfiguration>{inner}</WebsiteConfiguration>".encode())
    assert refused.value.code == code


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=8)
REDIRECTS = st.builds(
    Redirect,
    host=st.sampled_from(["new.test", "new.test:8080", "[::1]:80"]),
    protocol=st.sampled_from(["", "http", "https"]),
    given_status=st.sampled_from([0, 301, 302, 399]),
    key_prefix=st.none() | TEXT,
)
SITES = st.builds(
    Website,
    index=TEXT.filter(lambda text: "/" not in text),
    error=TEXT,
    rules=st.lists(
        st.builds(RoutingRule, REDIRECTS, prefix=TEXT, error=st.just(0) | st.integers(400, 599)),
        max_size=3,
    ).map(tuple),
)


@given(SITES)
def test_a_configuration_survives_its_document(made: Website) -> None:
    assert parse_website(website_document(made)) == made


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_document_is_more_than_refused(data: bytes) -> None:
    for raw in (data, b"<WebsiteConfiguration>" + data + b"</WebsiteConfiguration>"):
        with pytest.raises(StoreError):
            parse_website(raw)


@given(REDIRECTS, TEXT, TEXT)
def test_a_redirect_goes_to_its_host_and_no_other(made: Redirect, prefix: str, rest: str) -> None:
    url = location(made, prefix, prefix + rest, host="here.test", secure=True)
    assert url.startswith(f"{made.protocol or 'https'}://{made.host}/")
    assert not set(url) & set("\r\n ")


@pytest.mark.parametrize(
    ("host", "bucket"),
    [("www.s3-website.localhost:80", "www"), ("a.b.s3-website.localhost", "a.b"),
     ("www.localhost", ""), ("s3-website.localhost", ""), ("www.s3-website.other", ""),
     ("x.s3-website.y.localhost", "")],
)  # fmt: skip
def test_a_site_is_told_by_its_host(host: str, bucket: str) -> None:
    assert site_bucket(host, ["localhost"]) == bucket


async def test_get_shows_the_rules() -> None:
    got = await signed_call(await site(configuration(RULES)), "GET", "/www?website")
    assert got.body.count(b"<RoutingRule>") == 2
