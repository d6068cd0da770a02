"""Shared memory under abuse: dead, late and lying services, broken greetings, no memory left."""

import asyncio
import mmap
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from chain.net import framing, wire
from chain.net.nodes import NodeTransport
from chain.net.shared import Arena, Reference, Room
from chain.net.transport import Caller, Handlers, Message, Payload, RemoteError, Unreachable
from tests.fault.served import outcome, start_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux only")

MIB = 1 << 20


class Filled(msgspec.Struct, array_like=True):
    data: Payload
    lent: bool


class Fill(Message[Filled], frozen=True):
    size: int
    seconds: float = 0.0

    def reply_bytes(self) -> int:
        return self.size


class Size(msgspec.Struct, array_like=True):
    size: int


class Measure(Message[Size], frozen=True):
    data: Payload


async def fill(message: Fill, caller: Caller) -> Filled:
    room = memoryview(bytearray(message.size)) if caller.room is None else caller.room
    data = room[: message.size]
    data[:] = b"a" * message.size
    if message.seconds:
        await asyncio.sleep(message.seconds)
        data[:] = b"z" * message.size
    return Filled(Payload(data), caller.room is not None)


async def measure(message: Measure, _: Caller) -> Size:
    data = message.data.buffer
    assert not (isinstance(data, memoryview) and isinstance(data.obj, mmap.mmap))
    return Size(len(data))


class Watch(Message[Size], frozen=True):
    """As Measure, of bytes that may change."""

    data: Payload
    in_place = True


async def watch(message: Watch, _: Caller) -> Size:
    data = message.data.buffer
    assert isinstance(data, memoryview)
    return Size(len(data) if isinstance(data.obj, mmap.mmap) else 0)


HANDLERS = Handlers().on(Fill, fill).on(Measure, measure).on(Watch, watch)
PLACE = "tests.fault.test_shared_memory_faults"


@pytest.fixture
async def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture
def arena() -> Arena:
    found = Arena.create(32 * MIB, rooms=8 * MIB, limit=32 * MIB)
    assert found is not None
    return found


@pytest.fixture
async def asking(arena: Arena) -> AsyncIterator[NodeTransport]:
    transport = NodeTransport(arena=arena)
    yield transport
    await transport.close()


@pytest.fixture
async def serving() -> AsyncIterator[NodeTransport]:
    transport = NodeTransport()
    yield transport
    await transport.close()


def held(arena: Arena) -> int:
    return os.fstat(arena.fd).st_blocks * 512


async def test_a_service_that_dies_with_lent_memory_takes_nothing_with_it(
    run: Path, asking: NodeTransport, arena: Arena
) -> None:
    address = f"ipc://{run}/s.ipc"
    process = start_server(PLACE, address)
    peer = asking.connect(address)
    assert (await peer.ask(Fill(MIB))).lent
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(outcome(peer.ask(Fill(MIB, 60.0)))) for _ in range(3)]
        await asyncio.sleep(0.2)
        assert held(arena) >= 3 * MIB
        process.send_signal(signal.SIGKILL)
    assert all(isinstance(task.result(), Unreachable) for task in asked)
    process.wait(10)
    asked.clear()
    await asyncio.sleep(0)
    assert held(arena) <= 2 * MIB  # of what it died with nothing is left
    process = start_server(PLACE, address)
    async with asyncio.timeout(10):
        while isinstance(again := await outcome(peer.ask(Fill(MIB))), Unreachable):  # noqa: ASYNC110 - a restart announces itself to nobody
            await asyncio.sleep(0.05)
    assert isinstance(again, Filled)
    assert again.lent
    process.terminate()
    assert process.wait(10) == 0


async def test_a_room_is_not_lent_again_before_a_late_service_is_done_with_it(
    run: Path, serving: NodeTransport, asking: NodeTransport
) -> None:
    server = await serving.serve(f"ipc://{run}/s.ipc", HANDLERS)
    peer = asking.connect(server.address)
    with pytest.raises(Unreachable):
        await peer.ask(Fill(MIB, 0.3), timeout=0.05)
    mine = await peer.ask(Fill(MIB))
    assert mine.lent
    await asyncio.sleep(0.5)  # the late handler has written its room by now
    assert bytes(mine.data.buffer) == b"a" * MIB


async def test_late_answers_free_their_rooms(
    run: Path, serving: NodeTransport, asking: NodeTransport
) -> None:
    server = await serving.serve(f"ipc://{run}/s.ipc", HANDLERS)
    peer = asking.connect(server.address)
    assert (await peer.ask(Fill(4 * MIB - 8192))).lent
    for _ in range(5):  # each time both rooms of the budget
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(outcome(peer.ask(Fill(4 * MIB - 8192, 0.1), timeout=0.02)))
        await asyncio.sleep(0.2)
    assert (await peer.ask(Fill(4 * MIB - 8192))).lent


async def test_without_memory_left_payloads_go_through_the_socket(
    run: Path, serving: NodeTransport, asking: NodeTransport, arena: Arena
) -> None:
    server = await serving.serve(f"ipc://{run}/s.ipc", HANDLERS)
    peer = asking.connect(server.address)
    replies = [await peer.ask(Fill(3 * MIB)) for _ in range(4)]
    assert [reply.lent for reply in replies] == [True, True, False, False]
    assert all(bytes(reply.data.buffer) == b"a" * 3 * MIB for reply in replies)
    replies.clear()
    assert (await peer.ask(Fill(3 * MIB))).lent
    taken = []
    while (memory := arena.take(MIB)) is not None:
        taken.append(memory)
    assert (await peer.ask(Fill(2 * MIB))).data.buffer[:1] == b"a"
    assert (await peer.ask(Measure(Payload(bytes(MIB))))).size == MIB


