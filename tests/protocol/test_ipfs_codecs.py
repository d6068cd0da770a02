"""Claims about IPLD data on the gateway: formats, paths within blocks, pages."""

import hashlib
from collections.abc import AsyncIterator

import pytest

from chain.cids import CBOR, DAG_CBOR, DAG_JSON, JSON, RAW, SHA2_256, Cid
from gateway.ipfs.codecs import ipld
from gateway.ipfs.codecs.data_model import Value
from tests.protocol.ipfs_site import IpfsSite

DAG_ROOTS = {
    "json": "baguqeeram5ujjqrwheyaty3w5gdsmoz6vittchvhk723jjqxk7hakxkd47xq",
    "cbor": "bafyreibs4utpgbn7uqegmd2goqz4bkyflre2ek2iwv743fhvylwi4zeeim",
}
PLAIN_ROOTS = {
    "json": "bagaaierajjsnhsxqlgfrvknlt7z2heoljcgfv37cn45tu7mhmr23x3ekiboq",
    "cbor": "bafireif3aymeikgfbofx533yf5vlx4kimzq6zmzmpra2mnzfsfnmv4hchm",
}
UNIXFS = "bafybeiafyvqlazbbbtjnn6how5d6h6l6rxbqc4qgpbmteaiskjrffmyy4a"
KINDS = pytest.mark.parametrize("kind", ["json", "cbor"])
DISPOSITION = {"json": "inline", "cbor": "attachment"}
IMMUTABLE = "public, max-age=29030400, immutable"
MISSING = "bafkreidfdrlkeq4m4xnxuyx6iae76fdm4wgl5d4xzsb77ixhyqwumhz244"
# {"hello": "this is not a link"}, in either codec
HELLO = {
    "json": b'{"hello":"this is not a link"}',
    "cbor": b"\xa1\x65hello\x72this is not a link",
}


def block(codec: int, value: Value) -> tuple[Cid, bytes]:
    data = ipld.encode(codec, value)
    return Cid.of(codec, SHA2_256, hashlib.sha256(data).digest()), data


@pytest.fixture
async def site() -> AsyncIterator[IpfsSite]:
    site = await IpfsSite.start()
    yield site
    await site.stop()


@pytest.fixture
async def known(site: IpfsSite) -> IpfsSite:
    """A site that holds the public fixtures of DAGs."""
    folder = "path_gateway_dag"
    await site.hold(
        f"{folder}/gateway-json-cbor.car",
        f"{folder}/dag-json-traversal.car",
        f"{folder}/dag-cbor-traversal.car",
        f"{folder}/plain-json.car",
        f"{folder}/plain-cbor.car",
    )
    return site


async def test_json_in_a_unixfs_file_stays_a_file_whatever_json_is_asked_for(
    known: IpfsSite,
) -> None:
    cid = await known.at(UNIXFS, "ą", "ę", "t.json")
    data = await known.raw(cid)
    for query, accept in (
        ("", "*/*"),
        ("", "application/json"),
        ("?format=json", "application/vnd.ipld.raw"),
    ):
        for path in (str(cid), f"{UNIXFS}/ą/ę/t.json"):
            got = await known.get(f"/ipfs/{path}{query}", Accept=accept)
            assert (got.status_code, got.content) == (200, data)
            assert got.headers["content-type"] == "application/json"
    text = f"/ipfs/{UNIXFS}/ą/ę/file-źł.txt"
    for kind in ("json", "cbor"):
        for got in (
            await known.get(f"{text}?format={kind}"),
            await known.get(text, Accept=f"application/{kind}"),
        ):
            assert got.content == b"I am a txt file on path with utf8\n"
            assert got.headers["content-type"] == "text/plain; charset=utf-8"


