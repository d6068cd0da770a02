"""Claims about MFS on the API port: `files …` over the real object service in memory."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ipfs.api.errors import BadCall
from gateway.ipfs.api.paths import mfs_path
from gateway.ipfs.index.mfs import EMPTY
from gateway.ipfs.index.publish import IpfsPublisher
from tests.protocol.ipfs_api import Api
from tests.unit.object_parts import World

MIB = 1 << 20
EMPTY_CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


async def write(api: Api, path: str, data: bytes, **options: Any) -> None:
    await api.do("files/write", path, files={"data": data}, **({"create": 1} | options))


async def read(api: Api, path: str, **options: Any) -> bytes:
    got = await api.post("files/read", path, **options)
    assert got.status_code == 200, got.text
    return got.content


def packs(api: Api) -> dict[str, int]:
    """The sizes of the bucket's packs."""
    found = api.world.objects.list_objects(api.world.objects.bucket("ipfs-api")).objects
    return {version.key: version.size for version in found}


async def names(api: Api, path: str = "/") -> list[str]:
    return [entry["Name"] for entry in (await api.ask("files/ls", path))["Entries"]]


async def test_a_new_tree_is_the_empty_directory(api: Api) -> None:
    assert str(EMPTY.root) == EMPTY_CID
    stat = await api.ask("files/stat", "/")
    assert (stat["Hash"], stat["Type"], stat["Size"]) == (EMPTY_CID, "directory", 0)
    assert await api.ask("files/ls") == {"Entries": []}
    assert await api.ask("files/flush") == {"Cid": EMPTY_CID}


async def test_files_are_written_listed_read_moved_and_removed(api: Api) -> None:
    await api.do("files/mkdir", "/a/b", parents=True)
    await write(api, "/a/b/hello.txt", b"hello world")
    assert await read(api, "/a/b/hello.txt") == b"hello world"
    assert await read(api, "/a/b/hello.txt", offset=6, count=3) == b"wor"
    listed = await api.ask("files/ls", "/a/b", long=True)
    [entry] = listed["Entries"]
    assert (entry["Name"], entry["Type"], entry["Size"]) == ("hello.txt", 0, 11)
    assert entry["Hash"] == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    assert (await api.ask("files/ls", "/a/b/hello.txt", long=1))["Entries"] == [entry]
    await api.do("files/cp", "/a/b/hello.txt", "/copy")
    await api.do("files/mv", "/a/b", "/c")
    assert await names(api) == ["a", "c", "copy"]
    assert await names(api, "/a") == []
    assert await read(api, "/c/hello.txt") == b"hello world"
    await api.do("files/mv", "/copy", "/c/")
    assert await names(api, "/c") == ["copy", "hello.txt"]
    assert "use -r" in await api.refused("files/rm", "/c")
    await api.do("files/rm", "/c", "/a", recursive=True)
    assert (await api.ask("files/stat", "/"))["Hash"] == EMPTY_CID


async def test_the_tree_is_content_like_any_other(api: Api) -> None:
    await write(api, "/d/f", b"deep", parents=True)
    root = (await api.ask("files/stat", "/"))["Hash"]
    assert (await api.post("cat", f"/ipfs/{root}/d/f")).content == b"deep"
    added = await api.lines("add", files=[("file", ("x/y", b"other"))])
    await api.do("files/cp", f"/ipfs/{added[-1]['Hash']}", "/added")
    assert await read(api, "/added/y") == b"other"
    stat = await api.ask("files/stat", f"/ipfs/{added[-1]['Hash']}", with_local=True)
    assert (stat["Type"], stat["Blocks"], stat["Local"]) == ("directory", 1, True)
    await write(api, "/added/z", b"beside")
    assert await names(api, "/added") == ["y", "z"]
    wrapped = await api.lines("add", files=[("file", ("y", b"other"))], w=1)
    assert added[-1]["Hash"] == wrapped[-1]["Hash"]


async def test_a_write_changes_the_bytes_that_it_says(api: Api) -> None:
    await write(api, "/f", b"0123456789")
    await write(api, "/f", b"ab", offset=3)
    assert await read(api, "/f") == b"012ab56789"
    await write(api, "/f", b"xyz", offset=12)
    assert await read(api, "/f") == b"012ab56789\0\0xyz"
    await write(api, "/f", b"longer", count=4, truncate=True)
    assert await read(api, "/f") == b"long"
    await write(api, "/f", b"", offset=2)
    assert await read(api, "/f") == b"long"
    large = random.Random(3).randbytes(2_500_000)
    await write(api, "/large", large)
    await write(api, "/large", b"in the middle", offset=1_048_570)
    changed = large[:1_048_570] + b"in the middle" + large[1_048_583:]
    assert await read(api, "/large") == changed
    again = await api.ask("add", files={"f": changed}, only_hash=True)
    assert (await api.ask("files/stat", "/large"))["Hash"] == again["Hash"]


