"""Claims about files and directories that are laid out otherwise than ours."""

import hashlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest
from blake3 import blake3

from chain.cids import BLAKE3, DAG_PB, IDENTITY, RAW, SHA2_256, SHA2_512, Cid
from chain.net.transport import Buffer
from gateway.ipfs.codecs import dagpb, unixfs
from gateway.ipfs.codecs.car import CarReader
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.codecs.directory import MURMUR3_X64_64, hash_bytes
from gateway.ipfs.codecs.unixfs import Data, Kind
from gateway.ipfs.web.app import IpfsApp
from gateway.ipfs.web.sending import begun
from gateway.ipfs.web.serving import IpfsConfig
from tests.protocol.ipfs_site import IpfsSite
from tests.unit.object_parts import FakeClock

Blocks = dict[Cid, bytes]


@pytest.fixture
async def site() -> AsyncIterator[IpfsSite]:
    site = await IpfsSite.start()
    yield site
    await site.stop()


class Dag:
    """Blocks, made one on top of the other."""

    def __init__(self) -> None:
        self.blocks: Blocks = {}

    def add(self, block: bytes, codec: int = DAG_PB) -> Cid:
        cid = Cid.of(codec, SHA2_256, hashlib.sha256(block).digest())
        self.blocks[cid] = block
        return cid

    def raw(self, data: bytes) -> Cid:
        return self.add(data, RAW)

    def node(self, data: Data | None, links: Sequence[tuple[str, Cid]] = ()) -> Cid:
        found = [Link(cid, name, 0) for name, cid in links]
        return self.add(dagpb.encode(found, None if data is None else unixfs.encode(data)))

    def file(self, parts: Sequence[tuple[Cid, int]], own: bytes = b"", **more: int) -> Cid:
        sizes = tuple(size for _, size in parts)
        size = more.get("size", len(own) + sum(sizes))
        data = Data(Kind.FILE, own or None, size, sizes)
        return self.node(data, [("", cid) for cid, _ in parts])

    def directory(self, **entries: Cid) -> Cid:
        return self.node(Data(Kind.DIRECTORY), sorted(entries.items()))

    def shard(self, fan_out: int, links: Sequence[tuple[str, Cid]]) -> Cid:
        data = Data(Kind.SHARD, b"\xff", hash_type=MURMUR3_X64_64, fan_out=fan_out)
        return self.node(data, links)

    def hamt(self, fan_out: int, entries: dict[str, Cid], depth: int = 0) -> Cid:
        bits, width = fan_out.bit_length() - 1, len(f"{fan_out - 1:X}")
        slots: dict[int, dict[str, Cid]] = {}
        for name, cid in entries.items():
            hashed = int.from_bytes(hash_bytes(name.encode()), "big")
            slot = hashed >> (64 - bits * (depth + 1)) & (fan_out - 1)
            slots.setdefault(slot, {})[name] = cid
        links = []
        for slot, found in sorted(slots.items()):
            prefix = f"{slot:0{width}X}"
            if len(found) == 1:
                [(name, cid)] = found.items()
                links.append((prefix + name, cid))
            else:
                links.append((prefix, self.hamt(fan_out, found, depth + 1)))
        return self.shard(fan_out, links)

    async def hold(self, site: IpfsSite) -> None:
        await site.put(list(self.blocks.items()))


async def test_a_trickle_file_with_bytes_in_its_nodes_reads_in_order(site: IpfsSite) -> None:
    dag = Dag()
    leaves = [(dag.raw(bytes([65 + i]) * 5), 5) for i in range(6)]
    inner = dag.file(leaves[2:4], own=b"inner")
    deep = dag.file([(dag.file(leaves[4:5], own=b"x"), 6), leaves[5]], own=b"")
    root = dag.file([*leaves[:2], (inner, 15), (deep, 11)], own=b"root")
    await dag.hold(site)
    whole = b"root" + b"AAAAABBBBB" + b"innerCCCCCDDDDD" + b"xEEEEEFFFFF"
    assert (await site.get(f"/ipfs/{root}")).content == whole
    for start in range(0, len(whole), 3):
        for end in (start + 1, start + 7, len(whole)):
            got = await site.get(f"/ipfs/{root}", Range=f"bytes={start}-{end - 1}")
            assert got.content == whole[start:end]
    car = await site.get(f"/ipfs/{root}?format=car")
    assert {cid for cid, _ in CarReader().feed(car.content)} == set(dag.blocks)


