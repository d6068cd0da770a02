"""Many asks of all sizes right after connecting, while servers come and go: none is forgotten."""

import asyncio
import random
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.asyncio

from chain.net import wire
from chain.net.rpc import Asks, Limits, Window
from chain.net.stream import StreamTransport
from chain.net.transport import (
    Caller,
    Handlers,
    Message,
    Payload,
    Peer,
    RemoteError,
    Reply,
    Transport,
    Unreachable,
)
from chain.net.zeromq import ZeroMqTransport

ROOT = Path(__file__).parents[2]


class Size(msgspec.Struct, array_like=True):
    size: int


class Weigh(Message[Size], frozen=True):
    data: Payload
    text: bytes


class Fail(Message[Size], frozen=True):
    pass


async def weigh(message: Weigh, _: Caller) -> Size:
    await asyncio.sleep(0)
    return Size(len(message.data) + len(message.text))


HANDLERS = Handlers().on(Weigh, weigh)
SERVER = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from chain.net.stream import StreamTransport
from tests.fault.test_transport_stress import HANDLERS

async def main():
    transport = StreamTransport()
    await transport.serve(sys.argv[2], HANDLERS)
    print("up", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def outcome(peer: Peer, message: Message[Reply], timeout: float = 30) -> str:  # noqa: ASYNC109
    try:
        await peer.ask(message, timeout=timeout)
    except Unreachable as error:
        return str(error).partition(": ")[2]
    except RemoteError as error:
        return error.code
    return "ok"


async def ask_around(address: str, seed: int, stop: asyncio.Event) -> Counter[str]:
    """New connections all the time; a few asks on each, alone and many at once."""
    chance = random.Random(seed)
    transport, seen = carrier(address), Counter[str]()

    def message() -> Weigh:
        sizes = (0, 1, 300, 5_000, 70_000, 1_000_000)
        return Weigh(Payload(bytes(chance.choice(sizes))), bytes(chance.choice(sizes[:5])))

    while not stop.is_set():
        peer = transport.connect(address)
        for _ in range(chance.randrange(1, 6)):
            async with asyncio.TaskGroup() as group:
                many = chance.choice((1, 1, 1, 30))
                tasks = [group.create_task(outcome(peer, message())) for _ in range(many)]
            seen.update(task.result() for task in tasks)
        peer.close()
    await transport.close()
    return seen


def carrier(address: str) -> Transport:
    """What carries messages to this address, without keys."""
    return StreamTransport() if address.startswith("ipc://") else ZeroMqTransport(plain=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def local(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"ipc://{tmp_path_factory.mktemp('run')}/s.ipc"


@pytest.fixture(params=["ipc", "tcp"])
def address(request: pytest.FixtureRequest, local: str) -> str:
    return local if request.param == "ipc" else f"tcp://127.0.0.1:{free_port()}"


def reached(seen: Counter[str]) -> bool:
    """Answered, or told at once that nobody is there: never silence."""
    return seen["ok"] > 100 and set(seen) <= {"ok", "connection lost", "not connected"}


async def test_every_ask_ends_soon_while_a_process_comes_and_goes(local: str) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask_around(local, 1, stop))
        for alive in (0.4, 0.05, 0.6):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", SERVER, str(ROOT), local, stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            assert await process.stdout.readline() == b"up\n"
            await asyncio.sleep(alive)
            process.kill()
            await process.wait()
        stop.set()
    assert reached(asking.result()), asking.result()


async def test_every_ask_ends_soon_while_a_server_of_the_same_loop_comes_and_goes(
    address: str,
) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask_around(address, seed, stop)) for seed in (2, 3)]
        for alive in (0.1, 0.5, 0.02, 0.4):
            transport = carrier(address)
            await transport.serve(address, HANDLERS)
            await asyncio.sleep(alive)
            await transport.close()
        stop.set()
    for task in asking:
        assert reached(task.result()), task.result()


WINDOW = Window(in_flight=5_000, queued=5_000)


async def ask_all_at_once(
    transport: Transport, address: str, hear: Callable[[set[int]], Awaitable[None]]
) -> None:
    """2,000 asks, more than all buffers hold, to somebody who listens after a while."""
    peer, heard = transport.connect(address), set[int]()
    async with asyncio.TaskGroup() as group:
        asks = [
            group.create_task(outcome(peer, Weigh(Payload(b""), bytes(5_000))))
            for _ in range(2_000)
        ]
        await asyncio.sleep(0.2)  # all buffers between the two are full
        async with asyncio.timeout(20):
            while len(heard) < 2_000:
                await hear(heard)
        peer.close()
    assert {ask.result() for ask in asks} == {"closed"}
    await transport.close()


async def test_asks_that_zeromq_refused_go_out_when_it_has_room_again() -> None:
    context = zmq.asyncio.Context()
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    router.set_hwm(10)
    port = router.bind_to_random_port("tcp://127.0.0.1")

    async def hear(heard: set[int]) -> None:
        _, head, _ = await router.recv_multipart()
        heard.add(wire.parse_head(head).request)

    transport = ZeroMqTransport(plain=True, limits=Limits(WINDOW))
    await ask_all_at_once(transport, f"tcp://127.0.0.1:{port}", hear)
    router.close(0)
    context.term()


async def test_asks_that_a_full_stream_refused_go_out_when_it_has_room_again(local: str) -> None:
    begun = asyncio.Event()
    found: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.append((reader, writer))
        begun.set()

    async def hear(heard: set[int]) -> None:
        await begun.wait()
        reader, _ = found[0]
        count, head, payload = struct.unpack(">BII", await reader.readexactly(9))
        heard.add(wire.parse_head(await reader.readexactly(head)).request)
        assert (count, payload) == (2, 0)

    listener = await asyncio.start_unix_server(connected, local.removeprefix("ipc://"))
    await ask_all_at_once(StreamTransport(limits=Limits(WINDOW)), local, hear)
    found[0][1].close()
    listener.close()


async def test_a_handler_whose_work_was_cancelled_answers_its_caller(address: str) -> None:

    async def cancelled(_: Fail, __: Caller) -> Size:
        future: asyncio.Future[Size] = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future

    serving, asking = carrier(address), carrier(address)
    server = await serving.serve(address, Handlers().on(Fail, cancelled))
    assert await outcome(asking.connect(server.address), Fail()) == "internal"
    await asking.close()
    await serving.close()


async def test_a_message_that_breaks_its_reader_does_not_hold_up_the_next(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, asking = carrier(address), carrier(address)
    server = await serving.serve(address, HANDLERS)
    peer = asking.connect(server.address)
    assert await outcome(peer, Weigh(Payload(b""), b"")) == "ok"
    asks: Asks = peer.asks  # type: ignore[attr-defined]
    plain, broken = asks.receive, [True]

    def once_broken(frames: list[bytes]) -> None:
        if broken.pop() if broken else False:
            raise RuntimeError("a fault of ours")
        plain(frames)

    monkeypatch.setattr(asks, "receive", once_broken)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(outcome(peer, Weigh(Payload(b""), b""), timeout=1)) for _ in range(5)
        ]
    assert sorted(task.result() for task in tasks) == ["no answer within 1 s"] + ["ok"] * 4
    await asking.close()
    await serving.close()
