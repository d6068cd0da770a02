"""Local stream sockets under abuse: dead and returning processes, strangers, deaf callers."""

import asyncio
import signal
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from chain.net import framing, wire
from chain.net.nodes import NodeTransport
from chain.net.rpc import AddressError, Limits
from chain.net.stream_link import WRITE_HIGH
from chain.net.transport import Caller, Handlers, Message, Payload, RemoteError, Unreachable
from tests.fault.served import BROKEN, GOOD, outcome, request, start_server

MIB = 1 << 20


class Size(msgspec.Struct, array_like=True):
    size: int


class Measure(Message[Size], frozen=True):
    data: Payload


class Zeros(msgspec.Struct, array_like=True):
    data: Payload


class Give(Message[Zeros], frozen=True):
    size: int


async def measure(message: Measure, _: Caller) -> Size:
    return Size(len(message.data))


HANDLERS = Handlers().on(Measure, measure)
PLACE = "tests.fault.test_stream_faults"


@pytest.fixture
async def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture
async def asking() -> AsyncIterator[NodeTransport]:
    transport = NodeTransport()
    yield transport
    await transport.close()


@pytest.fixture
async def serving() -> AsyncIterator[NodeTransport]:
    transport = NodeTransport()
    yield transport
    await transport.close()


async def test_a_killed_process_fails_soon_and_works_again_after_its_restart(
    run: Path, asking: NodeTransport
) -> None:
    address = f"ipc://{run}/s.ipc"
    process = start_server(PLACE, address)
    peer = asking.connect(address)
    assert (await peer.ask(Measure(Payload(b"abc")))).size == 3
    process.send_signal(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(outcome(peer.ask(Measure(Payload(b"abc")))))
        await asyncio.sleep(0.05)
        process.kill()
    assert isinstance(asked.result(), Unreachable)
    assert isinstance(await outcome(peer.ask(Measure(Payload(b"abc")))), Unreachable)
    assert loop.time() - before < 2.5
    process.wait(10)
    process = start_server(PLACE, address)
    async with asyncio.timeout(10):
        while isinstance(await outcome(peer.ask(Measure(Payload(b"abc")))), Unreachable):  # noqa: ASYNC110 - a restart announces itself to nobody
            await asyncio.sleep(0.05)
    assert (await peer.ask(Measure(Payload(b"abcd")))).size == 4
    process.terminate()
    assert process.wait(10) == 0


async def test_a_socket_directory_is_private_and_its_path_short(
    run: Path, serving: NodeTransport
) -> None:
    await serving.serve(f"ipc://{run}/new/s.ipc", HANDLERS)
    assert stat.S_IMODE((run / "new").stat().st_mode) == 0o700
    (run / "open").mkdir()
    (run / "open").chmod(0o755)
    with pytest.raises(AddressError, match="mode 0700"):
        await serving.serve(f"ipc://{run}/open/s.ipc", HANDLERS)
    with pytest.raises(AddressError, match="shorter than 100 bytes"):
        await serving.serve(f"ipc://{run}/{'x' * 100}.ipc", HANDLERS)


def message(*frames: bytes) -> bytes:
    return framing.prefix(frames) + b"".join(frames)


async def reply_of(reader: asyncio.StreamReader) -> wire.Head:
    """The next message's head; it has no payloads."""
    async with asyncio.timeout(5):
        count, size = struct.unpack(">BI", await reader.readexactly(5))
        assert count == 1
        return wire.parse_head(await reader.readexactly(size))


async def test_broken_messages_are_answered_or_dropped_and_the_next_works(
    run: Path, serving: NodeTransport
) -> None:
    await serving.serve(f"ipc://{run}/s.ipc", HANDLERS)
    reader, writer = await asyncio.open_unix_connection(run / "s.ipc")
    for frames, code in BROKEN:
        writer.write(message(*frames))
        if code is not None:
            head = await reply_of(reader)
            assert head.kind == wire.ERROR
            assert wire.Codec().decode(wire.Refusal, head.body, ()).code == code
    for byte in message(GOOD, b"abc"):  # the slowest way to say it
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await reply_of(reader)).kind == wire.REPLY
    writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        bytes([framing.FRAMES_MAX + 1]),
        struct.pack(">BI", 1, wire.FRAME_MAX + 1),
        struct.pack(">B6I", 6, *[wire.PAYLOAD_MAX] * 6),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=["no frames", "too many", "too long", "too long in all", "another protocol"],
)
async def test_a_message_that_cannot_be_costs_its_connection_and_nobody_elses(
    run: Path, serving: NodeTransport, asking: NodeTransport, data: bytes
) -> None:
    server = await serving.serve(f"ipc://{run}/s.ipc", HANDLERS)
    peer = asking.connect(server.address)
    assert (await peer.ask(Measure(Payload(b"abc")))).size == 3
    reader, writer = await asyncio.open_unix_connection(run / "s.ipc")
    writer.write(data)
    async with asyncio.timeout(5):
        assert await _rest(reader) == b""
    writer.close()
    assert (await peer.ask(Measure(Payload(b"abcd")))).size == 4