async def test_leaves_may_be_dag_pb_of_either_type_and_raw_blocks_of_any_hash(
    site: IpfsSite,
) -> None:
    dag = Dag()
    as_file = dag.node(Data(Kind.FILE, b"file,", 5))
    as_raw = dag.node(Data(Kind.RAW, b"raw,", 4))
    v0 = Cid.from_bytes(as_raw.raw[2:])  # the same block by its CIDv0
    sizeless = dag.node(Data(Kind.RAW, b"sizeless,"))
    sha512 = Cid.of(RAW, SHA2_512, hashlib.sha512(b"long").digest())
    inline = Cid.of(RAW, IDENTITY, b"inline")
    fast = Cid.of(RAW, BLAKE3, blake3(b"fast").digest())
    dag.blocks |= {sha512: b"long", fast: b"fast"}
    parts = [(as_file, 5), (v0, 4), (sizeless, 9), (sha512, 4), (fast, 4), (inline, 6)]
    root = dag.file(parts)
    await dag.hold(site)
    assert (await site.get(f"/ipfs/{root}")).content == b"file,raw,sizeless,longfastinline"
    assert (await site.get(f"/ipfs/{v0}")).content == b"raw,"
    assert (await site.get(f"/ipfs/{sha512}?format=raw")).content == b"long"


async def test_packed_sizes_and_unknown_order_of_fields_are_read(site: IpfsSite) -> None:
    dag = Dag()
    one, two = dag.raw(b"one"), dag.raw(b"twotwo")
    message = b"\x08\x02\x18\x09\x22\x02\x03\x06"  # block sizes as one packed field
    links = dagpb.encode([Link(one, "", 3), Link(two, "", 6)], None)
    root = dag.add(b"\x0a" + bytes([len(message)]) + message + links)
    await dag.hold(site)
    assert (await site.get(f"/ipfs/{root}")).content == b"onetwotwo"


@pytest.mark.parametrize(
    "block",
    [
        "0a02080112330a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        "120968656c6c6f2e7478741806",
        "12330a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be0312096865"
        "6c6c6f2e74787418060a020801",
        "0a250805121c80000000000000000000000000000000000000000000000000000000282230800212350a2401"
        "5512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03120b444668656c6c6f"
        "2e7478741806",
        "12350a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03120b4446"
        "68656c6c6f2e74787418060a250805121c800000000000000000000000000000000000000000000000000000"
        "002822308002",
    ],
)
async def test_data_may_stand_before_the_links_or_behind_them(site: IpfsSite, block: str) -> None:
    dag = Dag()
    dag.raw(b"hello\n")
    root = dag.add(bytes.fromhex(block))
    await dag.hold(site)
    got = await site.get(f"/ipfs/{root}/hello.txt")
    assert (got.status_code, got.content) == (200, b"hello\n")
    assert (await site.get(f"/ipfs/{root}?format=raw")).content.hex() == block


@pytest.mark.parametrize("fan_out", [8, 16, 256, 1024])
async def test_directories_are_found_through_hamts_of_any_fan_out(
    site: IpfsSite, fan_out: int
) -> None:
    dag = Dag()
    entries = {f"file {i}.txt": dag.raw(f"content {i}".encode()) for i in range(60)}
    root = dag.hamt(fan_out, entries)
    await dag.hold(site)
    for name in entries:
        number = name.removeprefix("file ").removesuffix(".txt")
        assert (await site.get(f"/ipfs/{root}/{name}")).text == f"content {number}"
    assert (await site.get(f"/ipfs/{root}/none")).status_code == 404
    page = (await site.get(f"/ipfs/{root}/")).text
    assert all(f">{name}<" in page for name in entries)


async def test_a_link_whose_name_holds_a_slash_is_at_no_path(site: IpfsSite) -> None:
    dag = Dag()
    inner = dag.directory(**{"b.txt": dag.raw(b"nested")})
    root = dag.node(Data(Kind.DIRECTORY), [("a", inner), ("a/b.txt", dag.raw(b"hidden"))])
    await dag.hold(site)
    for path in ("a/b.txt", "a%2Fb.txt"):
        got = await site.get(f"/ipfs/{root}/{path}")
        assert got.content == b"nested"
        assert got.headers["ipfs-uri"] == f"ipfs://{root}/a/b.txt"


