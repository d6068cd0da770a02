"""Makes data-of-RELEASE.tar.xz: a data directory as an older release leaves it.

Run it in a checkout of that release, with this project's virtual environment:

    git worktree add /tmp/old COMMIT && cd /tmp/old
    .../.venv/bin/python .../tests/vectors/make_data_directory.py /tmp/made data-of-RELEASE.tar.xz

The network is small and stops in order. Its bodies are drawn from seeds, so that the archive need
not hold them (tests/fault/test_upgrade.py draws them again). Sealed bytes do not compress: so the
bodies are short, and PART_MIN is lowered for the multipart upload. Every key in it is a test key.
"""

import json
import os
import sys
import tarfile
import time
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path.cwd()))

from tests.clients.running import RunningNetwork

LONG_KEY = "long/" + "k" * 900
# bucket, key -> bytes of the body, which is Random(key).randbytes(size).
OBJECTS = {
    ("private", "empty"): 0,
    ("private", "inline"): 1_000,
    ("private", "segment"): 17_000,
    ("private", LONG_KEY): 10,
    ("open", "page.html"): 500,
    ("open", "deep/er/file.bin"): 17_500,
}
PARTS = (17_000, 300)
SITE = "import sys\nif 'worker' in sys.orig_argv:\n    import gateway.completion as completion\n"
SITE += "    completion.PART_MIN = 1\n"
LEFT_OUT = {"logs", "run", "LOCK", "lock.mdb"}


def body(key: str, size: int) -> bytes:
    """The bytes that belong to a key."""
    return Random(key).randbytes(size)


def fill(network: RunningNetwork) -> dict[str, Any]:
    """Everything that a user of that release could leave behind; what else is to be known."""
    s3 = network.boto()
    for bucket in ("private", "open"):
        s3.create_bucket(Bucket=bucket)
    network.cumulus("ipfs", "publish", "open", "on")
    for (bucket, key), size in OBJECTS.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body(key, size), Metadata={"kept": "yes"})
    s3.put_object(Bucket="private", Key="replaced", Body=b"first")
    s3.put_object(Bucket="private", Key="replaced", Body=body("replaced", 200))
    s3.put_object(Bucket="private", Key="deleted", Body=body("deleted", 17_000))
    s3.delete_object(Bucket="private", Key="deleted")
    s3.copy_object(Bucket="private", Key="copy", CopySource="private/segment")
    target = {"Bucket": "private", "Key": "multipart"}
    upload = s3.create_multipart_upload(**target)["UploadId"]
    tags = []
    for number, size in enumerate(PARTS, 1):
        data = body(f"part {number}", size)
        part = s3.upload_part(**target, UploadId=upload, PartNumber=number, Body=data)
        tags.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": tags})
    begun = s3.create_multipart_upload(Bucket="private", Key="begun")["UploadId"]
    s3.upload_part(
        Bucket="private", Key="begun", UploadId=begun, PartNumber=1, Body=body("begun", 400)
    )
    network.cumulus("account", "create", "second")
    certificate = network.folder / "data" / "segment.cert"
    words = ("object", "certificate", "s3://private/segment", "--output", certificate)
    while network.cumulus(*words, check=False).returncode:
        time.sleep(0.3)  # until its batch stands in a block
    tag = s3.head_object(**target)["ETag"]
    return {"begun": begun, "multipart": tag, "cid": published(network)}


def published(network: RunningNetwork) -> str:
    """The CID of the public bucket's directory, once all is in it."""
    for _ in range(200):
        state = json.loads(network.cumulus("ipfs", "status", "open", "--json").stdout)
        if state["objects"] == 2 and not state["pending"] and state["cid"]:
            return str(state["cid"])
        time.sleep(0.1)
    raise AssertionError(state)


def nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the traces of whoever made it."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def main() -> None:
    """Make the directory named first and the archive named second."""
    folder, archive = Path(sys.argv[1]), Path(sys.argv[2])
    site = folder / "site"
    site.mkdir(parents=True)
    (site / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(site), str(Path.cwd())])
    network = RunningNetwork(folder, "--pledge", "64MiB", "--workers", "1", PYTHONPATH=path)
    network.start()
    try:
        known = fill(network)
        time.sleep(3)  # the indexer, the releaser and the outbox come to an end
    finally:
        code = network.stop()
    assert code == 0
    (network.data_dir / "known.json").write_text(json.dumps(known, indent=1))
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for item in sorted(network.data_dir.rglob("*")):
            relative = item.relative_to(network.data_dir)
            if not set(relative.parts) & LEFT_OUT:
                packed.add(item, f"data/{relative}", recursive=False, filter=nobodys)
    print(archive, archive.stat().st_size)


if __name__ == "__main__":
    main()
