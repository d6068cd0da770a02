"""An ownership certificate is fetched once and verified without the network."""

import time
from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]


def fetched(network: RunningNetwork, url: str, path: Path) -> bytes:
    """The certificate, once the object's batch stands in a block."""
    end = time.monotonic() + 30
    while True:
        done = network.cumulus("object", "certificate", url, "--output", path, check=False)
        if done.returncode == 0:
            return path.read_bytes()
        assert time.monotonic() < end, done.stderr
        time.sleep(0.3)


def test_a_certificate_verifies_offline_and_no_changed_one_does(
    plain_network: RunningNetwork, tmp_path: Path
) -> None:
    client = plain_network.boto()
    client.create_bucket(Bucket="owned")
    client.put_object(Bucket="owned", Key="deed", Body=b"x" * 300_000)
    path = tmp_path / "deed.cert"
    document = fetched(plain_network, "s3://owned/deed", path)
    genesis = plain_network.data_dir / "chain" / "genesis.json"
    verify = ("object", "certificate", "--verify")
    # No network, no data directory: the file and the trust anchor alone.
    elsewhere = RunningNetwork(tmp_path / "nowhere")
    elsewhere.endpoints = {"s3": "http://127.0.0.1:1"}
    assert elsewhere.cumulus(*verify, path, "--genesis", genesis).returncode == 0
    assert elsewhere.cumulus(*verify, path, check=False).returncode == 1
    changed = tmp_path / "changed.cert"
    for position in range(0, len(document), max(1, len(document) // 12)):
        broken = bytearray(document)
        broken[position] ^= 1
        changed.write_bytes(broken)
        done = elsewhere.cumulus(*verify, changed, "--genesis", genesis, check=False)
        assert done.returncode == 1, position
        assert "Traceback" not in done.stderr
    for text in (b"", b"nonsense", document[:-1], document + b"\0"):
        changed.write_bytes(text)
        done = elsewhere.cumulus(*verify, changed, "--genesis", genesis, check=False)
        assert done.returncode == 1
    elsewhere.end_commands()
