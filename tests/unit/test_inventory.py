"""Inventories: what is listed, when, where, and that nothing is made twice or forgotten."""

import csv
import gzip
import hashlib
import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.interface import Space
from gateway.errors import SlowDown
from gateway.inventory.job import InventoryJob
from gateway.inventory.listing import period_of, place_of, rows_of, schema
from gateway.inventory.setting import FIELDS, Configuration, Inventory
from gateway.jobs import JobRunner
from gateway.model import ENABLED, Account, Attributes, Bucket, ObjectVersion
from tests.unit.object_parts import World, stream

DAY = 86_400.0


def inventory(**fields: object) -> Inventory:
    made = Inventory("list", True, "lists", "p", False, False, (), "")
    return msgspec.structs.replace(made, **fields)


# ------------------------------------------------------------------ rows
@given(st.text(max_size=20), st.booleans())
def test_rows_come_back_from_csv_whatever_the_key(key: str, versions: bool) -> None:
    bucket = Bucket("photos", bytes(16), Account("ann", "Ann"), 0)
    safe = key.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    made = ObjectVersion(bucket, safe, "v", 1, 7, "tag", 10**18, Attributes(), b"", "small")
    chosen = inventory(fields=FIELDS, versions=versions)
    [row] = csv.reader(io.StringIO(rows_of(chosen, [made]).decode()))
    found = dict(zip(schema(chosen), row, strict=True))
    from urllib.parse import unquote

    assert (found["Bucket"], unquote(found["Key"])) == ("photos", safe)
    assert (found["Size"], found["ETag"]) == ("7", "tag")
    assert found["LastModifiedDate"] == "2001-09-09T01:46:40.000Z"
    assert (found["StorageClass"], found["EncryptionStatus"]) == ("STANDARD", "SSE-S3")


def test_periods_begin_at_midnight_and_on_sundays() -> None:
    now = 1_800_000_000.0  # Friday, 2027-01-15, 08:00
    assert period_of(inventory(), now, DAY) == now - 8 * 3600
    assert period_of(inventory(weekly=True), now, DAY) == now - 8 * 3600 - 5 * DAY


@pytest.mark.parametrize(
    ("prefix", "place"),
    [("", "photos/list/"), ("p", "p/photos/list/"), ("p/", "p/photos/list/")],
)
def test_everything_is_below_the_configuration(prefix: str, place: str) -> None:
    assert place_of(inventory(prefix=prefix), "photos") == place


# ------------------------------------------------------------------ the job
class Listed:
    def __init__(self, world: World) -> None:
        self.world, self.objects = world, world.objects
        job = InventoryJob(world.objects, world.catalog, world.clock, DAY)
        self.runner = JobRunner(job, world.catalog, world.clock)

    async def configure(self, *inventories: Inventory) -> None:
        stored = {one.id: Configuration("", one) for one in inventories}
        bucket = self.objects.bucket("photos")
        await self.objects.set_setting(bucket, "inventory", msgspec.msgpack.encode(stored))

    async def run(self) -> None:
        """A whole pass."""
        for _ in range(10):
            if await self.runner.step():
                return
        raise AssertionError("the pass does not end")

    async def made(self) -> dict[str, bytes]:
        bucket = self.objects.bucket("lists")
        keys = [one.key for one in self.objects.list_objects(bucket).objects]
        return {key: await self.world.read(self.objects.head(bucket, key)) for key in keys}


async def listed(**settings: Any) -> Listed:
    world = await World(**settings).start()
    await world.objects.create_bucket(world.account, "lists")
    return Listed(world)


def table(manifest: dict[str, Any], made: dict[str, bytes]) -> list[dict[str, str]]:
    [file] = manifest["files"]
    data = made[file["key"]]
    assert file["size"] == len(data)
    assert file["MD5checksum"] == hashlib.md5(data).hexdigest()
    columns = manifest["fileSchema"].split(", ")
    text = gzip.decompress(data).decode()
    return [dict(zip(columns, row, strict=True)) for row in csv.reader(io.StringIO(text))]