async def test_a_write_into_a_large_file_stores_what_it_changes(api: Api) -> None:
    large = random.Random(5).randbytes(9 * MIB + 17)
    await write(api, "/large", large)
    model = bytearray(large)
    for offset, size in ((0, 5), (4 * MIB - 2, 4), (3 * MIB, MIB), (9 * MIB + 17, 9), (7 * MIB, 0)):
        before = packs(api)
        data = random.Random(offset).randbytes(size)
        await write(api, "/large", data, offset=offset)
        model[offset : offset + size] = data
        new = [length for key, length in packs(api).items() if key not in before]
        assert sum(new) < 3 * MIB
    assert await read(api, "/large") == bytes(model)
    again = await api.ask("add", files={"f": bytes(model)}, only_hash=True)
    assert (await api.ask("files/stat", "/large"))["Hash"] == again["Hash"]


async def test_modes_and_times_are_kept(api: Api) -> None:
    await write(api, "/d/f", b"x", parents=True, mode="0600", mtime=1_700_000_000)
    stat = await api.ask("files/stat", "/d/f")
    assert (stat["Mode"], stat["Mtime"]) == ("0600", 1_700_000_000)
    await api.do("files/chmod", "0644", "/d/f")
    await api.do("files/touch", "/d/f", mtime=5, mtime_nsecs=7)
    stat = await api.ask("files/stat", "/d/f")
    assert (stat["Mode"], stat["Mtime"], stat["MtimeNsecs"]) == ("0644", 5, 7)
    await write(api, "/d/f", b"y", offset=1)
    assert (await api.ask("files/stat", "/d/f"))["Mode"] == "0644"
    assert await read(api, "/d/f") == b"xy"
    await write(api, "/raw", b"raw")
    await api.do("files/chmod", "0400", "/raw")
    assert await read(api, "/raw") == b"raw"
    assert (await api.ask("files/stat", "/raw"))["Mode"] == "0400"
    await api.do("files/chmod", "0700", "/d")
    await write(api, "/d/g", b"z")
    await api.do("files/rm", "/d/f")
    stat = await api.ask("files/stat", "/d")
    assert (stat["Mode"], stat["Type"]) == ("0700", "directory")
    await api.do("files/touch", "/d")
    assert (await api.ask("files/stat", "/d"))["Mtime"] == api.world.clock.now_ns() // 10**9


@pytest.mark.parametrize(
    ("command", "args", "options", "message"),
    [
        ("stat", ["/none"], {}, "does not exist"),
        ("stat", ["none"], {}, "leading slash"),
        ("stat", [], {}, "required"),
        ("read", ["/d"], {}, "was not a file"),
        ("read", ["/"], {}, "was not a file"),
        ("read", ["/f"], {"offset": 9}, "past end"),
        ("read", ["/f"], {"offset": -1}, "at least 0"),
        ("read", ["/f/x"], {}, "not under a directory"),
        ("mkdir", ["/d"], {}, "already exists"),
        ("mkdir", ["/"], {}, "already exists"),
        ("mkdir", ["/f"], {"parents": 1}, "already exists"),
        ("mkdir", ["/x/y"], {}, "does not exist"),
        ("mkdir", ["/f/y"], {"parents": 1}, "not under a directory"),
        ("cp", ["/none", "/x"], {}, "does not exist"),
        ("cp", ["/f", "/d"], {}, "already has entry"),
        ("cp", ["/f", "/x/y"], {}, "does not exist"),
        ("cp", ["/f"], {}, "required"),
        ("cp", ["/ipfs/x", "/y"], {}, "invalid cid"),
        ("mv", ["/", "/x"], {}, "root"),
        ("mv", ["/d", "/d/x"], {}, "into itself"),
        ("mv", ["/none", "/x"], {}, "does not exist"),
        ("rm", ["/none"], {}, "does not exist"),
        ("rm", ["/"], {"recursive": 1}, "root"),
        ("chmod", ["x", "/f"], {}, "octal"),
        ("chmod", ["0644", "/none"], {}, "does not exist"),
        ("touch", ["/none"], {}, "does not exist"),
    ],
)
async def test_what_cannot_be_done_is_said_and_changes_nothing(
    api: Api, command: str, args: list[str], options: dict[str, Any], message: str
) -> None:
    await write(api, "/f", b"file")
    await api.do("files/mkdir", "/d")
    before = await api.ask("files/stat", "/")
    assert message in await api.refused(f"files/{command}", *args, **options)
    assert await api.ask("files/stat", "/") == before


