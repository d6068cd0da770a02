"""Miners' disks fill up under a real network: small file systems of their own, in a namespace."""

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.clients.running import RunningNetwork
from tests.fault.miners_held import holdings

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

SEED = 8
FULL = ("m1", "m2")
DISK = "112m"  # of which a miner leaves 64 MiB to tombstones and its index
SIZES = (70_000, 400_000)
SECONDS = 60.0
MOUNT = 'for d in {disks}; do mount -t tmpfs -o size={size} none "$d" || exit 1; done; exec "$@"'


def may_mount() -> bool:
    """Whether this user may have a mount namespace."""
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class SmallDisks(RunningNetwork):
    """Two of its six miners have disks of their own."""

    def command(self, *options: str) -> list[str]:
        """See RunningNetwork; the mounts end with the network."""
        disks = [self.data_dir / "miners" / name for name in FULL]
        for disk in disks:
            disk.mkdir(parents=True, exist_ok=True)
        mount = MOUNT.format(disks=" ".join(f"'{disk}'" for disk in disks), size=DISK)
        return ["unshare", "-rm", "sh", "-c", mount, "sh", *super().command(*options)]

    def filler(self, name: str) -> Path:
        """A file beside the miner's, seen from outside of the namespace."""
        assert self.process is not None
        inside = (self.data_dir / "miners" / name / "filler").absolute()
        return Path(f"/proc/{self.process.pid}/root{inside}")

    def fill(self, name: str) -> None:
        """Somebody else takes all that is left."""
        with self.filler(name).open("ab", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2


@pytest.fixture
def network(tmp_path: Path) -> Iterator[SmallDisks]:
    if not may_mount():
        pytest.skip("no mount namespace here")
    with SmallDisks(tmp_path, "--pledge", "1GiB", "--workers", "1") as running:
        yield running


def test_writes_go_on_at_quorum_then_are_refused_and_all_recovers_when_disks_have_room(
    network: SmallDisks,
) -> None:
    chance = random.Random(SEED)
    client = network.boto(config=Config(retries={"total_max_attempts": 1}))
    client.create_bucket(Bucket="box")
    bodies: dict[str, bytes] = {}

    def put() -> None:
        key, body = f"k{len(bodies)}", chance.randbytes(chance.choice(SIZES))
        client.put_object(Bucket="box", Key=key, Body=body)
        bodies[key] = body

    def check_reads() -> None:
        for key, body in bodies.items():
            assert client.get_object(Bucket="box", Key=key)["Body"].read() == body, key

    for _ in range(6):
        put()
    assert not holdings(network).problems()

    network.fill("m1")
    for _ in range(6):
        put()
    check_reads()

    network.fill("m2")
    committed = holdings(network, check=False).wanted
    with pytest.raises(ClientError) as refused:
        put()
    error = refused.value.response
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert error["Error"]["Code"] == "SlowDown"
    assert error["Error"]["Message"].startswith("Too few miners take objects now: ")
    check_reads()
    client.put_object(Bucket="box", Key="small", Body=b"in the catalog")
    client.delete_object(Bucket="box", Key="k0")
    del bodies["k0"]

    pids = network.pids()
    for name in FULL:
        network.filler(name).unlink()
    end = time.monotonic() + SECONDS
    staged: set[bytes] = set()
    while True:
        staged |= holdings(network, check=False).wanted - committed
        try:
            put()
            break
        except ClientError:
            assert time.monotonic() < end, network.logs()
            time.sleep(0.2)
    while problems := holdings(network).problems(staged):
        assert time.monotonic() < end, f"{problems}\n{network.logs()}"
        time.sleep(0.5)
    check_reads()
    assert network.pids() == pids, "nothing had to be started again"
