"""An object's IPFS URL, and its CAR checked by a tool of somebody else's."""

import hashlib
import json
import random
import time
from pathlib import Path

import pytest

from chain.cids import RAW, SHA2_512, Cid
from gateway.ipfs.codecs import car, dagpb
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
    archive = tmp_path / "large.tar"
    archive.write_bytes(plain_network.curl(f"{url}?format=tar"))
    plain_network.run(program("tar"), "-x", "-f", archive, "-C", tmp_path)
    assert (tmp_path / cid).read_bytes() == body
    root_of(plain_network, "published")  # directories follow keys, a moment later
    state = json.loads(plain_network.cumulus("ipfs", "status", "published", "--json").stdout)
    assert state["publishes"]
    assert state["objects"] == 1


def root_of(network: RunningNetwork, what: str) -> str:
    """The CID of a bucket, prefix or object, once it is current."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        state = json.loads(network.cumulus("ipfs", "status", what, "--json").stdout)
        if state["cid"] and not state["pending"]:
            return str(state["cid"])
        time.sleep(0.1)
    pytest.fail(f"no CID for {what}: {network.logs()}")


def status_of(network: RunningNetwork, path: str) -> str:
    url = f"{network.url('ipfs')}{path}"
    return network.curl(url, "--no-fail", "-o", "/dev/null", "-w", "%{http_code}").decode()


def test_a_site_is_published_changed_and_taken_back(
    network: RunningNetwork, bucket: str, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    (site / "css").mkdir(parents=True)
    (site / "index.html").write_text("<h1>first</h1>")
    (site / "css" / "a.css").write_text("h1 {}")
    network.cumulus("ipfs", "publish", bucket, "on")
    network.aws("s3", "cp", site, f"s3://{bucket}/www", "--recursive", "--no-progress")
    network.aws("s3", "cp", site / "css" / "a.css", f"s3://{bucket}/other", "--no-progress")
    first = root_of(network, f"s3://{bucket}/www/")
    gateway = network.url("ipfs")
    assert network.curl(f"{gateway}/ipfs/{first}/") == b"<h1>first</h1>"
    assert network.curl(f"{gateway}/ipfs/{root_of(network, bucket)}/www/css/a.css") == b"h1 {}"

    (site / "index.html").write_text("<h1>second</h1>")
    network.aws("s3", "sync", site, f"s3://{bucket}/www", "--no-progress")
    second = root_of(network, f"s3://{bucket}/www/")
    assert second != first
    assert network.curl(f"{gateway}/ipfs/{second}/") == b"<h1>second</h1>"
    assert network.curl(f"{gateway}/ipfs/{second}/css/a.css") == b"h1 {}"
    # The old directory is still there, and what was replaced in it is not.
    assert status_of(network, f"/ipfs/{first}/css/a.css") == "200"
    assert status_of(network, f"/ipfs/{first}/index.html") == "404"

    network.cumulus("ipfs", "publish", bucket, "off")
    for path in (first, second, f"{second}/css/a.css"):
        assert status_of(network, f"/ipfs/{path}") == "404"


def test_one_object_of_a_private_bucket_is_published(network: RunningNetwork, bucket: str) -> None:
    client, body = network.boto(), bucket.encode()  # no other test has the same blocks
    public = {"Metadata": {"ipfs": "publish"}}
    made = client.put_object(Bucket=bucket, Key="public", Body=body, **public)
    cid = made["ResponseMetadata"]["HTTPHeaders"]["x-ipfs-cid"]
    assert cid == cid_of(network, bucket, "public")
    assert network.curl(f"{network.url('ipfs')}/ipfs/{cid}") == body
    client.put_object(Bucket=bucket, Key="private", Body=body + b"!")
    network.cumulus("ipfs", "publish", f"s3://{bucket}/private", "on")
    other = root_of(network, f"s3://{bucket}/private")
    assert status_of(network, f"/ipfs/{other}") == "200"
    network.cumulus("ipfs", "publish", f"s3://{bucket}/private", "off")
    network.cumulus("ipfs", "publish", f"s3://{bucket}/public", "off")
    assert [status_of(network, f"/ipfs/{each}") for each in (cid, other)] == ["404", "404"]


def test_a_private_bucket_has_no_cid(plain_network: RunningNetwork) -> None:
    client = plain_network.boto()
    client.create_bucket(Bucket="private")
    client.put_object(Bucket="private", Key="k", Body=b"a private thing")
    headers = client.head_object(Bucket="private", Key="k")["ResponseMetadata"]["HTTPHeaders"]
    assert "x-amz-meta-cid" not in headers


def test_a_car_of_other_software_is_served_under_its_own_cids(
    plain_network: RunningNetwork, tmp_path: Path
) -> None:
    leaves = [bytes([n]) * 1000 for n in range(3)]
    cids = [Cid.of(RAW, SHA2_512, hashlib.sha512(leaf).digest()) for leaf in leaves]
    node = dagpb.encode([dagpb.Link(cid, "", 1000) for cid in cids], None)
    root = Cid(b"\x12\x20" + hashlib.sha256(node).digest())
    blocks = [(root, node), *zip(cids, leaves, strict=True)]
    whole, partial, broken = (tmp_path / f"{name}.car" for name in ("whole", "partial", "broken"))
    raw = [car.section_head(cid, len(data)) + data for cid, data in blocks]
    whole.write_bytes(car.header([root]) + b"".join(raw))
    partial.write_bytes(car.header([root]) + b"".join(raw[:-1]))
    broken.write_bytes(car.header([root]) + b"".join(raw)[:-1])
    gateway = plain_network.url("ipfs")

    def fetched(cid: Cid) -> bytes:
        return plain_network.curl(f"{gateway}/ipfs/{cid}?format=raw")

    refused = plain_network.cumulus("ipfs", "import-car", partial, check=False)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert str(cids[2]) in refused.stderr
    refused = plain_network.cumulus("ipfs", "import-car", broken, "--partial", check=False)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    plain_network.cumulus("ipfs", "import-car", partial, "--partial")
    assert fetched(root) == node
    assert fetched(cids[0]) == leaves[0]
    absent = f"{gateway}/ipfs/{cids[2]}?format=raw"
    words = ("-s", "-o", "/dev/null", "-w", "%{http_code}", absent)
    assert plain_network.run(program("curl"), *words).stdout == "404"
    said = json.loads(plain_network.cumulus("ipfs", "import-car", whole, "--json").stdout)
    assert [(each["roots"], each["blocks"]) for each in said] == [([str(root)], 4)]
    assert fetched(cids[2]) == leaves[2]
    head = plain_network.boto().head_object(Bucket="ipfs-api", Key=said[0]["key"])
    assert head["ResponseMetadata"]["HTTPHeaders"]["x-amz-meta-cid"] == str(root)
    client = plain_network.boto()
    with pytest.raises(client.exceptions.ClientError) as wrong:
        client.put_object(Bucket="ipfs-api", Key="no", Body=b"no CAR", Metadata={"import": "car"})
    assert wrong.value.response["Error"]["Code"] == "InvalidRequest"
    assert wrong.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert "CAR" in wrong.value.response["Error"]["Message"]
    assert pinned_by_request(plain_network, root)


def test_a_website_has_a_name_that_follows_its_changes_on_hosts_of_its_own(
    plain_network: RunningNetwork, tmp_path: Path
) -> None:
    def cumulus(*words: str) -> str:
        """What `cumulus ipfs …` prints."""
        return plain_network.cumulus("ipfs", *words).stdout.strip()

    client = plain_network.boto()
    client.create_bucket(Bucket="www")
    cumulus("publish", "www", "on")
    client.put_object(Bucket="www", Key="_redirects", Body=b"/old /new.html\n/* /index.html 200")
    cumulus("key", "gen", "site")

    def published(page: bytes) -> tuple[str, str]:
        """(CID of the site, its name) once the page is the site's first."""
        client.put_object(Bucket="www", Key="index.html", Body=page)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            state = json.loads(cumulus("status", "www", "--json"))
            if state["pending"] == 0 and state["objects"] == 2:
                break
            time.sleep(0.1)
        said = cumulus("name", "publish", f"/ipfs/{state['cid']}", "--key", "site")
        return state["cid"], said.split("/ipns/")[1].split(" ")[0]

    port = plain_network.url("ipfs").rpartition(":")[2]

    def page(host: str, path: str = "/", *options: str) -> bytes:
        """A page of a host that this machine's resolver need not know."""
        at = ("--resolve", f"{host}:{port}:127.0.0.1")
        return plain_network.curl(f"http://{host}:{port}{path}", *at, *options)

    first, name = published(b"first")
    assert page(f"{name}.ipns.localhost") == page(f"{first}.ipfs.localhost", "/any") == b"first"
    moved = page(f"{first}.ipfs.localhost", "/old", "-o", "/dev/null", "-w", "%{redirect_url}")
    assert moved.decode() == f"http://{first}.ipfs.localhost:{port}/new.html"
    second, same = published(b"second")
    assert (second != first, same) == (True, name)
    assert page(f"{name}.ipns.localhost") == b"second"
    assert cumulus("name", "resolve", name) == f"/ipfs/{second}"
    record = tmp_path / "site.ipns-record"
    record.write_bytes(
        plain_network.curl(f"{plain_network.url('ipfs')}/ipns/{name}?format=ipns-record")
    )
    assert name in cumulus("import-ipns", name, str(record))
    # The gateway is its own proxy for names that only it knows, by CONNECT too.
    for options in ((), ("--proxytunnel",)):
        got = plain_network.curl(
            f"http://{name}.ipns.localhost/", "--proxy", plain_network.url("ipfs"), *options
        )
        assert got == b"second"
    key = tmp_path / "site.key"
    cumulus("key", "export", "site", str(key))
    assert key.stat().st_mode & 0o777 == 0o600
    cumulus("key", "rm", "site")
    assert cumulus("key", "import", "again", str(key)) == name
    assert f"again  {name}" in cumulus("key", "list")


def pinned_by_request(network: RunningNetwork, cid: Cid) -> bool:
    """Whether a request to the pinning service ends well."""
    service = f"{network.url('ipfs_api')}/psa/pins"
    wanted = json.dumps({"cid": str(cid), "name": "by request"})
    kind = "Content-Type: application/json"
    made = json.loads(network.curl(service, "-H", kind, "-d", wanted))
    end = time.monotonic() + 60
    while time.monotonic() < end:
        said = json.loads(network.curl(f"{service}/{made['requestid']}"))
        if said["status"] not in {"queued", "pinning"}:
            return bool(said["status"] == "pinned")
        time.sleep(0.2)
    return False
