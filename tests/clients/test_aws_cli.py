"""The aws command line, as a new user meets it."""

import hashlib
import os
import random
from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

MIB = 1 << 20
LARGE_MIB = int(os.environ.get("CUMULUS_TEST_LARGE_MIB", "100"))
MANY = int(os.environ.get("CUMULUS_TEST_MANY_FILES", "500"))


def made_file(path: Path, size: int) -> Path:
    path.write_bytes(random.Random(size).randbytes(size))
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("size", [0, 1, MIB, LARGE_MIB * MIB])
def test_cp_brings_back_what_it_took(network: RunningNetwork, tmp_path: Path, size: int) -> None:
    bucket = f"cp-{size}"
    network.aws("s3", "mb", f"s3://{bucket}")
    source = made_file(tmp_path / "source.bin", size)
    network.aws("s3", "cp", source, f"s3://{bucket}/one two+three.bin", "--no-progress")
    network.aws("s3", "cp", f"s3://{bucket}/one two+three.bin", tmp_path / "back", "--no-progress")
    assert digest(tmp_path / "back") == digest(source)
    network.aws("s3", "rb", f"s3://{bucket}", "--force")


def test_a_directory_of_many_small_files_syncs_both_ways(
    network: RunningNetwork, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    chance = random.Random(7)
    count = MANY // 5 if network.authority else MANY  # what TLS adds shows with few
    for number in range(count):
        path = source / f"folder-{number % 10}" / f"file {number:04}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.randrange(1, 40_000)))
        os.utime(path, (1e9, 1e9))  # what is as old as its copy, to the second, is sent again
    network.aws("s3", "mb", "s3://many")
    network.aws("s3", "cp", "--recursive", source, "s3://many/in/", "--only-show-errors")
    listed = network.aws("s3", "ls", "--recursive", "s3://many/in/").stdout.splitlines()
    assert len(listed) == count
    again = network.aws("s3", "sync", source, "s3://many/in/", "--size-only").stdout
    assert "upload:" not in again
    (source / "folder-0" / "new").write_bytes(b"new")
    assert network.aws("s3", "sync", source, "s3://many/in/").stdout.count("upload:") == 1
    network.aws("s3", "sync", "s3://many/in/", tmp_path / "back", "--only-show-errors")
    for path in source.rglob("*"):
        if path.is_file():
            assert (tmp_path / "back" / path.relative_to(source)).read_bytes() == path.read_bytes()
    network.aws("s3", "rm", "--recursive", "s3://many", "--only-show-errors")
    assert network.aws("s3", "ls", "s3://many", check=False).stdout == ""
    network.aws("s3", "rb", "s3://many")


def test_ls_tells_folders_from_objects(network: RunningNetwork, tmp_path: Path) -> None:
    network.aws("s3", "mb", "s3://listing")
    source = made_file(tmp_path / "x", 10)
    for key in ("a", "b/c", "b/d"):
        network.aws("s3", "cp", source, f"s3://listing/{key}", "--no-progress")
    lines = network.aws("s3", "ls", "s3://listing/").stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["b/", "a"]
    assert any("listing" in line for line in network.aws("s3", "ls").stdout.splitlines())
    network.aws("s3", "rb", "s3://listing", "--force")


def test_a_presigned_url_opens_with_curl_and_not_when_changed(
    network: RunningNetwork, tmp_path: Path
) -> None:
    network.aws("s3", "mb", "s3://signed")
    source = made_file(tmp_path / "x", 100_000)
    network.aws("s3", "cp", source, "s3://signed/x y", "--no-progress")
    url = network.aws("s3", "presign", "s3://signed/x y", "--expires-in", "60").stdout.strip()
    assert network.curl(url) == source.read_bytes()
    changed = url.replace("x%20y", "other").replace("x+y", "other")
    assert changed != url
    trust = ["--cacert", str(network.authority)] if network.authority else []
    done = network.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *trust, changed)
    assert done.stdout == "403"
    network.aws("s3", "rb", "s3://signed", "--force")


def test_a_missing_bucket_is_the_error_that_aws_gives(network: RunningNetwork) -> None:
    done = network.aws("s3", "ls", "s3://there-is-none", check=False)
    assert done.returncode != 0
    assert "NoSuchBucket" in done.stderr


def test_a_directory_becomes_a_website(network: RunningNetwork, tmp_path: Path) -> None:
    import httpx

    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.html").write_text("<h1>docs</h1>")
    (tmp_path / "lost.html").write_text("<h1>lost</h1>")
    network.aws("s3api", "create-bucket", "--bucket", "site", "--acl", "public-read")
    network.aws("s3", "cp", "--recursive", tmp_path, "s3://site/", "--acl", "public-read")
    pages = ("--index-document", "index.html", "--error-document", "lost.html")
    network.aws("s3", "website", "s3://site", *pages)
    host = {"host": "site.s3-website.localhost"}
    for path, status, page in (("/docs/", 200, "docs"), ("/none", 404, "lost")):
        url = network.url("s3") + path
        # The network's own certificate names other hosts: which it is, is not the point here.
        answer = httpx.get(url, headers=host, verify=False)
        assert (answer.status_code, answer.text) == (status, f"<h1>{page}</h1>")
        assert answer.headers["content-type"] == "text/html"
    network.aws("s3", "rb", "s3://site", "--force")
