"""What IPFS shows of a running network: nothing of a private bucket, and nothing any more of one
that was published once; also behind a new start."""

import hashlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chain.cids import RAW, SHA2_256, Cid
from gateway.ipfs.codecs.unixfs import build_file
from tests.clients.running import RunningNetwork

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

MIB = 1 << 20
BODY = random.Random(8).randbytes(2 * MIB + 77)
SMALL = b"hello world, but in private"


@pytest.fixture
def network(tmp_path: Path) -> Iterator[RunningNetwork]:
    with RunningNetwork(tmp_path, "--pledge", "1GiB", "--workers", "2") as running:
        yield running


def blocks_of(body: bytes) -> list[str]:
    """The root, and every leaf."""
    digests = [hashlib.sha256(body[at : at + MIB]).digest() for at in range(0, len(body), MIB)]
    root = build_file(len(body), b"".join(digests)).root
    return [str(root), *(str(Cid.of(RAW, SHA2_256, digest)) for digest in digests)]


def statuses(network: RunningNetwork, cids: list[str]) -> set[int]:
    """What the gateway says of each block in every form, asked of all workers."""
    found = set()
    forms = ["", "?format=raw", "?format=car", "?format=car&dag-scope=block", "?download=true"]
    for _ in range(3):  # a new connection may reach another worker
        with httpx.Client(base_url=network.url("ipfs")) as client:
            for cid in cids:
                for form in forms:
                    found.add(client.get(f"/ipfs/{cid}{form}").status_code)
                for headers in ({"if-none-match": f'"{cid}"'}, {"range": "bytes=0-0"}):
                    found.add(client.get(f"/ipfs/{cid}", headers=headers).status_code)
                found.add(client.head(f"/ipfs/{cid}").status_code)
    return found


def publish(network: RunningNetwork, bucket: str, switch: str) -> None:
    network.cumulus("ipfs", "publish", bucket, switch)


def state(network: RunningNetwork, bucket: str) -> dict[str, object]:
    done = network.cumulus("ipfs", "status", bucket, "--json")
    return dict(json.loads(done.stdout))


def cid_header(network: RunningNetwork, bucket: str, key: str) -> str | None:
    reply = network.boto().head_object(Bucket=bucket, Key=key)
    found: str | None = reply["ResponseMetadata"]["HTTPHeaders"].get("x-amz-meta-cid")
    return found


def wait_published(network: RunningNetwork, bucket: str, keys: list[str]) -> None:
    end = time.monotonic() + 30
    while state(network, bucket)["pending"] or not all(
        cid_header(network, bucket, key) for key in keys
    ):
        assert time.monotonic() < end, network.logs()
        time.sleep(0.1)


def test_a_private_bucket_shows_nothing_and_an_unpublished_one_nothing_any_more(
    network: RunningNetwork,
) -> None:
    client = network.boto()
    for bucket in ("private", "shown"):
        client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key="large", Body=BODY, Metadata={"cid": "forged"})
        client.put_object(Bucket=bucket, Key="d/small", Body=SMALL)
        assert cid_header(network, bucket, "large") is None
    cids = [*blocks_of(BODY), *blocks_of(SMALL)]
    assert statuses(network, cids) == {404}
    # Readable by anybody with S3 is not published: its CIDs stay unknown.
    client.put_bucket_acl(Bucket="private", ACL="public-read")
    assert statuses(network, cids) == {404}

    publish(network, "shown", "on")
    wait_published(network, "shown", ["large", "d/small"])
    assert cid_header(network, "shown", "large") == cids[0]
    assert cid_header(network, "private", "large") is None
    assert statuses(network, cids) <= {200, 206, 304}
    root = str(state(network, "shown")["cid"])
    assert statuses(network, [f"{root}/"]) <= {200, 206, 304}
    url = f"{network.url('ipfs')}/ipfs/{root}/d/small"
    assert network.curl(url) == SMALL
    client.copy_object(Bucket="private", Key="copy", CopySource="shown/large")
    assert cid_header(network, "private", "copy") is None

    publish(network, "shown", "off")
    everything = [*cids, f"{root}/", f"{root}/d/small"]
    assert statuses(network, everything) == {404}
    assert cid_header(network, "shown", "large") is None
    assert network.stop() == 0
    network.start()
    assert statuses(network, everything) == {404}
    for key, body in (("large", BODY), ("d/small", SMALL)):  # of S3 nothing is gone
        assert network.boto().get_object(Bucket="shown", Key=key)["Body"].read() == body

    publish(network, "shown", "on")
    wait_published(network, "shown", ["large", "d/small"])
    assert statuses(network, cids) <= {200, 206, 304}
    network.boto().delete_object(Bucket="shown", Key="large")
    assert statuses(network, blocks_of(BODY)) == {404}
    assert statuses(network, blocks_of(SMALL)) <= {200, 206, 304}
    # The same bytes are still there, in private.
    assert network.boto().get_object(Bucket="private", Key="copy")["Body"].read() == BODY
