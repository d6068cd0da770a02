"""Claims about IPNS keys of the API: made, used, renewed; nobody else's."""

import random

import pytest

from gateway.catalog.interface import Space
from gateway.ipfs.api.errors import BadCall
from gateway.ipfs.api.naming import duration_ns
from gateway.ipfs.index.directories import Directories
from gateway.ipfs.ipns import record
from gateway.ipfs.ipns.following import roots
from gateway.ipfs.ipns.keybook import KeyBook, KeyBookError
from gateway.ipfs.ipns.keys import Ed25519Key, name_of
from gateway.ipfs.ipns.name import IpnsName
from gateway.ipfs.ipns.renewal import IpnsRenewal
from gateway.jobs import JobRunner
from gateway.model import Attributes
from tests.protocol.ipfs_api import Api
from tests.unit.ipfs_jobs import settle
from tests.unit.object_parts import stream

HOUR = 3600 * 10**9
EMPTY = "/ipfs/bafkqaaa"
SOME = "/ipfs/bafkqaddwgevxmmraojswg33smq"


async def test_a_key_is_made_listed_renamed_and_removed(api: Api) -> None:
    made = await api.ask("key/gen", "site")
    assert made["Name"] == "site"
    assert made["Id"].startswith("k51")
    rsa = await api.ask("key/gen", "old", type="rsa", ipns_base="b58mh")
    assert rsa["Id"].startswith("Qm")
    listed = (await api.ask("key/list"))["Keys"]
    assert [key["Name"] for key in listed] == ["self", "old", "site"]
    assert listed[2] == made
    got = await api.post("key/rename", "site", "old")
    assert "already exists" in got.json()["Message"]
    moved = await api.ask("key/rename", "site", "old", force="true")
    assert moved == {"Was": "site", "Now": "old", "Id": made["Id"], "Overwrite": True}
    assert await api.ask("key/rm", "old") == {"Keys": [{"Name": "old", "Id": made["Id"]}]}
    assert [key["Name"] for key in (await api.ask("key/ls"))["Keys"]] == ["self"]
    for command, *args in (
        ("key/gen", "self"),
        ("key/gen", "a/b"),
        ("key/gen", "x" * 101),
        ("key/rm", "self"),
        ("key/rm", "old"),
        ("key/rename", "self", "x"),
        ("key/rename", "none", "x"),
    ):
        assert (await api.post(command, *args)).status_code == 500, (command, args)
    assert (await api.post("key/gen", "b", type="dsa")).status_code == 500
    assert (await api.post("key/gen", "b", type="rsa", size=1024)).status_code == 500


async def test_a_key_that_goes_out_comes_back_and_lies_sealed_in_between(api: Api) -> None:
    key = Ed25519Key.of_seed(bytes(range(32)))
    sent = {"key": ("key", key.serialised(), "application/octet-stream")}
    kept = await api.ask("key/import", "site", files=sent)
    assert kept["Id"] == str(name_of(key))
    got = await api.post("key/export", "site")
    assert got.content == key.serialised()
    for _, value in api.world.rows(Space.BLOCKS):
        assert key.secret[:32] not in value
    again = await api.post("key/import", "site", files=sent)
    assert "already exists" in again.json()["Message"]
    bad = {"key": ("key", b"\x08\x01\x12\x02ab", "application/octet-stream")}
    assert (await api.post("key/import", "other", files=bad)).status_code == 500
    stranger = KeyBook(api.world.catalog, b"x" * 32, api.world.clock, random.Random(1).randbytes)
    with pytest.raises(KeyBookError, match="another keystore"):
        await stranger.secret(api.world.objects.bucket("ipfs-api"), "site")


async def test_what_is_published_resolves_until_something_else_is(api: Api) -> None:
    key = await api.ask("key/gen", "site")
    said = await api.ask("name/publish", EMPTY, key="site", ttl="1m")
    assert said == {"Name": key["Id"], "Value": EMPTY}
    name = IpnsName.parse(key["Id"])
    first = api.node.keys.records.get(name)
    assert first is not None
    assert (first.sequence, first.ttl_ns) == (0, 60 * 10**9)
    assert first.eol_ns == api.world.clock.now_ns() + 48 * HOUR
    await api.ask("name/publish", SOME, key=key["Id"])
    second = api.node.keys.records.get(name)
    assert second is not None
    assert (second.value, second.sequence) == (SOME, 1)
    for argument in (key["Id"], f"/ipns/{name.peer_id}", f"ipns://{name.cid}"):
        assert await api.ask("name/resolve", argument) == {"Path": SOME}
        assert await api.lines("name/resolve", argument, stream="true") == [{"Path": SOME}]
    # A name may lead to a name; without a key it is the bucket's own.
    await api.ask("name/publish", f"/ipns/{key['Id']}")
    assert await api.ask("name/resolve") == {"Path": SOME}
    own = next(k for k in (await api.ask("key/list"))["Keys"] if k["Name"] == "self")
    once = await api.ask("name/resolve", own["Id"], recursive="false")
    assert once == {"Path": f"/ipns/{key['Id']}"}
    for options in ({"sequence": "1"}, {"sequence": "0"}, {"key": "nobody"}, {"lifetime": "1s"}):
        arguments = {"key": "site"} | options
        assert (await api.post("name/publish", EMPTY, **arguments)).status_code in (400, 500)
    await api.ask("name/publish", EMPTY, key="site", sequence="7", v1compat="false")
    third = api.node.keys.records.get(name)
    assert third is not None
    assert (third.sequence, third.value) == (7, EMPTY)
    missing = "/ipfs/bafkreidfdrlkeq4m4xnxuyx6iae76fdm4wgl5d4xzsb77ixhyqwumhz244"
    assert (await api.post("name/publish", missing, key="site")).status_code == 500
    await api.ask("name/publish", missing, key="site", resolve="false")


