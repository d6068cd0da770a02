"""s3cmd and s5cmd; `make test-clients` drives more."""

from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork, contents, program

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]


def test_s3cmd_puts_syncs_and_signs(
    network: RunningNetwork, bucket: str, tree: Path, tmp_path: Path
) -> None:
    access, secret = network.keys()
    host = network.url("s3").partition("://")[2]
    tls = ("--ssl", f"--ca-certs={network.authority}") if network.authority else ("--no-ssl",)

    def s3cmd(*words: str | Path) -> str:
        return network.run(
            program("s3cmd"), "--config=/dev/null", f"--access_key={access}",
            f"--secret_key={secret}", f"--host={host}", f"--host-bucket={host}", *tls, *words,
        ).stdout  # fmt: skip

    s3cmd("sync", "--multipart-chunk-size-mb=5", f"{tree}/", f"s3://{bucket}/")
    assert "20971520" in s3cmd("ls", "--recursive", f"s3://{bucket}/")
    back = tmp_path / "back"
    back.mkdir()
    s3cmd("sync", f"s3://{bucket}/", f"{back}/")
    assert contents(back) == contents(tree)
    s3cmd("cp", f"s3://{bucket}/a", f"s3://{bucket}/b")
    assert "Signature" in s3cmd("signurl", f"s3://{bucket}/b", "+60")
    s3cmd("del", f"s3://{bucket}/a")


def test_s5cmd_copies_many_at_once(
    network: RunningNetwork, bucket: str, tree: Path, tmp_path: Path
) -> None:
    s5cmd = (program("s5cmd", "version"), "--endpoint-url", network.url("s3"))
    for number in range(300):
        (tree / f"n{number}").write_bytes(b"%d" % number)
    network.run_with_keys(*s5cmd, "cp", f"{tree}/", f"s3://{bucket}/in/")
    listed = network.run_with_keys(*s5cmd, "ls", f"s3://{bucket}/in/*")
    assert len(listed.splitlines()) == 304
    network.run_with_keys(*s5cmd, "cp", f"s3://{bucket}/in/*", f"{tmp_path}/back/")
    assert contents(tmp_path / "back") == contents(tree)
    network.run_with_keys(*s5cmd, "rm", f"s3://{bucket}/in/*")
