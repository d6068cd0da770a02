"""Many asks of all sizes right after connecting, while servers come and go: none is forgotten."""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.asyncio

from chain.net import wire
from chain.net.rpc import Window
from chain.net.transport import (
    Caller,
    Handlers,
    Message,
    Payload,
    Peer,
    RemoteError,
    Reply,
    Unreachable,
)
from chain.net.zeromq import ZeroMqLimits, ZeroMqTransport

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
from chain.net.zeromq import ZeroMqTransport
from tests.fault.test_zeromq_stress import HANDLERS

async def main():
    transport = ZeroMqTransport()
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
    transport, seen = ZeroMqTransport(), Counter[str]()

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


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"ipc://{tmp_path_factory.mktemp('run')}/s.ipc"


def reached(seen: Counter[str]) -> bool:
    """Answered, or told at once that nobody is there: never silence."""
    return seen["ok"] > 100 and set(seen) <= {"ok", "connection lost", "not connected"}


async def test_every_ask_ends_soon_while_a_process_comes_and_goes(address: str) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask_around(address, 1, stop))
        for alive in (0.4, 0.05, 0.6):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", SERVER, str(ROOT), address, stdout=subprocess.PIPE
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
            transport = ZeroMqTransport()
            await transport.serve(address, HANDLERS)
            await asyncio.sleep(alive)
            await transport.close()
        stop.set()
    for task in asking:
        assert reached(task.result()), task.result()


async def test_asks_that_the_socket_refused_go_out_when_it_has_room_again(address: str) -> None:
    context = zmq.asyncio.Context()
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    router.set_hwm(10)
    router.bind(address)
    window = Window(in_flight=5_000, queued=5_000)
    transport = ZeroMqTransport(limits=ZeroMqLimits(window))
    peer = transport.connect(address)
    heard = set[int]()
    async with asyncio.TaskGroup() as group:
        asks = [
            group.create_task(outcome(peer, Weigh(Payload(b""), bytes(5_000))))
            for _ in range(2_000)
        ]
        await asyncio.sleep(0.2)  # all buffers between the two are full
        async with asyncio.timeout(20):
            while len(heard) < 2_000:
                _, head, _ = await router.recv_multipart()
                heard.add(wire.parse_head(head).request)
        peer.close()
    assert {ask.result() for ask in asks} == {"closed"}
    await transport.close()
    router.close(0)
    context.term()


async def test_a_handler_whose_work_was_cancelled_answers_its_caller(address: str) -> None:

    async def cancelled(_: Fail, __: Caller) -> Size:
        future: asyncio.Future[Size] = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future

    serving, asking = ZeroMqTransport(), ZeroMqTransport()
    server = await serving.serve(address, Handlers().on(Fail, cancelled))
    assert await outcome(asking.connect(server.address), Fail()) == "internal"
    await asking.close()
    await serving.close()


async def test_a_message_that_breaks_its_reader_does_not_hold_up_the_next(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, asking = ZeroMqTransport(), ZeroMqTransport()
    server = await serving.serve(address, HANDLERS)
    peer = asking.connect(server.address)
    assert await outcome(peer, Weigh(Payload(b""), b"")) == "ok"
    plain, broken = peer.asks.receive, [True]

    def once_broken(frames: list[bytes]) -> None:
        if broken.pop() if broken else False:
            raise RuntimeError("a fault of ours")
        plain(frames)

    monkeypatch.setattr(peer.asks, "receive", once_broken)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(outcome(peer, Weigh(Payload(b""), b""), timeout=1)) for _ in range(5)
        ]
    assert sorted(task.result() for task in tasks) == ["no answer within 1 s"] + ["ok"] * 4
    await asking.close()
    await serving.close()
