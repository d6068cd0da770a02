"""CPU of the transports, both processes together, beside the bare sockets.

`python -m benchmarks.wire`: small asks one by one and 32 at once; 2 MiB payloads; ipc and CURVE
"""

import asyncio
import multiprocessing
import resource
import tempfile
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import msgspec
import uvloop
import zmq

from chain.keys.identity import Identity
from chain.memory import tune_malloc
from chain.net.nodes import NodeTransport
from chain.net.transport import Caller, Handlers, Message, Payload, Peer

GIB = 1 << 30
SMALL, BULK, PAYLOAD = 8000, 256, 2 << 20
ALICE, BOB = Identity(bytes(32)), Identity(b"\x01" * 32)


class Stored(msgspec.Struct, array_like=True):
    size: int


class Store(Message[Stored], frozen=True):
    number: int
    data: Payload | None = None


async def store(message: Store, _: Caller) -> Stored:
    return Stored(len(message.data) if message.data else 0)


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def serve(address: str, pipe: Connection) -> None:
    transport = NodeTransport(ALICE, authorise=lambda account: account == BOB.id)
    server = await transport.serve(address, Handlers().on(Store, store))
    pipe.send(server.address)
    asked = asyncio.Event()

    def answer() -> None:
        if pipe.recv() == "end":
            asked.set()
        else:
            pipe.send(cpu())

    asyncio.get_running_loop().add_reader(pipe.fileno(), answer)
    await asked.wait()
    await transport.close()


def serve_bare(address: str, pipe: Connection) -> None:
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(address)
    pipe.send(address)
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    poller.register(pipe.fileno(), zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        if router in ready:
            frames = router.recv_multipart(copy=False)
            router.send_multipart([frames[0].bytes, b"ok"])
        elif pipe.recv() == "end":
            return
        else:
            pipe.send(cpu())


def child(kind: str, address: str, pipe: Connection) -> None:
    tune_malloc()
    if kind == "bare":
        serve_bare(address, pipe)
    else:
        uvloop.run(serve(address, pipe))


async def many(peer: Peer, tasks: int, count: int, data: bytes | None) -> None:
    async def some() -> None:
        for number in range(count // tasks):
            await peer.ask(Store(number, None if data is None else Payload(data)))

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(some())


async def measure(pipe: Connection, work: Callable[[], Awaitable[None]]) -> float:
    """CPU seconds of this process and the server's."""

    def both() -> float:
        pipe.send("cpu")
        return float(pipe.recv()) + cpu()

    before = both()
    await work()
    return both() - before


async def ask_all(address: str, pipe: Connection, label: str) -> None:
    transport = NodeTransport(BOB)
    peer = transport.connect(address, ALICE.id)
    data = bytes(PAYLOAD)
    await many(peer, 1, 100, None)
    await many(peer, 1, 2, data)
    one = await measure(pipe, lambda: many(peer, 1, SMALL, None))
    window = await measure(pipe, lambda: many(peer, 32, SMALL, None))
    bulk = await measure(pipe, lambda: many(peer, 4, BULK, data))
    report(label, one, window, bulk)
    await transport.close()


async def ask_bare(address: str, pipe: Connection) -> None:
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.connect(address)

    async def run(count: int, window: int, data: bytes) -> None:
        flying = 0
        for _ in range(count):
            dealer.send(data, 0, copy=len(data) < 1 << 16)
            flying += 1
            if flying == window:
                dealer.recv()
                flying -= 1
        for _ in range(flying):
            dealer.recv()

    one = await measure(pipe, lambda: run(SMALL, 1, b"x" * 30))
    window = await measure(pipe, lambda: run(SMALL, 32, b"x" * 30))
    bulk = await measure(pipe, lambda: run(BULK, 4, bytes(PAYLOAD)))
    report("bare ipc", one, window, bulk)
    dealer.close(0)


def report(label: str, one: float, window: float, bulk: float) -> None:
    gib = BULK * PAYLOAD / GIB
    print(
        f"{label:10} small ask {one / SMALL * 1e6:6.1f} us, 32 at once "
        f"{window / SMALL * 1e6:5.1f} us, 2 MiB payloads {bulk / gib:.2f} CPU s/GiB"
    )


def main() -> None:
    tune_malloc()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as run:
        for kind, address in (
            ("bare", f"ipc://{run}/bare.ipc"),
            ("ipc", f"ipc://{run}/wire.ipc"),
            ("curve", "tcp://127.0.0.1:0"),
        ):
            pipe, other = spawn.Pipe()
            process = spawn.Process(target=child, args=(kind, address, other))
            process.start()
            served = pipe.recv()
            uvloop.run(ask_bare(served, pipe) if kind == "bare" else ask_all(served, pipe, kind))
            pipe.send("end")
            process.join(10)


if __name__ == "__main__":
    main()
