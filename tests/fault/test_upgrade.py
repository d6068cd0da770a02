"""A data directory of an older release opens: everything in it is there, and life goes on.

tests/vectors/make_data_directory.py made the archive; every key in it is a test key.
"""

import json
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chain import certificate
from chain.application import Application
from chain.genesis import parse
from chain.ledger.lmdb_store import LmdbStore, add_checksums, forget_version_1
from gateway.catalog.interface import Space
from gateway.catalog.record import Place
from gateway.catalog.store import CatalogStore
from tests.clients.running import RunningNetwork
from tests.fault.ledger_tools import everything
from tests.vectors.make_data_directory import OBJECTS, PARTS, body

VECTORS = Path(__file__).parents[1] / "vectors"
ARCHIVES = sorted(VECTORS.glob("data-of-*.tar.xz"))


def unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="tar")


def rows(catalog: Path) -> dict[Space, list[tuple[bytes, bytes]]]:
    """All that the index holds."""
    store = CatalogStore.open(catalog)
    try:
        with store.index.begin() as index:
            found = {space: index.scan(space, b"\x00", None, 10_000) for space in Space}
            found[Space.BODIES] = [(k, Place.unpack(v).pack()) for k, v in found[Space.BODIES]]
            return found
    finally:
        store.close()


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_the_index_that_an_older_release_left_says_what_its_log_says(
    archive: Path, tmp_path: Path
) -> None:
    unpack(archive, tmp_path)
    catalog = tmp_path / "data" / "catalog"
    shutil.copytree(catalog, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "index")
    (tmp_path / "again" / "index-state").unlink()
    found = rows(catalog)
    assert found == rows(tmp_path / "again")
    assert len(found[Space.LIVE]) == 9


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_a_ledger_without_checksums_gets_them_whenever_its_upgrade_is_interrupted(
    archive: Path, tmp_path: Path
) -> None:
    unpack(archive, tmp_path)
    ledger = tmp_path / "data" / "chain" / "ledger"
    genesis = parse((ledger.parent / "genesis.json").read_bytes())
    add_checksums(ledger)
    add_checksums(ledger)  # FORMAT was not written yet
    (ledger / "lmdb").rename(ledger / "lmdb.new")
    add_checksums(ledger)  # the last rename was not made yet
    forget_version_1(ledger)
    store = LmdbStore(ledger / "lmdb")
    try:
        height = Application(store, genesis).info().height
        assert len(everything(store)) > 4 * height > 0
    finally:
        store.close()
    assert sorted(path.name for path in ledger.iterdir()) == ["FORMAT", "lmdb"]


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name)
def network(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[RunningNetwork]:
    folder = tmp_path_factory.mktemp("old")
    unpack(request.param, folder)
    with RunningNetwork(folder, "--pledge", "64MiB", "--workers", "1") as running:
        yield running


def certified(network: RunningNetwork, url: str, path: Path) -> None:
    """Fetch a certificate, once the object's batch is in a block, and verify it offline."""
    end = time.monotonic() + 30
    words = ("object", "certificate", url, "--output", path)
    while network.cumulus(*words, check=False).returncode:
        assert time.monotonic() < end
        time.sleep(0.2)
    verify(network, path)


def verify(network: RunningNetwork, path: Path) -> None:
    genesis = parse((network.data_dir / "chain" / "genesis.json").read_bytes())
    assert certificate.verify(path.read_bytes(), genesis).operation == "put"


def check_objects(s3: Any, known: dict[str, str]) -> None:
    """Everything that the older release took reads as it was."""
    for (bucket, key), size in OBJECTS.items():
        found = s3.get_object(Bucket=bucket, Key=key)
        assert found["Body"].read() == body(key, size)
        assert found["Metadata"].items() >= {"kept": "yes"}.items()
    for key, wanted in (
        ("copy", body("segment", 17_000)),
        ("replaced", body("replaced", 200)),
        ("multipart", b"".join(body(f"part {n}", size) for n, size in enumerate(PARTS, 1))),
    ):
        assert s3.get_object(Bucket="private", Key=key)["Body"].read() == wanted
    assert s3.head_object(Bucket="private", Key="multipart")["ETag"] == known["multipart"]
    listed = {item["Key"] for item in s3.list_objects_v2(Bucket="private")["Contents"]}
    assert listed >= {key for bucket, key in OBJECTS if bucket == "private"} | {"copy"}
    assert "deleted" not in listed


@pytest.mark.network
@pytest.mark.timeout(300)
def test_a_data_directory_of_an_older_release_is_read_written_and_certified(
    network: RunningNetwork, tmp_path: Path
) -> None:
    known = json.loads((network.data_dir / "known.json").read_text())
    s3 = network.boto()
    check_objects(s3, known)
    page = network.curl(f"{network.url('ipfs')}/ipfs/{known['cid']}/page.html")
    assert page == body("page.html", 500)
    deep = network.curl(f"{network.url('ipfs')}/ipfs/{known['cid']}/deep/er/file.bin")
    assert deep == body("deep/er/file.bin", 17_500)
    # What was handed out on request is kept current now, with the same CIDs.
    while json.loads(network.cumulus("ipfs", "status", "open", "--json").stdout)["pending"]:
        time.sleep(0.2)
    state = json.loads(network.cumulus("ipfs", "status", "open", "--json").stdout)
    assert state["cid"] == known["cid"]
    assert "second" in network.cumulus("account", "list").stdout
    verify(network, network.data_dir / "segment.cert")
    certified(network, "s3://private/segment", tmp_path / "again.cert")

    text = b"of the new release"
    upload = {"Bucket": "private", "Key": "begun", "UploadId": known["begun"]}
    (first,) = s3.list_parts(**upload)["Parts"]
    assert first["Size"] == 400
    whole = s3.upload_part(**upload, PartNumber=1, Body=text)["ETag"]
    done = {"Parts": [{"PartNumber": 1, "ETag": whole}]}
    s3.complete_multipart_upload(**upload, MultipartUpload=done)
    assert s3.get_object(Bucket="private", Key="begun")["Body"].read() == text

    s3.put_object(Bucket="private", Key="new", Body=body("new", 300_000))
    certified(network, "s3://private/new", tmp_path / "new.cert")
    s3.delete_object(Bucket="private", Key="replaced")
    assert network.stop() == 0
    network.start()
    s3 = network.boto()
    assert s3.get_object(Bucket="private", Key="new")["Body"].read() == body("new", 300_000)
    s3.put_object(Bucket="private", Key="replaced", Body=body("replaced", 200))
    check_objects(s3, known)