async def test_the_time_of_a_file_is_its_last_modified(site: IpfsSite) -> None:
    dag = Dag()
    data = Data(Kind.FILE, b"text", 4, mode=0o644, mtime=(1_600_000_000, 5))
    root = dag.node(data)
    ancient = dag.node(Data(Kind.SYMLINK, b"target", mtime=(1 << 60, 0)))
    await dag.hold(site)
    got = await site.get(f"/ipfs/{root}")
    assert got.headers["last-modified"] == "Sun, 13 Sep 2020 12:26:40 GMT"
    for since, status in (
        ("Sun, 13 Sep 2020 12:26:40 GMT", 304),
        ("Sun, 13 Sep 2020 12:26:39 GMT", 200),
        ("nonsense", 200),
    ):
        again = await site.get(f"/ipfs/{root}", If_Modified_Since=since)
        assert again.status_code == status
    other = {"If_None_Match": '"x"', "If_Modified_Since": "Sun, 13 Sep 2020 12:26:40 GMT"}
    assert (await site.get(f"/ipfs/{root}", **other)).status_code == 200
    assert "last-modified" not in (await site.get(f"/ipfs/{ancient}")).headers


async def test_files_that_contradict_themselves_are_refused(site: IpfsSite) -> None:
    dag = Dag()
    leaf = dag.raw(b"leaf")
    no_sizes = dag.node(Data(Kind.FILE, None, 4), [("", leaf)])
    wrong_size = dag.file([(leaf, 4)], size=5)
    metadata = dag.node(Data(Kind.METADATA, b"x"))
    other_hash = dag.node(Data(Kind.SHARD, b"", hash_type=0x12, fan_out=256))
    odd_fan_out = dag.node(Data(Kind.SHARD, b"", hash_type=MURMUR3_X64_64, fan_out=24))
    shard_of_file = dag.shard(256, [("DF", leaf)])
    no_unixfs = dag.node(None, [("a", leaf)])
    garbage = dag.add(b"\xff\xff")
    await dag.hold(site)
    for cid in (no_sizes, wrong_size, metadata, other_hash, odd_fan_out, no_unixfs, garbage):
        got = await site.get(f"/ipfs/{cid}")
        assert 400 <= got.status_code < 500, got.text
        assert (await site.get(f"/ipfs/{cid}?format=raw")).status_code == 200
    assert (await site.get(f"/ipfs/{shard_of_file}/")).status_code == 406


async def test_a_part_of_another_size_than_was_said_breaks_the_response(site: IpfsSite) -> None:
    dag = Dag()
    root = dag.file([(dag.raw(b"leaf"), 9), (dag.raw(b"more"), 4)])
    await dag.hold(site)
    got = await site.get(f"/ipfs/{root}")
    assert got.status_code >= 400
    assert (await site.get(f"/ipfs/{root}", Range="bytes=9-12")).content == b"more"


async def test_a_small_hamt_that_names_itself_a_million_times_is_refused_soon(
    site: IpfsSite,
) -> None:
    dag = Dag()
    at = dag.shard(256, [("00end", dag.raw(b"x"))])
    for _ in range(20):
        at = dag.shard(256, [(f"{slot:02X}", at) for slot in range(256)])
    folder = dag.directory(bomb=at)
    await dag.hold(site)
    page = await site.get(f"/ipfs/{folder}/bomb/")
    assert page.status_code == 406
    sent = await site.messages(f"/ipfs/{at}?format=car&dag-scope=entity")
    assert sent[-1]["more_body"]  # broken off
    assert len(sent) < 100
    assert (await site.get(f"/ipfs/{at}/name")).status_code in (404, 406)
    car = await site.get(f"/ipfs/{folder}?format=car")  # each block once
    assert len(list(CarReader().feed(car.content))) == len(dag.blocks)


async def test_a_walk_of_too_many_blocks_ends(site: IpfsSite) -> None:
    dag = Dag()
    at = dag.directory(end=dag.raw(b"x"))
    for _ in range(6):
        at = dag.node(Data(Kind.DIRECTORY), [(f"{i:03d}", at) for i in range(100)])
    await dag.hold(site)
    app = IpfsApp(
        site.world.objects, site.world.catalog, IpfsConfig(walk_blocks_max=500), FakeClock()
    )
    sent = await site.messages(f"/ipfs/{at}?format=car&car-dups=y", app)
    assert sent[0]["status"] == 200
    assert sent[-1]["more_body"]  # broken off
    one = await site.messages(f"/ipfs/{at}?format=car", app)
    assert len(list(CarReader().feed(b"".join(m["body"] for m in one[1:])))) == len(dag.blocks)
    empty = dag.file([(dag.file([]), 0)] * 100)
    for _ in range(6):
        empty = dag.file([(empty, 0)] * 100)
    await dag.hold(site)
    assert (await site.get(f"/ipfs/{empty}")).content == b""


