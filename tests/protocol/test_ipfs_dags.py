"""Claims about DAGs, pins, tars and CIDs on the API port, over the object service in memory."""

import gzip
import io
import json
import tarfile
from typing import Any

import pytest

from gateway.ipfs.codecs.car import CarReader
from gateway.ipfs.index.mfs import Mfs
from gateway.ipfs.index.pins import Pins
from gateway.ipfs.index.publish import IpfsPublisher
from tests.protocol.ipfs_api import Api
from tests.unit.object_parts import World

HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
MISSING = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
SITE = [
    ("file", ("site/a.txt", b"hello world")),
    ("file", ("site/b/c.txt", b"deep")),
    ("file", ("site/link", b"a.txt", "application/symlink")),
]


async def put(api: Api, value: Any, **options: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return str((await api.ask("dag/put", files={"f": data}, **options))["Cid"]["/"])


# ---------------------------------------------------------------------- dag
async def test_a_value_is_put_and_got_with_its_links_followed(api: Api) -> None:
    leaf = await put(api, {"name": "leaf", "list": [1, {"deep": True}]})
    # Vectors: made once with npm's @ipld/dag-cbor.
    assert await put(api, {"a": 1}) == "bafyreihltcnuuyqp2jm24aqydpnlj7b6w3ogwrplomrjtg5rifv44mmjey"
    top = await put(api, {"to": {"/": leaf}}, pin=True)
    assert await api.ask("dag/get", top) == {"to": {"/": leaf}}
    assert await api.ask("dag/get", f"/ipfs/{top}/to/name") == "leaf"
    assert await api.ask("dag/get", f"{top}/to/list/1") == {"deep": True}
    resolved = await api.ask("dag/resolve", f"{top}/to/list/0")
    assert resolved == {"Cid": {"/": leaf}, "RemPath": "list/0"}
    raw = await api.post("dag/get", leaf, output_codec="dag-cbor")
    again = await put(api, raw.content, input_codec="dag-cbor", store_codec="dag-json")
    assert await api.ask("dag/get", again) == await api.ask("dag/get", leaf)
    stat = await api.ask("dag/stat", top)
    assert [(s["Cid"], s["NumBlocks"]) for s in stat["DagStats"]] == [(top, 2)]
    assert stat["UniqueBlocks"] == 2
    node = await put(api, {"Links": []}, store_codec="dag-pb")
    assert await api.ask("dag/get", node) == {"Links": []}


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b"not json", {}),
        (b'{"/": "no cid"}', {}),
        (b"{}", {"store_codec": "x"}),
        (b"{}", {"input_codec": "x"}),
        (b"{}", {"store_codec": "dag-pb"}),
        (b"{}", {"hash": "md5"}),
        (b"\xff", {"input_codec": "dag-cbor"}),
        (b"[" * 3000, {}),
    ],
)
async def test_a_value_that_cannot_be_is_refused(
    api: Api, data: bytes, options: dict[str, str]
) -> None:
    got = await api.post("dag/put", files={"f": data}, **options)
    assert got.status_code == 400, got.text


async def test_a_dag_goes_out_as_a_car_and_comes_in_again(api: Api) -> None:
    lines = await api.lines("add", files=SITE)
    root = lines[-1]["Hash"]
    car = (await api.post("dag/export", root)).content
    reader = CarReader()
    blocks = dict(reader.feed(car))
    reader.finish()
    assert [str(cid) for cid in reader.roots or ()] == [root]
    assert len(blocks) == 5
    world = await World(seed=2, publisher=IpfsPublisher()).start()
    other = Api(world)
    imported = await other.lines("dag/import", files={"f": car}, stats=True)
    assert imported[0] == {"Root": {"Cid": {"/": root}, "PinErrorMsg": ""}}
    assert imported[1]["Stats"]["BlockCount"] == 5
    assert (await other.post("cat", f"{root}/b/c.txt")).content == b"deep"
    assert (await other.ask("pin/ls"))["Keys"][root] == {"Type": "recursive"}
    await other.http.aclose()
    world.objects.close()


async def test_a_partial_car_is_stored_and_not_pinned(api: Api) -> None:
    top = await put(api, {"to": {"/": MISSING}})
    assert "not held" in await api.refused("dag/export", MISSING)
    with pytest.raises(AssertionError):  # the reply is never finished: the connection is cut
        await api.post("dag/export", top)
    for bad in (b"", b"no car", b"\x0a\xa1\x67version\x01"):
        got = await api.post("dag/import", files={"f": bad})
        assert got.status_code in {400, 500}
        assert got.json()["Type"] == "error"
    assert (await api.post("dag/import")).status_code == 400