@KINDS
async def test_a_block_of_another_codec_is_not_converted(known: IpfsSite, kind: str) -> None:
    other = {"json": "cbor", "cbor": "json"}[kind]
    file = await known.at(UNIXFS, "ą", "ę", "file-źł.txt")
    for cid, asked in (
        (str(file), f"dag-{kind}"),
        (UNIXFS, f"dag-{kind}"),
        (DAG_ROOTS[kind], f"dag-{other}"),
        (DAG_ROOTS[kind], other),
        (PLAIN_ROOTS[kind], f"dag-{kind}"),
        (PLAIN_ROOTS[kind], f"dag-{other}"),
    ):
        media = f"application/vnd.ipld.{asked}" if "-" in asked else f"application/{asked}"
        for got in (
            await known.get(f"/ipfs/{cid}?format={asked}"),
            await known.get(f"/ipfs/{cid}", Accept=media),
        ):
            assert got.status_code == 406, (cid, asked)
            assert "format=raw" in got.text


@KINDS
async def test_a_plain_codec_is_sent_as_it_is(known: IpfsSite, kind: str) -> None:
    cid = PLAIN_ROOTS[kind]
    data = await known.raw(Cid.parse(cid))
    for query, accept in (("", "*/*"), (f"?format={kind}", "*/*"), ("", f"application/{kind}")):
        got = await known.get(f"/ipfs/{cid}{query}", Accept=accept)
        assert (got.status_code, got.content) == (200, data)
        assert got.headers["content-type"] == f"application/{kind}"
        assert got.headers["etag"] == f'"{cid}.{kind}"'
        named = f'{DISPOSITION[kind]}; filename="{cid}.{kind}"'
        assert got.headers["content-disposition"].startswith(named)
        part = await known.get(f"/ipfs/{cid}{query}", Accept=accept, Range="bytes=3-9")
        assert (part.status_code, part.content) == (206, data[3:10])
        assert part.headers["content-type"] == f"application/{kind}"


@KINDS
async def test_a_dag_block_is_sent_under_its_own_name_and_the_plain_one(
    known: IpfsSite, kind: str
) -> None:
    cid = DAG_ROOTS[kind]
    data = await known.raw(Cid.parse(cid))
    dag = f"application/vnd.ipld.dag-{kind}"
    for query, accept, media in (
        ("", "*/*", dag),
        ("/", "*/*", dag),
        (f"?format=dag-{kind}", "*/*", dag),
        ("", dag, dag),
        (f"?format={kind}", "*/*", f"application/{kind}"),
        ("/", f"application/{kind}", f"application/{kind}"),
    ):
        got = await known.get(f"/ipfs/{cid}{query}", Accept=accept)
        assert (got.status_code, got.content) == (200, data)
        assert got.headers["content-type"] == media
        assert got.headers["content-length"] == str(len(data))
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["cache-control"] == IMMUTABLE
        assert got.headers["x-ipfs-roots"] == cid
        assert (
            got.headers["etag"] == f'"{cid}.{media.rpartition("/")[2].removeprefix("vnd.ipld.")}"'
        )
        named = f'{DISPOSITION[kind]}; filename="{cid}.{kind}"'
        assert got.headers["content-disposition"].startswith(named)
        part = await known.get(f"/ipfs/{cid}{query}", Accept=accept, Range="bytes=5-")
        assert (part.status_code, part.content) == (206, data[5:])
        same = await known.get(
            f"/ipfs/{cid}{query}", Accept=accept, If_None_Match=got.headers["etag"]
        )
        assert (same.status_code, same.content) == (304, b"")


@KINDS
async def test_a_dag_block_can_be_named_and_saved(known: IpfsSite, kind: str) -> None:
    path = f"/ipfs/{DAG_ROOTS[kind]}?filename=foobar.{kind}"
    media = f"application/vnd.ipld.dag-{kind}"
    got = await known.get(path, Accept=media)
    named = f'{DISPOSITION[kind]}; filename="foobar.{kind}"'
    assert got.headers["content-disposition"].startswith(named)
    saved = await known.get(f"{path}&download=true", Accept=media)
    assert saved.headers["content-disposition"].startswith(f'attachment; filename="foobar.{kind}"')


