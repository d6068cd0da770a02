"""Claims about `[ipfs] offline = false`: what a gateway reads of blocks that another one holds.

The other one is a gateway of the same kind, over a real socket.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from chain.cids import DAG_PB, RAW, Cid
from chain.clock import SystemClock
from chain.net.http import serve
from gateway.ipfs.codecs import dagpb, unixfs
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.foreign.blocks import FetchFailed, ForeignBlocks
from gateway.ipfs.foreign.trustless import TrustlessGateway
from gateway.ipfs.index.deny_files import DenyFiles
from gateway.ipfs.web.app import IpfsApp
from gateway.ipfs.web.serving import IpfsConfig
from tests.protocol.ipfs_site import IpfsSite
from tests.protocol.test_ipfs_protection import (
    FILE,
    FILE_CID,
    INNER,
    INNER_CID,
    LEAF_CIDS,
    LEAVES,
    ROOT,
    ROOT_CID,
    body,
    cid_of,
)
from tests.unit.object_parts import FakeClock

TEXT = b"".join(LEAVES)
ALL = [(ROOT_CID, ROOT), (INNER_CID, INNER), (FILE_CID, FILE), *zip(LEAF_CIDS, LEAVES, strict=True)]


class Elsewhere(TrustlessGateway):
    """Notes what it is asked for; `wrong` is what it sends instead."""

    asked: list[Cid]
    wrong: bytes | None = None

    async def block(self, cid: Cid) -> bytes:
        self.asked.append(cid)
        return await super().block(cid) if self.wrong is None else self.wrong


class Two:
    """`here` holds nothing and fetches from `there`, which holds ALL and fetches from itself."""

    def __init__(self, here: IpfsSite, there: IpfsSite, source: Elsewhere) -> None:
        self.here, self.there, self.source = here, there, source
        self.foreign = ForeignBlocks([source])
        self.app = self.gateway()

    def gateway(
        self, deny: DenyFiles | None = None, of: IpfsSite | None = None, **config: Any
    ) -> IpfsApp:
        world, clock = (of or self.here).world, FakeClock()
        parts = world.objects, world.catalog, IpfsConfig(**config), clock
        return IpfsApp(*parts, deny=deny, foreign=self.foreign)

    async def get(self, path: str, app: IpfsApp | None = None, **headers: str) -> tuple[int, bytes]:
        pairs = [(name.replace("_", "-").encode(), v.encode()) for name, v in headers.items()]
        sent = await self.here.messages(f"/ipfs/{path}", app or self.app, headers=pairs)
        return sent[0]["status"], body(sent)


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    here, there = await IpfsSite.start(), await IpfsSite.start()
    await there.put(ALL)
    listener, stop = socket.create_server(("127.0.0.1", 0)), asyncio.Event()
    threads = ThreadPoolExecutor(2)
    source = Elsewhere(f"http://127.0.0.1:{listener.getsockname()[1]}", threads, SystemClock())
    source.asked = []
    two = Two(here, there, source)
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(cast("Any", two.gateway(of=there)), [listener], stop=stop))
        yield two
        stop.set()
    threads.shutdown()
    await here.stop()
    await there.stop()


async def test_what_is_not_here_is_read_from_elsewhere_in_every_form(two: Two) -> None:
    assert await two.get(f"{ROOT_CID}/inner/file") == (200, TEXT)
    assert await two.get(f"{FILE_CID}", range="bytes=13-18") == (206, TEXT[13:19])
    assert await two.get(f"{LEAF_CIDS[1]}?format=raw") == (200, LEAVES[1])
    status, listing = await two.get(f"{ROOT_CID}/inner/", accept="text/html")
    assert (status, b">file</a>" in listing) == (200, True)
    theirs = await two.there.get(f"/ipfs/{ROOT_CID}?format=car")
    assert await two.get(f"{ROOT_CID}?format=car") == (200, theirs.content)


async def test_what_was_fetched_is_in_memory_only_and_asked_for_once(two: Two) -> None:
    for _ in range(2):
        assert await two.get(f"{FILE_CID}") == (200, TEXT)
    assert sorted(map(str, two.source.asked)) == sorted(map(str, [FILE_CID, *LEAF_CIDS]))
    assert not any(two.here.index.is_known(cid.multihash) for cid, _ in ALL)
    assert (await two.here.get(f"/ipfs/{FILE_CID}")).status_code == 404  # a gateway that is offline
    small = ForeignBlocks([two.source], bytes_kept=len(FILE))
    two.source.asked.clear()
    for cid in (FILE_CID, FILE_CID, LEAF_CIDS[0], FILE_CID):
        await small.block(cid)
    assert two.source.asked == [FILE_CID, LEAF_CIDS[0], FILE_CID]
    shared = ForeignBlocks([two.source], bytes_kept=len(FILE))
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(shared.block(FILE_CID))
    two.source.asked.clear()
    await shared.block(FILE_CID)
    assert two.source.asked == []


async def test_what_is_here_is_not_asked_for(two: Two) -> None:
    await two.here.put(ALL)
    assert await two.get(f"{ROOT_CID}/inner/file") == (200, TEXT)
    assert two.source.asked == []


async def test_only_if_cached_and_other_gateways_requests_fetch_nothing(two: Two) -> None:
    status, _ = await two.get(f"{FILE_CID}", cache_control="max-age=1, only-if-cached")
    assert status == 412
    status, _ = await two.get(f"{FILE_CID}", via="1.1 proxy, 1.1 cumulus")
    assert status == 404
    assert two.source.asked == []
    nobody = cid_of(b"held by nobody", RAW)
    assert (await two.get(f"{nobody}"))[0] == 502
    assert two.source.asked == [nobody]


async def test_a_block_on_a_denylist_is_not_fetched(two: Two, tmp_path: Path) -> None:
    rules = tmp_path / "list.deny"
    rules.write_text(f"/ipfs/{LEAF_CIDS[0]}\n")
    denying = two.gateway(DenyFiles([rules], FakeClock()))
    assert (await two.get(f"{LEAF_CIDS[0]}", denying))[0] == 410
    assert (await two.get(f"{FILE_CID}", denying))[0] == 410
    assert LEAF_CIDS[0] not in two.source.asked


async def test_other_bytes_than_the_cids_are_never_served(two: Two) -> None:
    two.source.wrong = b"something else"
    status, said = await two.get(f"{FILE_CID}")
    assert status == 502
    assert b"other bytes" in said
    two.source.wrong = None
    with pytest.raises(FetchFailed):
        await two.foreign.block(cid_of(b"held by nobody", RAW))
    assert await two.get(f"{FILE_CID}") == (200, TEXT)  # a failure is not remembered


async def test_a_request_fetches_so_much_and_waits_so_long(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ipfs.index.reader.FETCHED_BYTES_MAX", len(FILE) + len(LEAVES[0]))
    assert (await two.get(f"{FILE_CID}"))[0] == 504
    assert (await two.get(f"{LEAF_CIDS[1]}"))[0] == 200
    data = unixfs.encode(unixfs.Data(unixfs.Kind.FILE, size=1, block_sizes=(1,)))
    file = dagpb.encode([Link(cid_of(b"x", RAW), "", 1)], data)
    await two.here.put([(cid_of(file, DAG_PB), file)])

    async def never(cid: Cid) -> bytes:
        await asyncio.Event().wait()
        return cid.raw

    monkeypatch.setattr(two.source, "block", never)
    hasty = two.gateway(timeout=0.05)
    assert (await two.get(str(cid_of(file, DAG_PB)), hasty))[0] == 504