# ---------------------------------------------------------------------- pins
async def test_what_is_added_is_pinned_and_what_is_unpinned_goes(api: Api) -> None:
    root = (await api.lines("add", files=SITE))[-1]["Hash"]
    keys = (await api.ask("pin/ls", type="recursive"))["Keys"]
    assert keys == {root: {"Type": "recursive"}}
    every = (await api.ask("pin/ls"))["Keys"]
    assert every[HELLO] == {"Type": "indirect"}
    assert len(every) == 5
    streamed = await api.lines("pin/ls", stream=True)
    assert {line["Cid"] for line in streamed} == set(every)
    through = await api.ask("pin/ls", HELLO)
    assert through["Keys"][HELLO]["Type"] == f"indirect through {root}"
    assert await api.lines("repo/gc") == []
    assert await api.ask("pin/rm", root) == {"Pins": [root]}
    assert "not pinned" in await api.refused("pin/rm", root)
    gone = {line["Key"]["/"] for line in await api.lines("repo/gc")}
    assert len(gone) == 5
    assert "not held" in await api.refused("cat", HELLO)


async def test_a_pin_has_a_kind_and_a_name(api: Api) -> None:
    root = (await api.lines("add", files=SITE, pin=False))[-1]["Hash"]
    assert await api.ask("pin/ls") == {"Keys": {}}
    assert await api.ask("pin/add", root, name="mine") == {"Pins": [root]}
    named = await api.ask("pin/ls", names=True, type="recursive")
    assert named["Keys"][root] == {"Type": "recursive", "Name": "mine"}
    assert (await api.ask("pin/ls", name="other", type="recursive"))["Keys"] == {}
    await api.ask("pin/add", f"{root}/a.txt", recursive=False)
    assert (await api.ask("pin/ls", type="direct"))["Keys"] == {HELLO: {"Type": "direct"}}
    assert "already pinned recursively" in await api.refused("pin/add", root, recursive=False)
    progress = await api.lines("pin/add", root, progress=True)
    assert progress == [{"Progress": 5}, {"Pins": [root]}]
    assert "pinned recursively" in await api.refused("pin/rm", root, recursive=False)
    other = (await api.lines("add", files=SITE[:1], pin=False))[-1]["Hash"]
    assert await api.ask("pin/update", root, other) == {"Pins": [root, other]}
    assert set((await api.ask("pin/ls", type="recursive"))["Keys"]) == {other}
    verified = await api.lines("pin/verify", verbose=True)
    assert {line["Cid"]: line["Ok"] for line in verified} == {other: True, HELLO: True}


async def test_pins_that_cannot_be_are_refused(api: Api) -> None:
    partial = await put(api, {"to": {"/": MISSING}})
    assert "is missing" in await api.refused("pin/add", partial)
    assert (await api.ask("pin/ls"))["Keys"] == {}
    assert "not held" in await api.refused("pin/add", MISSING)
    assert "invalid type" in await api.refused("pin/ls", type="x")
    assert "is not pinned" in await api.refused("pin/ls", partial)
    assert "required" in await api.refused("pin/add")
    assert "at most" in await api.refused("pin/add", partial, name="n" * 300)
    assert "recursively" in await api.refused("pin/update", partial, partial)


async def test_files_of_the_tree_are_not_collected(api: Api) -> None:
    await api.do("files/write", "/f", files={"f": b"in the tree"}, create=True)
    root = (await api.lines("add", files=SITE))[-1]["Hash"]
    await api.ask("pin/rm", root)
    assert len(await api.lines("repo/gc")) == 5
    assert (await api.post("files/read", "/f")).content == b"in the tree"
    await api.do("files/rm", "/f")
    assert len(await api.lines("repo/gc", quiet=True)) == 0


async def test_a_block_is_removed_unless_a_pin_needs_it(api: Api) -> None:
    root = (await api.lines("add", files=SITE))[-1]["Hash"]
    [line] = await api.lines("block/rm", HELLO)
    assert "pinned via" in line["Error"]
    [line] = await api.lines("block/rm", root)
    assert line["Error"] == "pinned: recursive"
    await api.ask("pin/rm", root)
    assert await api.lines("block/rm", HELLO) == [{"Hash": HELLO}]
    assert (await api.post("block/get", HELLO)).status_code == 500
    [line] = await api.lines("block/rm", HELLO)
    assert "could not find" in line["Error"]
    assert await api.lines("block/rm", HELLO, force=True, quiet=True) == []
    await api.lines("add", files=SITE)
    assert (await api.post("block/get", HELLO)).content == b"hello world"