@KINDS
async def test_head_says_what_get_would_send(known: IpfsSite, kind: str) -> None:
    cid = DAG_ROOTS[kind]
    data = await known.raw(Cid.parse(cid))
    for query in ("", f"?format=dag-{kind}"):
        got = await known.get(f"/ipfs/{cid}{query}", "HEAD")
        assert (got.status_code, got.content) == (200, b"")
        assert got.headers["content-type"] == f"application/vnd.ipld.dag-{kind}"
        assert got.headers["content-length"] == str(len(data))
        assert got.headers["etag"] == f'"{cid}.dag-{kind}"'
    missing = await known.get(f"/ipfs/{MISSING}", "HEAD", Cache_Control="only-if-cached")
    assert missing.status_code == 412


@KINDS
async def test_paths_lead_through_links_within_blocks(known: IpfsSite, kind: str) -> None:
    root = DAG_ROOTS[kind]
    got = await known.get(f"/ipfs/{root}/foo/link/bar?format=dag-{kind}")
    assert (got.status_code, got.content) == (200, HELLO[kind])
    # A segment within a block stands for the block.
    roots = got.headers["x-ipfs-roots"].split(",")
    assert roots[:2] == [root, root]
    assert len(roots) == 4
    inside = await known.get(f"/ipfs/{root}/foo?format=dag-{kind}")
    assert inside.status_code == 501
    assert "reading IPLD Kinds other than Links (CBOR Tag 42) is not implemented" in inside.text
    assert (await known.get(f"/ipfs/{root}/foo")).status_code == 501
    for path in ("foo/i-do-not-exist", "foo/link/nor-i", "foo/object/banana/deeper"):
        assert (await known.get(f"/ipfs/{root}/{path}")).status_code == 404
    raw = await known.get(f"/ipfs/{root}/foo?format=raw")
    assert raw.content == await known.raw(Cid.parse(root))


@pytest.mark.parametrize("codec", [DAG_CBOR, DAG_JSON])
async def test_lists_are_followed_by_index_and_links_lead_to_any_codec(
    site: IpfsSite, codec: int
) -> None:
    file = (Cid.of(RAW, SHA2_256, hashlib.sha256(b"text").digest()), b"text")
    inner = block(codec, [1, {"to": file[0]}])
    outer = block(codec, {"a": [None, inner[0]], "/a": inner[0], "": 7})
    await site.put([outer, inner, file])
    got = await site.get(f"/ipfs/{outer[0]}/a/1/1/to")
    assert got.content == b"text"
    assert got.headers["x-ipfs-roots"].split(",") == [
        str(cid) for cid in (outer[0], outer[0], inner[0], inner[0], file[0])
    ]
    for path in ("a/2", "a/-1", "a/x", "a/" + "9" * 40, "a/\u0661", "a/0/x", "b", "a/1/0/x"):
        assert (await site.get(f"/ipfs/{outer[0]}/{path}")).status_code == 404, path
    assert (await site.get(f"/ipfs/{outer[0]}/a/0")).status_code == 501
    car = await site.get(f"/ipfs/{outer[0]}/a/1/1/to?format=car")
    assert all(data in car.content for _, data in (outer, inner, file))


@pytest.mark.parametrize(
    ("codec", "data"),
    [(DAG_CBOR, b"\xff"), (DAG_CBOR, b"\x81" * 5000), (DAG_JSON, b"{"), (JSON, b"["), (CBOR, b"")],
)
async def test_a_block_that_is_not_of_its_codec_is_sent_but_not_walked(
    site: IpfsSite, codec: int, data: bytes
) -> None:
    cid = Cid.of(codec, SHA2_256, hashlib.sha256(data).digest())
    await site.put([(cid, data)])
    assert (await site.get(f"/ipfs/{cid}")).content == data
    assert (await site.get(f"/ipfs/{cid}/a")).status_code == 406


async def test_a_codec_that_nobody_knows_is_had_as_a_block_only(site: IpfsSite) -> None:
    cid = Cid.of(0x9999, SHA2_256, hashlib.sha256(b"x").digest())
    await site.put([(cid, b"x")])
    assert (await site.get(f"/ipfs/{cid}")).status_code == 406
    assert (await site.get(f"/ipfs/{cid}?format=raw")).content == b"x"