async def test_the_largest_payload_travels_and_a_larger_one_is_refused_here(
    run: Path, serving: NodeTransport, asking: NodeTransport
) -> None:
    server = await serving.serve(f"ipc://{run}/s.ipc", HANDLERS)
    peer = asking.connect(server.address)
    largest = Payload(memoryview(bytes(wire.PAYLOAD_MAX)))
    assert (await peer.ask(Measure(largest))).size == wire.PAYLOAD_MAX
    with pytest.raises(wire.OversizeMessage):
        await peer.ask(Measure(Payload(memoryview(bytes(wire.PAYLOAD_MAX + 1)))))


async def test_forged_late_and_repeated_replies_disturb_nobody(
    run: Path, asking: NodeTransport
) -> None:
    begun = asyncio.Event()
    streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streams.append((reader, writer))
        begun.set()

    async def asked_number(reader: asyncio.StreamReader) -> int:
        _, head, payload = struct.unpack(">BII", await reader.readexactly(9))
        number = wire.parse_head(await reader.readexactly(head)).request
        await reader.readexactly(payload)
        return number

    listener = await asyncio.start_unix_server(connected, run / "s.ipc")
    peer = asking.connect(f"ipc://{run}/s.ipc")
    await begun.wait()
    reader, writer = streams[0]
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(peer.ask(Measure(Payload(b"abc"))))
        number = await asked_number(reader)
        body = wire.Codec().encode(Size(3))[0]
        good = wire.pack_head(wire.REPLY, number, body, 0)
        for reply in (
            b"",
            b"nonsense",
            wire.pack_head(wire.REPLY, number + 9, body, 0),
            good,
            good,
        ):
            writer.write(message(reply))
    assert asked.result() == Size(3)
    async with asyncio.TaskGroup() as group:
        again = group.create_task(outcome(peer.ask(Measure(Payload(b"abc")))))
        number = await asked_number(reader)
        writer.write(message(wire.pack_head(wire.REPLY, number, b"\xc1", 0)))
    ended = again.result()
    assert isinstance(ended, RemoteError)
    assert ended.code == "malformed_reply"
    writer.close()
    listener.close()


async def test_handlers_at_once_are_bounded(run: Path, asking: NodeTransport) -> None:
    running = peak = 0
    gate = asyncio.Event()

    async def slow(message: Measure, _: Caller) -> Size:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await gate.wait()
        running -= 1
        return Size(len(message.data))

    serving = NodeTransport(limits=Limits(handlers=5))
    server = await serving.serve(f"ipc://{run}/s.ipc", Handlers().on(Measure, slow))
    peers = [asking.connect(server.address) for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        asks = [group.create_task(peers[n % 2].ask(Measure(Payload(bytes(n))))) for n in range(100)]
        while running < 5:  # noqa: ASYNC110 - the handlers are polled, not changed
            await asyncio.sleep(0.001)
        gate.set()
    assert [ask.result().size for ask in asks] == list(range(100))
    assert peak == 5
    await serving.close()


async def test_a_caller_that_takes_no_replies_is_not_served_on_and_on(
    run: Path, serving: NodeTransport, asking: NodeTransport
) -> None:
    given = 0

    async def give(message: Give, _: Caller) -> Zeros:
        nonlocal given
        given += message.size
        return Zeros(Payload(bytes(message.size)))

    server = await serving.serve(f"ipc://{run}/s.ipc", Handlers().on(Give, give))
    reader, writer = await asyncio.open_unix_connection(run / "s.ipc", limit=1 << 16)
    ask = request(msgspec.msgpack.encode([MIB]), tag=b"Give")
    for _ in range(200):
        writer.write(message(ask))
        await asyncio.sleep(0.001)
    # What our socket, our reader and the kernel hold, and a read's worth of asks before it stops.
    assert given < WRITE_HIGH + 16 * MIB
    before = given
    assert len((await asking.connect(server.address).ask(Give(5))).data) == 5
    async with asyncio.timeout(20):
        while given < before + 100 * MIB:  # it takes them after all
            await reader.read(MIB)
    writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