async def test_a_bucket_tells_what_it_holds(api: Api) -> None:
    assert (await api.ask("repo/stat"))["NumObjects"] == 0
    await api.lines("add", files=SITE)
    stat = await api.ask("repo/stat")
    assert stat["NumObjects"] == 5
    assert stat["RepoSize"] > 300
    local = await api.lines("refs/local")
    assert HELLO in {line["Ref"] for line in local}


async def test_what_is_added_may_go_in_the_tree_too(api: Api) -> None:
    await api.lines("add", files={"f": ("n", b"1")}, to_files="/one")
    await api.lines("add", files={"f": ("n", b"2")}, to_files="/")
    assert (await api.post("files/read", "/one")).content == b"1"
    assert (await api.post("files/read", "/n")).content == b"2"
    got = await api.post("add", files={"f": ("n", b"2")}, to_files="/none/")
    assert "directory" in got.json()["Message"]


# ---------------------------------------------------------------------- tar, cid
async def test_a_directory_is_had_as_a_tar(api: Api) -> None:
    root = (await api.lines("add", files=SITE))[-1]["Hash"]
    got = await api.post("get", root)
    with tarfile.open(fileobj=io.BytesIO(got.content)) as tar:
        names = [member.name for member in tar]
        assert names == [root, f"{root}/a.txt", f"{root}/b", f"{root}/b/c.txt", f"{root}/link"]
        member = tar.extractfile(f"{root}/b/c.txt")
        assert member is not None
        assert member.read() == b"deep"
    packed = await api.post("get", f"{root}/b", archive=True, compress=True)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed.content))) as tar:
        assert tar.getnames() == ["b", "b/c.txt"]
    plain = await api.post("get", f"{root}/a.txt", compress=True, compression_level=9)
    assert gzip.decompress(plain.content) == b"hello world"
    assert (await api.post("get", MISSING)).status_code == 500
    assert (await api.post("get", root, compression_level=10)).status_code == 400


async def test_cids_are_put_in_other_words(api: Api) -> None:
    old = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    new = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    assert (await api.ask("cid/base32", old))["Formatted"] == new
    assert (await api.ask("cid/format", new, v=0))["Formatted"] == old
    for base, mark in (("base16", "f"), ("base36", "k"), ("base58btc", "z")):
        text = (await api.ask("cid/format", old, b=base, v=1))["Formatted"]
        assert text[0] == mark
        assert (await api.ask("cid/format", text, b="base32"))["Formatted"] == new
    assert (await api.ask("cid/format", "x"))["ErrorMsg"]
    assert (await api.ask("cid/format", HELLO, v=0))["ErrorMsg"]
    for name in ("codecs", "hashes", "bases"):
        assert await api.ask(f"cid/{name}")


async def test_a_collection_takes_nothing_that_is_on_its_way(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.lines("add", files={"f": b"the first pin"})
    bucket = api.world.objects.bucket("ipfs-api")
    collected = []
    pin, commit = Pins.add, Mfs._commit

    async def collect() -> None:
        collected.append(await api.node.collector.collect(bucket, grace_ns=0))

    async def pin_late(pins: Pins, *args: Any, **options: Any) -> int:
        await collect()
        return await pin(pins, *args, **options)

    async def commit_late(mfs: Mfs, *args: Any) -> bool:
        await collect()
        return await commit(mfs, *args)

    monkeypatch.setattr(Pins, "add", pin_late)
    monkeypatch.setattr(Mfs, "_commit", commit_late)
    root = (await api.lines("add", files=SITE))[-1]["Hash"]
    value = await put(api, {"a": 1}, pin=True)
    car = (await api.post("dag/export", root)).content
    await api.lines("dag/import", files={"f": car})
    await api.do("files/write", "/d/f", files={"f": b"a file"}, create=True, parents=True)
    assert len(collected) == 4
    assert all(each.packs == 0 for each in collected)
    assert (await api.post("cat", f"{root}/b/c.txt")).content == b"deep"
    assert await api.ask("dag/get", value) == {"a": 1}
    assert (await api.post("files/read", "/d/f")).content == b"a file"