async def test_connections_leave_no_descriptor_and_no_mapping(
    run: Path, serving: NodeTransport, asking: NodeTransport
) -> None:
    server = await serving.serve(f"ipc://{run}/s.ipc", HANDLERS)

    async def once() -> None:
        peer = asking.connect(server.address)
        assert (await peer.ask(Fill(MIB))).lent
        peer.close()
        await asyncio.sleep(0.01)

    await once()
    before = descriptors(), maps()
    for _ in range(20):
        await once()
    async with asyncio.timeout(5):
        while descriptors() > before[0] or maps() > before[1]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_only_messages_that_stand_it_get_their_payloads_where_the_caller_has_them(
    run: Path, serving: NodeTransport, asking: NodeTransport, arena: Arena
) -> None:
    server = await serving.serve(f"ipc://{run}/s.ipc", HANDLERS)
    peer = asking.connect(server.address)
    memory = arena.take(MIB)
    assert memory is not None
    assert (await peer.ask(Watch(Payload(memory.data)))).size == MIB
    assert (await peer.ask(Measure(Payload(memory.data)))).size == MIB
    assert (await peer.ask(Watch(Payload(memory.data[: 200 << 10])))).size == 0  # short: a copy
    assert (await peer.ask(Watch(Payload(bytearray(MIB))))).size == 0  # through the socket


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def maps() -> int:
    text = Path("/proc/self/maps").read_text()
    return sum("memfd:cumulus" in line for line in text.splitlines())


def greeted(run: Path, data: bytes, shown: list[int]) -> socket.socket:
    link = socket.socket(socket.AF_UNIX)
    link.connect(str(run / "s.ipc"))
    socket.send_fds(link, [data], shown)
    link.setblocking(False)
    return link


async def ended(link: socket.socket) -> bool:
    """Whether the other side ends the connection soon, without a word."""
    try:
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(link, 100) == b""
    except ConnectionResetError:
        return True
    finally:
        link.close()


async def test_broken_greetings_cost_their_connection_and_no_descriptor(
    run: Path, serving: NodeTransport, asking: NodeTransport, arena: Arena
) -> None:
    server = await serving.serve(f"ipc://{run}/s.ipc", HANDLERS)
    peer = asking.connect(server.address)
    assert (await peer.ask(Fill(MIB))).lent
    loose = os.memfd_create("loose")
    os.ftruncate(loose, MIB)
    before = descriptors()
    for data, shown in (
        (b"\0", [arena.fd]),
        (struct.pack(">BQ", 0, arena.size), []),
        (struct.pack(">BQ", 0, arena.size - 4096), [arena.fd]),
        (struct.pack(">BQ", 0, MIB), [loose]),
        (struct.pack(">BQ", 0, arena.size), [loose, arena.fd]),
    ):
        assert await ended(greeted(run, data, shown))
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(str(run / "s.ipc"))
    assert (await peer.ask(Fill(MIB))).lent
    silent.close()
    async with asyncio.timeout(5):
        while descriptors() > before:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    os.close(loose)


@pytest.mark.parametrize(
    "place", [Reference(1 << 62, MIB), Reference(32 * MIB - 1, MIB), Room(32 * MIB, MIB)]
)
@pytest.mark.parametrize("shares", [True, False])
async def test_places_that_are_not_there_cost_their_connection_alone(
    run: Path,
    serving: NodeTransport,
    asking: NodeTransport,
    arena: Arena,
    place: Reference | Room,
    shares: bool,
) -> None:
    server = await serving.serve(f"ipc://{run}/s.ipc", HANDLERS)
    peer = asking.connect(server.address)
    assert (await peer.ask(Fill(MIB))).lent
    payloads = int(isinstance(place, Reference))
    head = wire.pack_head(wire.REQUEST, 1, b"\x91\x00", payloads, tag=b"Measure")
    prefix, parts = framing.pack([head, place])
    data = prefix + b"".join(parts)
    if shares:
        link = greeted(run, struct.pack(">BQ", 0, arena.size), [arena.fd])
        await asyncio.get_running_loop().sock_sendall(link, data)
    else:
        link = greeted(run, data, [])
    assert await ended(link)
    assert (await peer.ask(Fill(MIB))).lent


async def test_a_reply_outside_its_room_is_a_malformed_reply(
    run: Path, asking: NodeTransport
) -> None:
    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readexactly(9))[0] == 0  # the greeting
        count, head, room = struct.unpack(">BII", await reader.readexactly(9))
        number = wire.parse_head(await reader.readexactly(head)).request
        offset = struct.unpack(">Q", await reader.readexactly(8))[0]
        assert (count, room >> 30) == (2, 1)
        body = wire.Codec().encode(Filled(Payload(b""), True))[0]
        answer = wire.pack_head(wire.REPLY, number, body, 1)
        prefix, parts = framing.pack([answer, Reference(offset + 8 * MIB, MIB)])
        writer.write(prefix + b"".join(parts))
        await reader.read()
        writer.close()

    listener = await asyncio.start_unix_server(lie, run / "s.ipc")
    peer = asking.connect(f"ipc://{run}/s.ipc")
    found = await outcome(peer.ask(Fill(MIB)))
    assert isinstance(found, RemoteError)
    assert found.code == "malformed_reply"
    peer.close()
    await asyncio.sleep(0.05)
    listener.close()