async def test_a_write_that_cannot_be_is_said(api: Api) -> None:
    await api.do("files/mkdir", "/d")
    data = {"data": b"x"}
    assert "exist" in await api.refused("files/write", "/f", files=data)
    assert "not a file" in await api.refused("files/write", "/d", files=data, create=1)
    assert "exist" in await api.refused("files/write", "/x/y", files=data, create=1)
    assert "multipart" in await api.refused("files/write", "/f", create=1)
    assert await names(api) == ["d"]


async def test_changes_at_the_same_time_are_all_kept(api: Api) -> None:
    await api.do("files/mkdir", "/d")
    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(write(api, f"/d/{number:02}", b"%d" % number))
    assert await names(api, "/d") == [f"{number:02}" for number in range(12)]
    assert await read(api, "/d/07") == b"7"


async def test_each_bucket_has_a_tree_of_its_own(api: Api) -> None:
    await write(api, "/default", b"1")
    await api.world.objects.configure_bucket("photos", publishes=True)
    _, text = await api.tokens.create(api.world.objects.bucket("photos"))
    headers = {"Authorization": f"Bearer {text}"}
    got = await api.http.post("files/ls", headers=headers)
    assert got.json() == {"Entries": []}


async def test_a_large_directory_is_changed_on_the_way_only(api: Api) -> None:
    many = [f"{number:04d}-{'n' * 200}" for number in range(1200)]
    added = await api.lines("add", files=[("file", (f"d/{name}", b"x")) for name in many])
    await api.do("files/cp", f"/ipfs/{added[-1]['Hash']}", "/d")
    before = packs(api)
    await write(api, "/d/one more", b"y")
    await api.do("files/rm", f"/d/{many[5]}")
    assert await read(api, "/d/one more") == b"y"
    kept = [*many[:5], *many[6:], "one more"]
    assert await names(api, "/d") == kept
    files = [("file", (f"d/{name}", b"x")) for name in kept[:-1]]
    whole = await api.lines("add", files=[*files, ("file", ("d/one more", b"y"))], only_hash=1)
    assert (await api.ask("files/stat", "/d"))["Hash"] == whole[-1]["Hash"]
    new = {key: size for key, size in packs(api).items() if key not in before}
    assert max(new.values()) < 60_000


@given(st.text(alphabet="/.ab\0é", max_size=20))
def test_any_path_is_read_or_refused(text: str) -> None:
    try:
        path = mfs_path(text)
    except BadCall:
        return
    assert all(name not in ("", ".", "..") and "/" not in name for name in path)


WRITES = st.lists(
    st.tuples(st.integers(0, 40), st.binary(max_size=30), st.booleans()), min_size=1, max_size=4
)


@given(WRITES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_writes_do_what_they_do_to_a_file(writes: list[tuple[int, bytes, bool]]) -> None:
    async def play() -> None:
        world = await World(publisher=IpfsPublisher()).start()
        api = Api(world)
        model = bytearray()
        for offset, data, truncate in writes:
            chunks = {"chunker": "size-7"}
            await write(api, "/f", data, offset=offset, truncate=truncate, **chunks)
            if truncate:
                model.clear()
            model += bytes(max(0, offset - len(model)))
            model[offset : offset + len(data)] = data
            assert await read(api, "/f") == bytes(model)
        await api.http.aclose()
        world.objects.close()

    asyncio.run(play())


async def test_writes_into_one_file_at_the_same_time_do_not_mix(api: Api) -> None:
    await write(api, "/f", b"....")
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(api.post("files/write", "/f", files={"d": data}, offset=at))
            for at, data in ((0, b"ab"), (2, b"cd"))
        ]
    done = [task.result().status_code == 200 for task in tasks]
    assert any(done)
    for task, ok in zip(tasks, done, strict=True):
        assert ok or "changed meanwhile" in task.result().text
    assert await read(api, "/f") == (b"ab" if done[0] else b"..") + (b"cd" if done[1] else b"..")
