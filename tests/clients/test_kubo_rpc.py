"""Kubo's RPC as its own JavaScript client and curl use it, with a token for a bucket."""

import json
from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork, node_for

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parent / "kubo_rpc.mjs"


def test_kubos_client_does_all_that_it_can_with_a_token(
    network: RunningNetwork, bucket: str, tree: Path
) -> None:
    node = node_for(SCRIPT)
    network.cumulus("ipfs", "publish", bucket, "on")
    made = json.loads(
        network.cumulus("ipfs", "token", "create", "--bucket", bucket, "--json").stdout
    )
    said = network.run_with_keys(
        node,
        SCRIPT,
        IPFS_API=network.url("ipfs_api"),
        TOKEN=made["text"],
        TREE=str(tree),
        FILE="d/large.bin",
    )
    cid = said.split()[1]
    page = network.curl(f"{network.url('ipfs')}/ipfs/{cid}/index.html")
    assert page == b"<h1>home</h1>"
    listed = json.loads(network.cumulus("ipfs", "token", "list", "--json").stdout)
    assert made["token"] in listed["tokens"]
    network.cumulus("ipfs", "token", "revoke", made["token"]["id"])
    header = f"Authorization: Bearer {made['text']}"
    url = f"{network.url('ipfs_api')}/api/v0/version"
    status = network.curl(url, "-X", "POST", "-H", header, "--no-fail", "-w", "%{http_code}")
    assert status.endswith(b"403")


def test_curl_adds_and_reads_on_the_machine_itself(
    plain_network: RunningNetwork, tree: Path
) -> None:
    api = f"{plain_network.url('ipfs_api')}/api/v0"
    large = tree / "d" / "large.bin"
    added = json.loads(plain_network.curl(f"{api}/add?pin=false", "-F", f"file=@{large}"))
    assert added["Name"] == "large.bin"
    got = plain_network.curl(f"{api}/cat?arg={added['Hash']}", "-X", "POST")
    assert got == large.read_bytes()
    origin = ("-H", "Origin: http://evil.example")
    status = plain_network.curl(
        f"{api}/version", "-X", "POST", *origin, "--no-fail", "-w", "%{http_code}"
    )
    assert status.endswith(b"403")
    assert plain_network.boto().list_objects_v2(Bucket="ipfs-api")["KeyCount"] >= 1
