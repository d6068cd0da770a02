"""rclone copies a tree and checks it."""

import random
from pathlib import Path

import pytest

from tests.clients.running import RunningNetwork, program

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]


def test_copy_then_check_finds_no_difference(network: RunningNetwork, tmp_path: Path) -> None:
    source = tmp_path / "source"
    chance = random.Random(3)
    for number in range(50):
        path = source / f"d{number % 5}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.choice([0, 1, 5000, 70_000, 3 << 20])))
    rclone = program("rclone")
    access, secret = network.keys()
    settings = f"provider=Other,access_key_id={access},secret_access_key={secret}"
    remote = f':s3,{settings},endpoint="{network.url("s3")}":tree'
    trust = ["--ca-cert", str(network.authority)] if network.authority else []
    # Debian's rclone 1.60 refuses to start when the AWS SDK's own variable names an authority.
    alone = ("AWS_CA_BUNDLE",)
    network.run(rclone, "copy", *trust, source, remote, without=alone)
    network.run(rclone, "check", *trust, source, remote, without=alone)
    network.run(rclone, "check", *trust, "--download", source, remote, without=alone)
    network.run(rclone, "purge", *trust, remote, without=alone)