async def test_an_inventory_has_manifest_checksum_and_rows() -> None:
    test = await listed()
    for key in ("a/1", "a/2", "b"):
        await test.objects.put(test.world.bucket, key, stream(b"xyz"), Attributes())
    await test.configure(inventory(fields=("Size", "StorageClass"), of_prefix="a/"))
    await test.run()
    made = await test.made()
    key = "p/photos/list/2027-01-15T00-00Z/manifest.json"
    manifest = json.loads(made[key])
    digest = made["p/photos/list/2027-01-15T00-00Z/manifest.checksum"]
    assert digest.decode() == hashlib.md5(made[key]).hexdigest()
    assert (manifest["sourceBucket"], manifest["fileFormat"]) == ("photos", "CSV")
    assert manifest["destinationBucket"] == "arn:aws:s3:::lists"
    assert table(manifest, made) == [
        {"Bucket": "photos", "Key": key, "Size": "3", "StorageClass": "STANDARD"}
        for key in ("a/1", "a/2")
    ]


async def test_versions_and_markers_are_listed_when_asked_for() -> None:
    test = await listed()
    bucket = await test.objects.configure_bucket("photos", versioning=ENABLED)
    first = await test.objects.put(bucket, "k", stream(b"1"), Attributes())
    second = await test.objects.put(bucket, "k", stream(b"22"), Attributes())
    await test.objects.delete(bucket, "k")
    await test.configure(inventory(versions=True, fields=("Size", "EncryptionStatus")))
    await test.run()
    made = await test.made()
    rows = table(json.loads(made["p/photos/list/2027-01-15T00-00Z/manifest.json"]), made)
    assert [(row["IsLatest"], row["IsDeleteMarker"], row["Size"]) for row in rows] == [
        ("true", "true", ""), ("false", "false", "2"), ("false", "false", "1"),
    ]  # fmt: skip
    assert [row["VersionId"] for row in rows[1:]] == [second.version_id, first.version_id]


async def test_more_than_a_page_is_listed_whole() -> None:
    test = await listed()
    for number in range(1001):
        await test.objects.put(test.world.bucket, f"k{number:04}", stream(b"1"), Attributes())
    await test.configure(inventory(), inventory(id="all", versions=True))
    await test.run()
    made = await test.made()
    for name in ("list", "all"):
        manifest = json.loads(made[f"p/photos/{name}/2027-01-15T00-00Z/manifest.json"])
        keys = [row["Key"] for row in table(manifest, made)]
        assert keys == [f"k{number:04}" for number in range(1001)]


async def test_one_a_day_and_one_a_week() -> None:
    test = await listed()
    await test.configure(inventory(), inventory(id="weekly", weekly=True),
                         inventory(id="off", enabled=False))  # fmt: skip
    for _ in range(16):  # eight days, looked at twice a day
        await test.run()
        await test.world.clock.sleep(DAY / 2)
    keys = [key for key in await test.made() if key.endswith("manifest.json")]
    assert len([key for key in keys if "/list/" in key]) == 8
    assert len([key for key in keys if "/weekly/" in key]) == 2
    assert not [key for key in keys if "/off/" in key]


async def test_what_failed_half_way_is_made_again_under_the_same_keys() -> None:
    test = await listed()
    await test.objects.put(test.world.bucket, "k", stream(b"1"), Attributes())
    await test.configure(inventory())
    put, calls = test.objects.put, 0

    async def failing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise SlowDown
        return await put(*arguments, **options)

    test.objects.put = failing  # type: ignore[method-assign]
    assert await test.runner.step() > 0
    assert len(await test.made()) == 1
    await test.run()
    assert len(await test.made()) == 3


async def test_a_destination_that_is_not_ones_own_gets_nothing() -> None:
    test = await listed()
    other = (await test.world.accounts.create("Bob", id="bob")).account
    await test.objects.create_bucket(other, "foreign")
    await test.configure(inventory(target="foreign"), inventory(id="none", target="missing"),
                         inventory(id="own"))  # fmt: skip
    await test.run()
    assert not test.objects.list_objects(test.objects.bucket("foreign")).objects
    assert any(key.endswith("manifest.json") for key in await test.made())


async def test_a_network_without_inventories_writes_no_row() -> None:
    test = await listed()
    await test.run()
    assert not [place for place, _ in test.world.rows(Space.JOBS) if place.startswith(b"job/")]
