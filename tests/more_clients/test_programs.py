"""Programs: backups, file systems, a registry, other command lines."""

import hashlib
import json
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork, contents
from tests.more_clients.installed import client

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

MIB = 1 << 20


def test_restic_backs_up_checks_restores_and_prunes(
    network: RunningNetwork, bucket: str, tree: Path, tmp_path: Path
) -> None:
    trust = ("--cacert", network.authority) if network.authority else ()

    def restic(*words: str | Path) -> str:
        repository = f"s3:{network.url('s3')}/{bucket}"
        given = ("-r", repository, *trust, "--no-cache", *words)
        return network.run_with_keys(client("restic"), *given, RESTIC_PASSWORD="secret")

    restic("init")
    restic("backup", tree)
    (tree / "a").write_bytes(b"changed")
    restic("backup", tree)
    assert len(json.loads(restic("snapshots", "--json"))) == 2
    restic("check", "--read-data")
    restic("restore", "latest", "--target", tmp_path / "back")
    assert contents(tmp_path / "back" / tree.relative_to("/")) == contents(tree)
    restic("forget", "--keep-last", "1", "--prune")
    restic("check")
    assert len(json.loads(restic("snapshots", "--json"))) == 1


def test_duplicity_backs_up_and_restores(
    network: RunningNetwork, bucket: str, tree: Path, tmp_path: Path
) -> None:
    words = ("--no-encryption", "--archive-dir", tmp_path / "cache",
             f"--s3-endpoint-url={network.url('s3')}")  # fmt: skip
    url = f"boto3+s3://{bucket}/backup"
    network.run_with_keys(client("duplicity"), "full", *words, tree, url)
    (tree / "a").write_bytes(b"changed")
    network.run_with_keys(client("duplicity"), "incremental", *words, tree, url)
    network.run_with_keys(client("duplicity"), "restore", *words, url, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tree)


@contextmanager
def mounted(network: RunningNetwork, bucket: str, folder: Path) -> Iterator[Path]:
    """The bucket as a folder, by s3fs-fuse."""
    passwd = folder.with_suffix(".passwd")
    passwd.write_text(":".join(network.keys()))
    passwd.chmod(0o600)
    folder.mkdir()
    options = f"url={network.url('s3')},use_path_request_style,passwd_file={passwd}"
    network.run_with_keys(client("s3fs"), bucket, folder, "-o", options)
    assert folder.is_mount()  # it says nothing where it fails behind its fork
    try:
        yield folder
    finally:
        subprocess.run(["fusermount", "-u", folder], check=True)


@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no FUSE here")
def test_s3fs_fuse_mounts_a_bucket(
    network: RunningNetwork, bucket: str, tree: Path, tmp_path: Path
) -> None:
    with mounted(network, bucket, tmp_path / "mnt") as folder:
        shutil.copytree(tree, folder / "copy")
        (folder / "copy" / "a").rename(folder / "copy" / "b")
        with (folder / "copy" / "b").open("ab") as file:
            file.write(b" more")
    with mounted(network, bucket, tmp_path / "again") as folder:
        found = contents(folder / "copy")
    (tree / "b").write_bytes((tree / "a").read_bytes() + b" more")
    (tree / "a").unlink()
    assert found == contents(tree)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_docker_registry_keeps_its_layers(plain_network: RunningNetwork, tmp_path: Path) -> None:
    plain_network.aws("s3", "mb", "s3://registry")
    access, secret = plain_network.keys()
    port = free_port()
    (tmp_path / "config.yml").write_text(
        f"version: 0.1\nhttp: {{addr: '127.0.0.1:{port}'}}\nstorage:\n  delete: {{enabled: true}}\n"
        f"  s3: {{region: us-east-1, bucket: registry, accesskey: {access}, secretkey: '{secret}',"
        f" regionendpoint: '{plain_network.url('s3')}', secure: false, v4auth: true}}\n"
    )
    log = (tmp_path / "log").open("wb")
    words = [client("docker-registry"), "serve", str(tmp_path / "config.yml")]
    environ = plain_network.client_environ()
    registry = subprocess.Popen(words, stdout=log, stderr=log, env=environ)
    try:
        base = f"http://127.0.0.1:{port}/v2/"
        end = time.monotonic() + 20
        while True:
            try:
                assert urllib.request.urlopen(base).status == 200
                break
            except OSError:
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.1)
        layer = random.Random(9).randbytes(30 * MIB)
        digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        begun = urllib.request.urlopen(
            urllib.request.Request(f"{base}img/blobs/uploads/", method="POST")
        )
        put = urllib.request.Request(
            f"{begun.headers['Location']}&digest={digest}", data=layer, method="PUT",
            headers={"Content-Type": "application/octet-stream"},
        )  # fmt: skip
        assert urllib.request.urlopen(put).status == 201
        back = urllib.request.urlopen(f"{base}img/blobs/{digest}").read()
        assert hashlib.sha256(back).hexdigest() == digest.removeprefix("sha256:")
    finally:
        registry.terminate()
        registry.wait(10)
        log.close()
    plain_network.aws("s3", "rb", "--force", "s3://registry")


def test_debians_aws_command_line_copies_both_ways(
    network: RunningNetwork, bucket: str, tree: Path, tmp_path: Path
) -> None:
    program = shutil.which("aws", path="/usr/bin:/usr/local/bin")
    assert program, f"awscli is not installed beside {sys.prefix}"
    words = ("--endpoint-url", network.url("s3"), "--only-show-errors")  # no AWS_ENDPOINT_URL yet
    network.run(program, "s3", "cp", "--recursive", tree, f"s3://{bucket}/x/", *words)
    network.run(program, "s3", "sync", f"s3://{bucket}/x/", tmp_path / "back", *words)
    assert contents(tmp_path / "back") == contents(tree)
