"""A browser on the gateway: a listing, and a website on an origin of its own."""

import subprocess
import tempfile
import time
from urllib.parse import urlsplit

import pytest

from tests.clients.running import RunningNetwork, program

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

HOME = b"""<!DOCTYPE html><html><head><link rel="stylesheet" href="/style.css"></head><body>
<p id="said">nothing</p><script src="/app.js"></script></body></html>"""
# Tells where it runs, and that the style came and a rewritten path is there.
APP = b"""const said = document.getElementById("said");
const colour = getComputedStyle(said).color;
fetch("/old/page").then(r => r.text()).then(t => {
  said.textContent = [location.host, colour, t].join(" | ");
});"""


def shown(url: str) -> tuple[str, str]:
    """(the page as the browser has it in the end, what it complained about)."""
    browser = program("chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--enable-logging=stderr",
                "--virtual-time-budget=5000",
                f"--user-data-dir={profile}",
                "--dump-dom",
                url,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    return done.stdout, "\n".join(x for x in done.stderr.splitlines() if "CONSOLE" in x)


def published(network: RunningNetwork, done: str) -> str:
    """The CID of the bucket's directory, once the bucket is published as a whole."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        said, *where = network.cumulus("ipfs", "status", "website").stdout.splitlines()
        if said == done and where:
            return where[0].strip("/").rpartition("/")[2]
        time.sleep(0.2)
    pytest.fail("the website is not published")


def test_a_browser_opens_a_website_and_a_listing_on_their_own_origin(
    plain_network: RunningNetwork,
) -> None:
    client = plain_network.boto()
    client.create_bucket(Bucket="website")
    plain_network.cumulus("ipfs", "publish", "website", "on")
    for key, body in (
        ("index.html", HOME),
        ("app.js", APP),
        ("style.css", b"#said { color: rgb(1, 2, 3) }"),
        ("_redirects", b"/old/* /new/:splat.txt 200\n"),
        ("new/page.txt", b"rewritten"),
        ("files/a #1 100%?.txt", b"hello"),
    ):
        client.put_object(Bucket="website", Key=key, Body=body)
    root = published(plain_network, "website: published, 6 objects, 0 pending")
    port = urlsplit(plain_network.url("ipfs")).port
    # A path on localhost leads to the content's own origin, which the browser knows.
    page, complaints = shown(f"http://localhost:{port}/ipfs/{root}/")
    assert f"{root}.ipfs.localhost:{port} | rgb(1, 2, 3) | rewritten" in page
    assert not complaints
    listing, complaints = shown(f"http://{root}.ipfs.localhost:{port}/files/")
    assert "Index of" in listing
    assert '<a href="/files/a%20%231%20100%25%3F.txt">a #1 100%?.txt</a>' in listing
    assert not complaints  # its policy allows its style
    file, _ = shown(f"http://{root}.ipfs.localhost:{port}/files/a%20%231%20100%25%3F.txt")
    assert "hello" in file