async def test_identity_cids_within_each_other_end(site: IpfsSite) -> None:
    cid = Cid.of(RAW, IDENTITY, b"end")
    depth = 0
    while True:
        block = dagpb.encode([Link(cid, "a", 0)], unixfs.DIRECTORY_DATA)
        if len(block) > 128:
            break
        cid, depth = Cid.of(DAG_PB, IDENTITY, block), depth + 1
    assert (await site.get(f"/ipfs/{cid}" + "/a" * depth)).content == b"end"
    assert (await site.get(f"/ipfs/{cid}" + "/a" * 100)).status_code == 404
    too_long = Cid(b"\x01\x55\x00\x81\x01" + bytes(129))
    assert (await site.get(f"/ipfs/{too_long}?format=raw")).status_code == 400


async def test_a_very_deep_dag_is_walked_without_recursion(site: IpfsSite) -> None:
    dag = Dag()
    at = dag.raw(b"x")
    for _ in range(1500):
        at = dag.file([(at, 1)])
    folder = dag.raw(b"y")
    for _ in range(300):
        folder = dag.directory(d=folder)
    await dag.hold(site)
    assert (await site.get(f"/ipfs/{at}")).content == b"x"
    car = await site.get(f"/ipfs/{at}?format=car")
    assert len(list(CarReader().feed(car.content))) == 1501
    assert (await site.get(f"/ipfs/{folder}" + "/d" * 240)).status_code in (200, 301)
    assert (await site.get(f"/ipfs/{folder}" + "/d" * 300)).status_code == 400


async def test_small_blocks_of_a_pack_are_read_a_thousand_at_once(site: IpfsSite) -> None:
    dag = Dag()
    leaves = [(dag.raw(b"%05d" % i * 20), 100) for i in range(1000)]
    root = dag.file(leaves)
    dag.blocks = {root: dag.blocks.pop(root), **dag.blocks}
    await dag.hold(site)
    site.world.pool.reads.clear()
    got = await site.get(f"/ipfs/{root}?format=car")
    assert len(list(CarReader().feed(got.content))) == 1001
    assert len(site.world.pool.reads) < 12


async def test_blocks_with_any_byte_changed_are_never_a_failure_of_ours(site: IpfsSite) -> None:
    rng = random.Random(20)
    good = Dag()
    leaf = good.raw(b"leaf")
    roots = [
        good.file([(leaf, 4), (good.raw(b"more"), 4)], own=b"own"),
        good.directory(a=leaf, b=good.directory(c=leaf)),
        good.hamt(16, {f"n{i}": leaf for i in range(20)}),
        good.node(Data(Kind.SYMLINK, b"target", mtime=(5, 6))),
    ]
    dag = Dag()
    dag.blocks = dict(good.blocks)
    changed = []
    for root in roots:
        for _ in range(40):
            block = bytearray(good.blocks[root])
            block[rng.randrange(len(block))] = rng.randrange(256)
            changed.append(dag.add(bytes(block[: rng.randint(1, 2 * len(block))])))
    await dag.hold(site)
    for cid in changed:
        for path in (f"{cid}", f"{cid}/", f"{cid}/a/c", f"{cid}?format=car&entity-bytes=2:-2"):
            status = (await site.messages(f"/ipfs/{path}"))[0]["status"]
            assert status < 500, (path, good.blocks, dag.blocks[cid].hex())


async def test_small_pieces_are_sent_together_though_their_buffer_is_used_again() -> None:
    async def pieces() -> AsyncGenerator[Buffer, None]:
        buffer = bytearray(1000)
        for number in range(200):
            buffer[:] = bytes([number]) * 1000
            yield memoryview(buffer)

    body, first = await begun(pieces(), -1)
    assert not isinstance(body, bytes)
    sent = [bytes(part) async for part in body]
    assert len(sent[0]) == len(first) >= 1 << 16
    assert len(sent) < 5
    assert b"".join(sent) == b"".join(bytes([number]) * 1000 for number in range(200))