async def test_a_token_uses_the_keys_of_its_bucket_only(api: Api) -> None:
    await api.world.objects.configure_bucket("photos", publishes=True)
    _, text = await api.tokens.create(api.world.objects.bucket("photos"))
    await api.ask("key/gen", "site")
    async with api.client(open=True) as http:
        http.headers["Authorization"] = f"Bearer {text}"
        got = await http.post("key/list")
        assert [key["Name"] for key in got.json()["Keys"]] == ["self"]
        for command in (
            "key/export?arg=site",
            "key/rm?arg=site",
            f"name/publish?arg={EMPTY}&key=site",
        ):
            assert (await http.post(command)).status_code == 500


async def test_records_are_signed_anew_before_they_expire_and_not_when_somebody_did(
    api: Api,
) -> None:
    world, book = api.world, api.node.keys
    key = await api.ask("key/gen", "site")
    await api.ask("name/publish", SOME, key="site", lifetime="10h")
    name = IpnsName.parse(key["Id"])
    job = IpnsRenewal(book, lambda _: None, world.clock)

    async def renewed() -> int:
        before = book.records.get(name)
        await JobRunner(job, world.catalog, world.clock).step()
        after = book.records.get(name)
        assert before is not None
        assert after is not None
        return after.eol_ns - before.eol_ns

    assert await renewed() == 0
    world.clock.ns += 4 * HOUR
    assert await renewed() == 0
    world.clock.ns += 2 * HOUR
    assert await renewed() == 6 * HOUR
    kept = book.records.get(name)
    assert kept is not None
    assert (kept.sequence, kept.value) == (0, SOME)
    # The same key published something newer elsewhere: that counts.
    bucket = world.objects.bucket("ipfs-api")
    elsewhere = record.make(
        await book.secret(bucket, "site"), EMPTY, 5, world.clock.now_ns() + HOUR, HOUR
    )
    await book.records.put(name, elsewhere.raw)
    world.clock.ns += HOUR // 2 + 61 * 10**9
    assert await renewed() == 0
    # A bucket that is gone takes its keys along.
    await world.objects.delete_bucket(bucket)
    world.clock.ns += 61 * 10**9
    await JobRunner(job, world.catalog, world.clock).step()
    assert not [row for row in world.rows(Space.BLOCKS) if row[0][:1] == b"\x05"]


async def test_a_name_follows_a_directory_of_its_owner_and_of_nobody_else(api: Api) -> None:
    world, book = api.world, api.node.keys
    await world.objects.configure_bucket("photos", publishes=True)
    bucket, directories = world.objects.bucket("photos"), Directories(world.catalog, world.clock)
    job = IpnsRenewal(book, roots(directories, world.objects.bucket), world.clock)

    async def put(key: str, data: bytes) -> str:
        await world.objects.put(bucket, key, stream(data), Attributes())
        await settle(world)
        pause = await JobRunner(job, world.catalog, world.clock).step()
        assert pause <= 2
        return f"/ipfs/{directories.root(bucket, 'site/')}"

    first = await put("site/index.html", b"first")
    made = await api.ask("name/publish", "s3://photos/site")
    assert made["Value"] == first
    second = await put("site/index.html", b"second")
    assert second != first
    assert await api.ask("name/resolve") == {"Path": second}
    kept = book.records.get(IpnsName.parse(made["Name"]))
    assert kept is not None
    assert kept.sequence == 1
    rows = world.rows(Space.JOBS)
    await JobRunner(job, world.catalog, world.clock).step()
    assert world.rows(Space.JOBS) == rows  # looking costs no commit
    # Elsewhere in the bucket, or gone: the name stays where it was.
    assert await put("other.txt", b"other") == second
    await world.objects.configure_bucket("photos", publishes=False)
    await settle(world)
    world.clock.ns += 61 * 10**9
    await JobRunner(job, world.catalog, world.clock).step()
    again = book.records.get(IpnsName.parse(made["Name"]))
    assert again == kept
    for place in ("s3://photos", "s3://nothing", "s3://"):
        assert (await api.post("name/publish", place)).status_code in (400, 500)
    stranger = await world.accounts.create("Mallory")
    await world.objects.create_bucket(stranger.account, "theirs")
    await world.objects.configure_bucket("theirs", publishes=True)
    got = await api.post("name/publish", "s3://theirs")
    assert "another account" in got.json()["Message"]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0), ("48h", 48 * HOUR), ("1h30m", HOUR * 3 // 2), ("300ms", 3 * 10**8),
        ("1.5s", 15 * 10**8), ("5m0s", 300 * 10**9), ("7us", 7000), ("9ns", 9),
    ],
)  # fmt: skip
def test_durations_are_read_as_go_writes_them(text: str, ns: int) -> None:
    assert duration_ns(text) == ns


@pytest.mark.parametrize("text", ["", "h", "1", "-1h", "1d", "1h x", "1 h", "1h1", "٣h"])
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(BadCall):
        duration_ns(text)
