"""`cumulus object import` from another S3 server."""

import json
import random
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.clients.running import RunningNetwork

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

MIB = 1 << 20
ENVIRON = {"AWS_ACCESS_KEY_ID": "there", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[str, Any]]:
    """Another server: its URL, and a client of it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        yield url, boto3.client("s3", "us-east-1", endpoint_url=url, aws_access_key_id="there",
                                aws_secret_access_key="secret")  # fmt: skip
    finally:
        server.stop()


def import_from(
    network: RunningNetwork, url: str, monkeypatch: pytest.MonkeyPatch, *more: str
) -> dict[str, Any]:
    environ = network.client_environ() | ENVIRON
    monkeypatch.setattr(network, "client_environ", lambda: environ)
    words = ("object", "import", *more, "--endpoint-url", url, "--region", "us-east-1", "--json")
    said: dict[str, Any] = json.loads(network.cumulus(*words).stdout)
    return said


def test_everything_comes_over_once_with_what_belongs_to_it(
    network: RunningNetwork, elsewhere: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, there = elsewhere
    source = f"from-{network.url('s3').partition(':')[0]}"
    there.create_bucket(Bucket=source)
    chance = random.Random(5)
    bodies = {f"in/{name}": chance.randbytes(size) for name, size in
              [("empty", 0), ("k é/+", 10), ("b", 100_000), ("stream", 17 * MIB)]}  # fmt: skip
    for key, body in bodies.items():
        there.put_object(Bucket=source, Key=key, Body=body, ContentType="text/x-own",
                         Metadata={"who": "ann"}, Tagging="colour=blue")  # fmt: skip
    there.put_object(Bucket=source, Key="not-in/it", Body=b"x")
    upload = there.create_multipart_upload(Bucket=source, Key="in/parts")["UploadId"]
    pieces = [chance.randbytes(6 * MIB), chance.randbytes(6 * MIB), chance.randbytes(MIB)]
    parts = [
        {"PartNumber": n, "ETag": there.upload_part(
            Bucket=source, Key="in/parts", UploadId=upload, PartNumber=n, Body=piece)["ETag"]}
        for n, piece in enumerate(pieces, 1)
    ]  # fmt: skip
    there.complete_multipart_upload(
        Bucket=source, Key="in/parts", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    here = network.boto()
    here.create_bucket(Bucket="imported")
    urls = (f"s3://{source}/in/", "s3://imported/out/")
    said = import_from(network, url, monkeypatch, *urls)
    assert (said["objects"], said["skipped"], said["failed"]) == (5, 0, {})
    for key, body in (bodies | {"in/parts": b"".join(pieces)}).items():
        got = here.get_object(Bucket="imported", Key=key.replace("in/", "out/", 1))
        assert got["Body"].read() == body
        assert got["ETag"] == there.head_object(Bucket=source, Key=key)["ETag"]
        if key != "in/parts":
            assert (got["ContentType"], got["Metadata"], got["TagCount"]) == (
                "text/x-own", {"who": "ann"}, 1
            )  # fmt: skip
    again = import_from(network, url, monkeypatch, *urls)
    assert (again["objects"], again["skipped"]) == (0, 5)
    there.put_object(Bucket=source, Key="in/b", Body=b"changed")
    changed = import_from(network, url, monkeypatch, *urls)
    assert (changed["objects"], changed["skipped"]) == (1, 4)
    assert here.get_object(Bucket="imported", Key="out/b")["Body"].read() == b"changed"
    network.cumulus("object", "rm", "s3://imported/", "--recursive")
    here.delete_bucket(Bucket="imported")


def test_a_stopped_import_goes_on_where_it_was(
    plain_network: RunningNetwork, elsewhere: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.commands.importing import _Copier, _Uploads

    _, there = elsewhere
    there.create_bucket(Bucket="resumed")
    upload = there.create_multipart_upload(Bucket="resumed", Key="large")["UploadId"]
    pieces = [bytes([n]) * (5 * MIB) for n in range(4)]
    parts = [
        {"PartNumber": n, "ETag": there.upload_part(
            Bucket="resumed", Key="large", UploadId=upload, PartNumber=n, Body=piece)["ETag"]}
        for n, piece in enumerate(pieces, 1)
    ]  # fmt: skip
    there.complete_multipart_upload(
        Bucket="resumed", Key="large", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    here = plain_network.boto()
    here.create_bucket(Bucket="resume")
    state = plain_network.data_dir / "imports" / "stopped.json"

    class Stopped(Exception):
        pass

    sent: list[int] = []
    honest = here.upload_part

    def upload_part(**given: Any) -> Any:
        if len(sent) == 2:
            raise Stopped
        sent.append(given["PartNumber"])
        return honest(**given)

    monkeypatch.setattr(here, "upload_part", upload_part)
    copier = _Copier(there, here, ("resumed", ""), ("resume", ""), _Uploads(state))
    with pytest.raises(Stopped):
        copier.run(1)

    def counted(**given: Any) -> Any:
        sent.append(given["PartNumber"])
        return honest(**given)

    monkeypatch.setattr(here, "upload_part", counted)
    copier = _Copier(there, here, ("resumed", ""), ("resume", ""), _Uploads(state))
    assert copier.run(1).objects == 1
    assert sent == [1, 2, 3, 4]
    assert here.get_object(Bucket="resume", Key="large")["Body"].read() == b"".join(pieces)
    assert not state.exists()
    here.delete_object(Bucket="resume", Key="large")
    here.delete_bucket(Bucket="resume")


def test_what_cannot_be_copied_is_named_and_the_rest_comes_over(
    plain_network: RunningNetwork, elsewhere: tuple[str, Any]
) -> None:
    url, _ = elsewhere
    missing = ("object", "import", "s3://none/", "s3://nowhere/", "--endpoint-url", url)
    done = plain_network.cumulus(*missing, "--no-sign-request", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("cumulus: there is no bucket nowhere")
    assert len(done.stderr.splitlines()) == 1
    wrong = plain_network.cumulus(*missing[:4], "--endpoint-url", "elsewhere", check=False)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
