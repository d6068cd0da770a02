"""Claims about the API port, over the real object service in memory."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import NoSuchBucket
from gateway.ipfs.api.call import parse_query
from gateway.ipfs.api.errors import BadCall
from gateway.ipfs.api.multipart import parse_head, parts
from gateway.ipfs.index.tokens import NoSuchToken
from gateway.model import Attributes
from tests.protocol.ipfs_api import Api
from tests.unit.object_parts import stream


async def test_only_post_is_served_and_only_known_commands(api: Api) -> None:
    got = await api.http.get("version")
    assert (got.status_code, got.headers["allow"]) == (405, "POST, OPTIONS")
    for path in ("nothing", "object/new", "version/x", "/other"):
        got = await api.http.post(path)
        assert got.status_code == 404, path
        assert got.json() == {"Message": "404 page not found", "Code": 0, "Type": "error"}
    assert (await api.ask("version"))["Version"]


async def test_it_says_who_it_is(api: Api) -> None:
    told = await api.ask("id")
    assert told["ID"].startswith("12D3KooW")
    assert told["Addresses"] == []
    assert await api.ask("swarm/peers") == {"Peers": []}


async def test_browsers_are_refused_where_no_token_is_needed(api: Api) -> None:
    for header in ("Origin", "Referer"):
        got = await api.http.post("version", headers={header: "http://evil.example"})
        assert (got.status_code, got.json()["Code"]) == (403, 4)
        assert "access-control-allow-origin" not in got.headers
    token = (await api.tokens.create(None))[1]
    headers = {"Origin": "http://evil.example", "Authorization": f"Bearer {token}"}
    assert (await api.http.post("version", headers=headers)).status_code == 403
    got = await api.http.options("version", headers={"Origin": "http://evil.example"})
    assert got.status_code == 403


async def test_elsewhere_a_token_is_needed_until_it_is_revoked(api: Api) -> None:
    async with api.client(open=False) as http:
        token, text = await api.tokens.create(None)
        for wrong in (None, "", "Basic x", "Bearer", f"Bearer {text}x", f"Bearer {'x' * 9999}"):
            headers = {} if wrong is None else {"Authorization": wrong}
            got = await http.post("version", headers=headers)
            assert (got.status_code, got.json()["Type"]) == (403, "error"), wrong
        headers = {"Authorization": f"Bearer {text}", "Origin": "http://app.example"}
        got = await http.post("version", headers=headers)
        assert (got.status_code, got.headers["access-control-allow-origin"]) == (200, "*")
        preflight = await http.options("version", headers={"Origin": "http://app.example"})
        assert preflight.headers["access-control-allow-origin"] == "*"
        await api.tokens.revoke(token.id)
        assert (await http.post("version", headers=headers)).status_code == 403
    with pytest.raises(NoSuchToken):
        await api.tokens.revoke(token.id)


async def test_a_token_ends_with_its_bucket(api: Api) -> None:
    objects = api.world.objects
    bucket = objects.bucket("photos")
    _, text = await api.tokens.create(bucket)
    assert api.tokens.bucket_of(text.encode()) == "photos"
    await objects.delete_bucket(bucket)
    await objects.create_bucket(bucket.owner, "photos")
    assert api.tokens.bucket_of(text.encode()) is None


async def test_the_catalog_holds_no_token(api: Api) -> None:
    _, text = await api.tokens.create(None)
    assert text.encode() not in repr(api.world.catalog.__dict__).encode()
    assert [token.bucket for token in api.tokens.all()] == [""]
    for word in ("", "zz", "00", "0123456789abcdef", "00" * 33):
        with pytest.raises(NoSuchToken):
            await api.tokens.revoke(word)


@given(st.binary(max_size=200))
def test_a_query_is_read_or_refused(query: bytes) -> None:
    try:
        arguments, options = parse_query(query)
    except BadCall:
        return
    assert all("\x00" not in text for text in (*arguments, *options.values()))


def test_a_query_has_bounds() -> None:
    for query in (b"arg=" + b"a" * 40_000, b"arg=a&" * 2_000, b"arg=%zz", b"arg=%ff", b"arg=%00"):
        with pytest.raises(BadCall):
            parse_query(query)
    assert parse_query(b"arg=a%20b+c&x&y=1&y=2") == (("a b c",), {"x": "", "y": "2"})


# ---------------------------------------------------------------------- add and read
HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
SITE = [
    ("file", ("site/index.html", b"<h1>home</h1>", "application/octet-stream")),
    ("file", ("site%2Fa%20b/c+d.txt", b"deep", "application/octet-stream")),
    ("file", ("site%2Fempty", b"", "application/x-directory")),
    ("file", ("site%2Flink", b"a b/c d.txt", "application/symlink")),
]


async def test_hello_world_gets_the_cid_that_everybody_gives_it_and_is_read_back(api: Api) -> None:
    files = {"file": ("hello.txt", b"hello world")}
    added = await api.ask("add", files=files)
    assert added == {"Name": "hello.txt", "Hash": HELLO, "Size": "11"}
    got = await api.post("cat", HELLO)
    assert got.content == b"hello world"
    assert got.headers["x-stream-output"] == "1"
    assert got.headers["x-content-length"] == "11"
    assert (await api.post("cat", f"/ipfs/{HELLO}", offset=6, length=3)).content == b"wor"
    assert (await api.post("cat", HELLO, HELLO, offset=6, length=7)).content == b"worldhe"
    assert (await api.post("cat", HELLO, offset=99)).content == b""
    assert api.world.objects.bucket("ipfs-api").publishes


async def test_the_older_profile_is_had_by_the_cid_version(api: Api) -> None:
    old = await api.ask("add", files={"f": b"hello world"}, cid_version=0)
    assert old["Hash"] == "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"
    assert (await api.post("cat", old["Hash"])).content == b"hello world"


async def test_what_is_only_hashed_is_not_stored(api: Api) -> None:
    added = await api.ask("add", files={"file": b"hello world"}, only_hash=True)
    assert (added["Name"], added["Hash"]) == ("upload", HELLO)
    got = await api.post("cat", HELLO)
    assert (got.status_code, got.json()["Type"]) == (500, "error")


async def test_directories_come_with_their_files_links_and_names(api: Api) -> None:
    lines = await api.lines("add", files=SITE)
    assert [line["Name"] for line in lines] == [
        "site/index.html", "site/a b/c d.txt", "site/link", "site/a b", "site/empty", "site",
    ]  # fmt: skip
    root = lines[-1]["Hash"]
    listed = await api.ask("ls", root)
    entries = {entry["Name"]: entry for entry in listed["Objects"][0]["Links"]}
    assert {name: entry["Type"] for name, entry in entries.items()} == {
        "a b": 1, "empty": 1, "index.html": 2, "link": 4,
    }  # fmt: skip
    assert entries["link"]["Target"] == "a b/c d.txt"
    assert entries["index.html"]["Size"] == 13
    assert (await api.post("cat", f"/ipfs/{root}/a b/c d.txt")).content == b"deep"
    assert (await api.post("cat", root)).json()["Message"] == "this dag node is a directory"
    streamed = await api.lines("ls", root, stream=True)
    assert [line["Objects"][0]["Links"][0] for line in streamed] == list(entries.values())
    resolved = await api.ask("resolve", f"/ipfs/{root}/a b")
    assert resolved == {"Path": f"/ipfs/{lines[3]['Hash']}"}
    refs = await api.lines("refs", root, recursive=True, unique=True)
    assert len(refs) == 5
    edges = await api.lines("refs", root, format="<linkname>")
    assert [line["Ref"] for line in edges] == sorted(entries)


async def test_a_wrapping_directory_has_the_name_of_nothing(api: Api) -> None:
    lines = await api.lines("add", files=[("file", ("a", b"1")), ("file", ("", b"2"))], w=1)
    assert lines[-1]["Name"] == ""
    links = (await api.ask("ls", lines[-1]["Hash"]))["Objects"][0]["Links"]
    assert [link["Name"] for link in links] == ["a", lines[1]["Hash"]]


async def test_a_directory_has_the_cid_of_the_reference_importer(api: Api) -> None:
    files = [("file", ("d/b.txt", b"hello world")), ("file", ("d/a.txt", b"hello"))]
    lines = await api.lines("add", files=files)
    assert lines[-1]["Hash"] == "bafybeihhkdphp56xabmx6dy2u7wqtscklmfyxciwqpc5w6x6yqvwgjecca"


async def test_progress_comes_before_what_was_added(api: Api) -> None:
    data = random.Random(4).randbytes(600_000)
    lines = await api.lines("add", files={"file": ("f", data)}, progress=True)
    told = [line["Bytes"] for line in lines[:-1]]
    assert told == sorted(told)
    assert told[-1] == len(data)
    assert (await api.post("cat", lines[-1]["Hash"])).content == data
    assert await api.lines("add", files={"file": b"x"}, silent=True) == []


async def test_attributes_come_by_field_names_and_options(api: Api) -> None:
    files = [("file?mode=0600&mtime=1700000000&mtime-nsecs=5", ("d/f", b"x"))]
    lines = await api.lines("add", files=files)
    [entry] = (await api.ask("ls", lines[-1]["Hash"]))["Objects"][0]["Links"]
    assert (entry["Mode"], entry["Mtime"], entry["MtimeNsecs"]) == ("0600", 1_700_000_000, 5)
    again = await api.lines("add", files={"file": b"x"}, mode="0600", mtime=1_700_000_000)
    assert again[0]["Hash"] != lines[0]["Hash"]


@pytest.mark.parametrize(
    "options",
    [
        {"cid_version": 2}, {"cid_version": "x"}, {"chunker": "rabin"}, {"chunker": "size-0"},
        {"chunker": "size-9999999"}, {"hash": "md5"}, {"hash": "blake3", "cid_version": 0},
        {"trickle": True}, {"progress": "perhaps"}, {"profile": "x"}, {"mode": "9"},
        {"inline": 1, "inline_limit": 999}, {"mtime": -1}, {"cid_base": "x"},
    ],
)  # fmt: skip
async def test_an_option_that_cannot_be_is_refused_and_nothing_is_stored(
    api: Api, options: dict[str, Any]
) -> None:
    got = await api.post("add", files={"file": b"hello world"}, **options)
    assert got.status_code == 400, got.text
    assert got.json()["Code"] == 1
    assert (await api.post("cat", HELLO)).status_code == 500


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", b""),
        ("text/plain", b"hello"),
        ("multipart/form-data", b"hello"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b"junk"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nhello world"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"x: y\r\n" * 99 + b"\r\n\r\n--b--\r\n"),
        ("multipart/form-data; boundary=" + "b" * 999, b"--b--\r\n"),
        *(
            (
                "multipart/form-data; boundary=b",
                b'--b\r\ncontent-disposition: form-data; name="file%s"; filename="%s"\r\n\r\n'
                b"hello world\r\n--b--\r\n" % head,
            )
            for head in (
                (b"", b"../x"), (b"", b"a%00b"), (b"", b"%ff"), (b"", b"x" * 300),
                (b"", b"a/" * 200 + b"b"), (b"?mode=9", b"a"), (b"?mtime=x", b"a"),
            )
        ),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_form_of_files_is_refused(
    api: Api, content_type: str, body: bytes
) -> None:
    got = await api.http.post("add", content=body, headers={"Content-Type": content_type})
    assert got.status_code == 400, got.text
    assert (await api.post("cat", HELLO)).status_code == 500


async def test_a_file_is_not_also_a_directory(api: Api) -> None:
    for names in (("a", "a/b"), ("a/b", "a"), ("a/b", "a/b/c")):
        files = [("file", (name, b"x")) for name in names]
        assert (await api.post("add", files=files)).status_code == 400


async def test_many_entries_make_a_hamt_that_lists_and_resolves(api: Api) -> None:
    names = [f"{number:04d}-{'n' * 200}" for number in range(1100)]
    lines = await api.lines("add", files=[("file", (f"d/{name}", b"x")) for name in names])
    root = lines[-1]["Hash"]
    assert (await api.post("cat", f"{root}/{names[777]}")).content == b"x"
    links = (await api.ask("ls", root, resolve_type=False))["Objects"][0]["Links"]
    assert [link["Name"] for link in links] == names


# ---------------------------------------------------------------------- blocks
async def test_a_block_is_put_and_got(api: Api) -> None:
    put = await api.ask("block/put", files={"data": b"hello world"})
    assert put == {"Key": HELLO, "Size": 11}
    assert (await api.post("block/get", HELLO)).content == b"hello world"
    assert await api.ask("block/stat", HELLO) == put
    based = await api.ask("block/stat", HELLO, cid_base="base58btc")
    assert based["Key"].startswith("zb2rh")
    for hash_name in ("sha2-512", "blake3", "identity"):
        put = await api.ask("block/put", files={"data": b"hello"}, mhtype=hash_name)
        assert (await api.post("block/get", put["Key"])).content == b"hello"
    node = b"\x0a\x02\x08\x01"
    old = await api.ask("block/put", files={"data": node}, format="v0")
    assert old["Key"] == "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    several = [("data", ("a", b"1")), ("data", ("b", b"2"))]
    assert len(await api.lines("block/put", files=several)) == 2


async def test_a_block_that_cannot_be_is_refused(api: Api) -> None:
    large = {"data": b"x" * ((2 << 20) + 1)}
    assert (await api.post("block/put", files=large)).status_code == 400
    for options in ({"cid_codec": "x"}, {"mhtype": "md5"}, {"mhlen": 20}, {"format": "x"}):
        got = await api.post("block/put", files={"data": b"x"}, **options)
        assert got.status_code == 400
    for cid in ("x", "", "/ipfs/", "/other/x", HELLO[:-1], "/ipns/example.org"):
        assert (await api.post("block/get", cid)).status_code in {400, 500}
    missing = await api.post("block/stat", HELLO)
    assert (missing.status_code, missing.json()["Code"]) == (500, 0)


async def test_a_private_object_is_not_read_by_its_cid(api: Api) -> None:
    bucket = api.world.objects.bucket("photos")
    await api.world.objects.configure_bucket("photos", publishes=True)
    bucket = api.world.objects.bucket("photos")
    await api.world.objects.put(bucket, "k", stream(b"hello world"), Attributes())
    assert (await api.post("cat", HELLO)).content == b"hello world"
    await api.world.objects.configure_bucket("photos", publishes=False)
    for command in ("cat", "block/get", "block/stat", "ls", "refs"):
        assert (await api.post(command, HELLO)).status_code == 500


async def test_a_token_writes_to_its_bucket_and_to_no_other(api: Api) -> None:
    objects = api.world.objects
    _, text = await api.tokens.create(objects.bucket("photos"))
    headers = {"Authorization": f"Bearer {text}"}
    refused = await api.http.post("add", files={"f": b"hello world"}, headers=headers)
    assert refused.status_code == 500
    assert "does not publish" in refused.json()["Message"]
    await objects.configure_bucket("photos", publishes=True)
    added = await api.http.post("add", files={"f": b"hello world"}, headers=headers)
    assert added.json()["Hash"] == HELLO
    assert len(objects.list_objects(objects.bucket("photos")).objects) == 1
    with pytest.raises(NoSuchBucket):
        objects.bucket("ipfs-api")


async def test_another_accounts_bucket_of_the_default_name_is_not_written_to(api: Api) -> None:
    other = await api.world.accounts.create("Eve")
    await api.world.objects.create_bucket(other.account, "ipfs-api")
    await api.world.objects.configure_bucket("ipfs-api", publishes=True)
    got = await api.post("add", files={"f": b"hello world"})
    assert "another account" in got.json()["Message"]


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=60)
def test_any_form_is_read_or_refused(body: bytes, framed: bool) -> None:
    async def read() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"--b\r\n" + body[:99] if framed else body[:99]
            yield body[99:] + b"\r\n--b--\r\n"

        try:
            async for _ in parts("multipart/form-data; boundary=b", pieces()):
                pass
        except BadCall:
            return

    asyncio.run(read())


@given(st.binary(max_size=60), st.binary(max_size=40))
def test_any_head_of_a_part_is_read_or_refused(name: bytes, attributes: bytes) -> None:
    disposition = b'form-data; name="file?' + attributes + b'"; filename="' + name + b'"'
    try:
        part = parse_head({b"content-disposition": disposition})
    except BadCall:
        return
    assert all(name not in ("", ".", "..") and "/" not in name for name in part.path)
