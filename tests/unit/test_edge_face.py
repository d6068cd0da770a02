"""Claims about the edge's ZeroMQ face: messages, limits, fall-back, a whole node."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdn.cli import main
from cdn.client import EdgeClient
from cdn.config import EdgeConfig, parse_size
from cdn.errors import ConfigError
from cdn.node import EdgeNode
from cdn.protocol import EdgeStatus, ReadSegment, parse_read, read_message
from cdn.segments import EdgeCache
from cdn.service import EdgeService, SegmentService
from chain.clock import SystemClock
from chain.ids import AccountId
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.net.nodes import NodeTransport
from chain.net.transport import Peer, RemoteError
from miner.segments import SegmentSource, SegmentUnavailable
from tests.conformance.segment_source_suite import (
    SEGMENTS,
    MemorySource,
    SegmentSourceSuite,
    make_segment,
)


class ManualClock(SystemClock):
    now = 0.0

    def monotonic(self) -> float:
        return self.now


async def peer_of(source: SegmentSource, network: MemoryNetwork) -> Peer:
    transport = MemoryTransport(network)
    await transport.serve("memory://edge", SegmentService(source).handlers())
    return transport.connect("memory://edge")


class TestEdgeClientOverMemory(SegmentSourceSuite):
    @pytest.fixture
    async def source(self) -> SegmentSource:
        cache = EdgeCache(MemorySource(SEGMENTS), ram_bytes=16 << 20)
        return EdgeClient(await peer_of(cache, MemoryNetwork()), None, SystemClock())


class TestEdgeNodeOverZeroMq(SegmentSourceSuite):
    @pytest.fixture
    async def source(self, tmp_path: Path) -> AsyncIterator[SegmentSource]:
        transport = NodeTransport()
        origin = f"ipc://{tmp_path}/run/origin"
        await transport.serve(origin, SegmentService(MemorySource(SEGMENTS)).handlers())
        config = EdgeConfig(tmp_path, f"ipc://{tmp_path}/run/edge", origin, ram_bytes=2 << 20)
        stop, ready = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            node = EdgeNode(config, transport, SystemClock())
            group.create_task(node.run(stop, ready))
            await ready.wait()
            yield EdgeClient(transport.connect(node.address), None, SystemClock())
            stop.set()
        await transport.close()


async def test_a_silent_edge_is_left_alone_and_the_source_behind_answers() -> None:
    network, clock = MemoryNetwork(), ManualClock()
    edge, behind = MemorySource(SEGMENTS), MemorySource(SEGMENTS)
    peer = await peer_of(edge, network)
    client = EdgeClient(peer, behind, clock, timeout=0.05)
    segment, data = SEGMENTS[1]

    async def read() -> None:
        assert [bytes(b) for b in await client.read(segment, [(3, 9)])] == [data[3:9]]

    await read()
    assert (len(edge.asked), len(behind.asked)) == (1, 0)
    network.silence("edge")
    for _ in range(5):
        await read()
    assert (len(edge.asked), len(behind.asked)) == (2, 5)  # one ask it took and never answered
    network.unsilence("edge")
    await read()
    assert len(edge.asked) == 2
    clock.now += 1.01
    await read()
    assert (len(edge.asked), len(behind.asked)) == (3, 6)


async def test_an_edge_that_cannot_read_is_stepped_over_but_asked_again() -> None:
    edge, behind = MemorySource([]), MemorySource(SEGMENTS)
    client = EdgeClient(await peer_of(edge, MemoryNetwork()), behind, ManualClock())
    segment, data = SEGMENTS[1]
    for _ in range(2):
        assert [bytes(b) for b in await client.read(segment, [(0, 5)])] == [data[:5]]
    assert len(edge.asked) == 2


async def test_too_many_reads_at_once_are_refused() -> None:
    source = MemorySource(SEGMENTS)
    source.gate = asyncio.Event()
    transport = MemoryTransport(MemoryNetwork())
    await transport.serve("memory://edge", SegmentService(source, reads_max=2).handlers())
    peer = transport.connect("memory://edge")
    message = read_message(SEGMENTS[0][0], [(0, 1)], verify=False)
    async with asyncio.TaskGroup() as group:
        first = [group.create_task(peer.ask(message)) for _ in range(2)]
        for _ in range(10):
            await asyncio.sleep(0)
        with pytest.raises(RemoteError, match="Busy"):
            await peer.ask(message)
        source.gate.set()
    assert all(bytes(task.result().ranges[0].buffer) == SEGMENTS[0][1] for task in first)


async def test_an_edge_tells_what_it_holds() -> None:
    cache = EdgeCache(MemorySource(SEGMENTS), ram_bytes=16 << 20)
    transport = MemoryTransport(MemoryNetwork())
    await transport.serve("memory://edge", EdgeService(cache).handlers())
    peer = transport.connect("memory://edge")
    for _ in range(3):
        await peer.ask(read_message(SEGMENTS[1][0], [(0, 100_003)], verify=False))
    state = await peer.ask(EdgeStatus())
    assert (state.misses, state.ram_hits, state.ram_used) == (2, 1, 100_003)
    assert state.hit_bytes == 100_003


@pytest.mark.parametrize(
    "change",
    [
        {"profile": "unheard"},
        {"length": 0},
        {"length": 1 << 40},
        {"fragments": b"x" * 31},
        {"ranges": []},
        {"ranges": [(0, 1)] * 65},
        {"ranges": [(5, 4)]},
        {"ranges": [(-1, 4)]},
        {"ranges": [(0, 1 << 30)]},
        {"length": 32 << 20, "ranges": [(0, (8 << 20) + 1)]},
        {"length": 32 << 20, "ranges": [(0, 8 << 20)] * 7},
    ],
)
async def test_a_request_beyond_the_limits_is_a_bad_request(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "profile": "small", "length": 100_003,
        "fragments": b"".join(SEGMENTS[1][0].fragments), "ranges": [(0, 5)],
    }  # fmt: skip
    peer = await peer_of(MemorySource(SEGMENTS), MemoryNetwork())
    with pytest.raises(RemoteError) as refused:
        await peer.ask(ReadSegment(**good | change))
    assert refused.value.code == "BadRequest"


@given(
    st.builds(
        ReadSegment,
        st.sampled_from(["small", "mirror", "", "x"]),
        st.integers(-(2**63), 2**63),
        st.binary(max_size=200) | st.just(b"i" * 192),
        st.lists(st.tuples(st.integers(-9, 2**60), st.integers(-9, 2**60)), max_size=70),
        st.booleans(),
    )
)
@settings(max_examples=100)
def test_any_request_is_parsed_or_refused(message: ReadSegment) -> None:
    try:
        segment = parse_read(message)
    except RemoteError:
        return
    assert segment.profile.name == message.profile
    assert all(0 <= s <= e <= segment.length for s, e in message.ranges)


async def test_an_edge_without_a_fall_back_says_unavailable() -> None:
    client = EdgeClient(await peer_of(MemorySource([]), MemoryNetwork()), None, SystemClock())
    with pytest.raises(SegmentUnavailable):
        await client.read(make_segment(5, 10)[0], [(0, 10)])


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("64MiB", 64 << 20), ("8G", 8 << 30), ("10GB", 10**10)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5G", "12XB", "1 GiB", "9" * 20, "٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_size(text)


@pytest.mark.parametrize(
    "change",
    [
        {"listen": "http://x"},
        {"origin": "y"},
        {"origin": "tcp://h:1"},
        {"max_bytes": -1},
        {"ram_bytes": 1},
    ],
)
def test_a_wrong_option_is_refused_at_the_door(tmp_path: Path, change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"data_dir": tmp_path, "listen": "tcp://h:2", "origin": "ipc:///x/y"}
    assert EdgeConfig(**good, readers=frozenset({AccountId(b"r" * 32)})).max_bytes > 0
    with pytest.raises(ConfigError):
        EdgeConfig(**good | change)


async def test_the_process_serves_and_stops_on_sigterm(tmp_path: Path) -> None:
    transport = NodeTransport()
    origin = f"ipc://{tmp_path}/run/origin"
    await transport.serve(origin, SegmentService(MemorySource(SEGMENTS)).handlers())
    listen = f"ipc://{tmp_path}/run/edge"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cdn", "--data-dir", str(tmp_path / "data"), "--listen", listen,
        "--origin", origin, "--max-bytes", "16MiB",
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):  # a loaded machine takes its time to start Python
            while not (tmp_path / "run" / "edge").exists():
                assert process.returncode is None
                await asyncio.sleep(0.05)
        peer = transport.connect(listen)
        segment, data = SEGMENTS[1]
        reply = await peer.ask(read_message(segment, [(0, 100)], verify=False))
        assert bytes(reply.ranges[0].buffer) == data[:100]
        assert (await peer.ask(EdgeStatus())).disk_max == 16 << 20
    finally:
        process.terminate()
        code = await process.wait()
        await transport.close()
    assert code == 0


def test_wrong_options_end_with_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = ["--data-dir", str(tmp_path), "--listen", "ipc:///x/y", "--origin", "ipc:///x/z"]
    for wrong in (
        ["--origin", "h:1"],
        ["--max-bytes", "lots"],
        ["--reader", "12"],
        ["--listen", "nowhere"],
    ):
        with pytest.raises(SystemExit) as end:
            main([*good, *wrong])
        assert end.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
