"""An object's IPFS URL, and its CAR checked by a tool of somebody else's."""

import json
import random
import time
from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork, program

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

MIB = 1 << 20


def cid_of(network: RunningNetwork, bucket: str, key: str) -> str:
    """The object's CID; a multipart object's may take a moment."""
    client = network.boto()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        headers = client.head_object(Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPHeaders"]
        if cid := headers.get("x-amz-meta-cid"):
            return str(cid)
        time.sleep(0.1)
    pytest.fail(f"no CID for {bucket}/{key}")


def test_hello_world_has_the_cid_that_everybody_gives_it(plain_network: RunningNetwork) -> None:
    client = plain_network.boto()
    client.create_bucket(Bucket="hello")
    plain_network.cumulus("ipfs", "publish", "hello", "on")
    client.put_object(Bucket="hello", Key="h.txt", Body=b"hello world")
    cid = cid_of(plain_network, "hello", "h.txt")
    assert cid == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    assert plain_network.curl(f"{plain_network.url('ipfs')}/ipfs/{cid}") == b"hello world"


def test_a_large_file_opens_by_url_and_its_car_is_whole(
    plain_network: RunningNetwork, tmp_path: Path
) -> None:
    tool = program("ipfs-car")
    body = random.Random(5).randbytes(3 * MIB + 17)
    source = tmp_path / "large.bin"
    source.write_bytes(body)
    plain_network.aws("s3", "mb", "s3://published")
    plain_network.cumulus("ipfs", "publish", "published", "on")
    plain_network.aws("s3", "cp", source, "s3://published/large.bin", "--no-progress")
    cid = cid_of(plain_network, "published", "large.bin")
    url = f"{plain_network.url('ipfs')}/ipfs/{cid}"
    assert plain_network.curl(url) == body
    assert plain_network.curl(url, "-r", "1048570-1048590") == body[1048570:1048591]
    car = tmp_path / "large.car"
    car.write_bytes(plain_network.curl(f"{url}?format=car"))
    assert plain_network.run(tool, "roots", car).stdout.strip() == cid
    plain_network.run(tool, "unpack", car, "--output", tmp_path / "unpacked.bin")
    assert (tmp_path / "unpacked.bin").read_bytes() == body
    state = json.loads(plain_network.cumulus("ipfs", "status", "published", "--json").stdout)
    assert state["publishes"]
    assert state["objects"] == 1


def test_a_private_bucket_has_no_cid(plain_network: RunningNetwork) -> None:
    client = plain_network.boto()
    client.create_bucket(Bucket="private")
    client.put_object(Bucket="private", Key="k", Body=b"a private thing")
    headers = client.head_object(Bucket="private", Key="k")["ResponseMetadata"]["HTTPHeaders"]
    assert "x-amz-meta-cid" not in headers
