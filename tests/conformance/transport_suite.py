"""What every Transport promises. A backend inherits the suite and gives the `pair` fixture."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import msgspec
import pytest

from chain.ids import AccountId
from chain.net.rpc import AddressError, Window, current_request
from chain.net.shared import Arena
from chain.net.transport import (
    Caller,
    Handlers,
    Message,
    Payload,
    Peer,
    RemoteError,
    Server,
    Transport,
    Unreachable,
)


class Sum(msgspec.Struct, array_like=True, frozen=True):
    total: int


class Add(Message[Sum], frozen=True):
    left: int
    right: int


class Bulk(msgspec.Struct, array_like=True, frozen=True):
    pieces: list[Payload]
    note: str


class Double(Message[Bulk], frozen=True):
    """Send the payloads back, each twice."""

    pieces: list[Payload]
    note: str


class Long(msgspec.Struct, array_like=True, frozen=True):
    data: Payload
    lent: bool


class Fill(Message[Long], frozen=True):
    """`size` bytes, each the seed's; in the caller's room if it lends one."""

    size: int
    seed: int

    def reply_bytes(self) -> int:
        return self.size


class Fail(Message[Sum], frozen=True):
    how: str


class Hold(Message[Sum], frozen=True):
    """Answered when the service is told to."""

    number: int


class Trace(msgspec.Struct, array_like=True, frozen=True):
    request: str
    identity: bytes | None
    local: bool


class WhoAmI(Message[Trace], frozen=True):
    pass


class Unknown(Message[Sum], frozen=True):
    """No service answers this."""


class Service:
    """The suite's service."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.held = 0
        self.running = 0
        self.running_max = 0

    def handlers(self) -> Handlers:
        return (
            Handlers()
            .on(Add, self.add)
            .on(Double, self.double)
            .on(Fill, self.fill)
            .on(Fail, self.fail)
            .on(Hold, self.hold)
            .on(WhoAmI, self.who)
        )

    async def add(self, message: Add, _: Caller) -> Sum:
        return Sum(message.left + message.right)

    async def double(self, message: Double, _: Caller) -> Bulk:
        pieces = [Payload(piece.buffer) for piece in message.pieces for _ in range(2)]
        return Bulk(pieces, message.note)

    async def fill(self, message: Fill, caller: Caller) -> Long:
        room = caller.room
        data = memoryview(bytearray(message.size)) if room is None else room[: message.size]
        data[:] = bytes([message.seed]) * message.size
        return Long(Payload(data), room is not None)

    async def fail(self, message: Fail, _: Caller) -> Sum:
        if message.how == "refuse":
            raise RemoteError("no_space", "the disk is full")
        raise ValueError("a secret detail")

    async def hold(self, message: Hold, _: Caller) -> Sum:
        self.held += 1
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return Sum(message.number)

    async def who(self, _: WhoAmI, caller: Caller) -> Trace:
        return Trace(current_request.get(), caller.identity, caller.local)

    async def wait_held(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.held < count:  # noqa: ASYNC110 - the service is polled, not changed
                await asyncio.sleep(0.001)


@dataclass
class Pair:
    """A serving and an asking transport."""

    serving: Transport
    asking: Transport
    address: str
    # The serving node's identity for `connect`, and the asking node's as handlers must see it.
    server_identity: AccountId | None = None
    client_identity: AccountId | None = None
    local: bool = True
    arena: Arena | None = None  # the asking transport's


SMALL_WINDOW = Window(in_flight=4, queued=3, connect_grace=0.3)


Open = Callable[[], contextlib.AbstractAsyncContextManager[tuple[Peer, Server]]]


class TransportSuite:
    """Inherit and provide `pair` (made with SMALL_WINDOW on the asking side when asked)."""

    @pytest.fixture
    def service(self) -> Service:
        return Service()

    @pytest.fixture
    def open(self, pair: Pair, service: Service) -> Open:
        @contextlib.asynccontextmanager
        async def opened() -> AsyncIterator[tuple[Peer, Server]]:
            server = await pair.serving.serve(pair.address, service.handlers())
            yield pair.asking.connect(server.address, pair.server_identity), server

        return opened

    async def test_an_ask_is_answered(self, open: Open) -> None:
        async with open() as (peer, _):
            assert await peer.ask(Add(2, 3)) == Sum(5)

    async def test_many_asks_at_once_get_their_own_answers(self, open: Open) -> None:
        async with open() as (peer, _):
            await peer.ask(Add(0, 0))  # connected
            # 4 credits and 3 places in the queue: seven may wait at once
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(peer.ask(Add(n, n))) for n in range(7)]
            assert [task.result().total for task in tasks] == [2 * n for n in range(7)]

    @pytest.mark.parametrize("size", [0, 1, 70_000, 3 << 20])
    async def test_payloads_travel_unchanged(self, open: Open, size: int) -> None:
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        async with open() as (peer, _):
            sources = [
                Payload(data),
                Payload(memoryview(data)[: size // 2]),
                Payload(bytearray(b"x")),
            ]
            reply = await peer.ask(Double(sources, "ø"))
            assert reply.note == "ø"
            assert [bytes(piece.buffer) for piece in reply.pieces] == [
                bytes(source.buffer) for source in sources for _ in range(2)
            ]

    async def test_long_replies_come_in_lent_memory_where_there_is_some(
        self, open: Open, pair: Pair
    ) -> None:
        async with open() as (peer, _):
            await peer.ask(Add(0, 0))
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(peer.ask(Fill(300_000 + n, n))) for n in range(4)]
            for seed, task in enumerate(asked):
                reply = task.result()
                assert reply.lent == (pair.arena is not None)
                assert bytes(reply.data.buffer) == bytes([seed]) * (300_000 + seed)

    async def test_long_payloads_of_shared_memory_travel_unchanged(
        self, open: Open, pair: Pair
    ) -> None:
        taken = None if pair.arena is None else pair.arena.take(1 << 20)
        view = memoryview(bytearray(1 << 20)) if taken is None else taken.data
        view[:] = bytes(range(256)) * 4096
        sources = [Payload(view[3:700_003]), Payload(view[:10]), Payload(b"y" * 70_000)]
        async with open() as (peer, _):
            reply = await peer.ask(Double(sources, ""))
        assert [bytes(piece.buffer) for piece in reply.pieces] == [
            bytes(source.buffer) for source in sources for _ in range(2)
        ]

    async def test_a_refusal_arrives_as_remote_error(self, open: Open) -> None:
        async with open() as (peer, _):
            with pytest.raises(RemoteError, match="no_space: the disk is full"):
                await peer.ask(Fail("refuse"))

    async def test_a_crashing_handler_tells_nothing_of_its_insides(self, open: Open) -> None:
        async with open() as (peer, _):
            with pytest.raises(RemoteError) as caught:
                await peer.ask(Fail("crash"))
            assert caught.value.code == "internal"
            assert "secret" not in caught.value.reason
            assert await peer.ask(Add(1, 1)) == Sum(2)

    async def test_an_unknown_message_is_refused(self, open: Open) -> None:
        async with open() as (peer, _):
            with pytest.raises(RemoteError) as caught:
                await peer.ask(Unknown())
            assert caught.value.code == "unknown_message"

    async def test_a_silent_service_is_unreachable_after_the_deadline(
        self, open: Open, service: Service
    ) -> None:
        async with open() as (peer, _):
            with pytest.raises(Unreachable, match="no answer within"):
                await peer.ask(Hold(1), timeout=0.05)
            service.gate.set()
            assert await peer.ask(Add(1, 1)) == Sum(2)  # the late answer disturbs nobody

    async def test_a_cancelled_ask_gives_its_credit_back(self, open: Open) -> None:
        async with open() as (peer, _):
            await peer.ask(Add(0, 0))
            for _ in range(3):
                tasks = []
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05), asyncio.TaskGroup() as group:
                        tasks = [group.create_task(peer.ask(Hold(n))) for n in range(4)]
                assert all(task.cancelled() for task in tasks)
            assert await peer.ask(Add(1, 1)) == Sum(2)

    async def test_a_full_queue_is_unreachable_at_once(self, open: Open, service: Service) -> None:
        async with open() as (peer, _):
            await peer.ask(Add(0, 0))
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(peer.ask(Hold(n))) for n in range(7)]
                await service.wait_held(4)
                with pytest.raises(Unreachable, match="queue full"):
                    await peer.ask(Add(1, 1))
                service.gate.set()
            assert [task.result().total for task in tasks] == list(range(7))
            assert service.running_max == 4  # never more at the peer than there are credits

    async def test_asking_where_nobody_serves_is_unreachable_soon(self, pair: Pair) -> None:
        peer = pair.asking.connect(pair.address.replace(":0", ":9"), pair.server_identity)
        before = asyncio.get_running_loop().time()
        with pytest.raises(Unreachable, match="not connected"):
            await peer.ask(Add(1, 1))
        assert asyncio.get_running_loop().time() - before < 1.5

    async def test_a_service_that_ends_fails_waiting_asks_and_may_come_back(
        self, pair: Pair, open: Open, service: Service
    ) -> None:
        async with open() as (peer, server):
            async with asyncio.TaskGroup() as group:
                held = group.create_task(_outcome(peer.ask(Hold(1))))
                await service.wait_held(1)
                before = asyncio.get_running_loop().time()
                await server.close()
            assert asyncio.get_running_loop().time() - before < 1.5
            assert isinstance(held.result(), Unreachable)
            await pair.serving.serve(server.address, service.handlers())
            async with asyncio.timeout(5):
                while isinstance(  # noqa: ASYNC110 - a restart announces itself to nobody
                    await _outcome(peer.ask(Add(1, 1))), Unreachable
                ):
                    await asyncio.sleep(0.05)
            assert await peer.ask(Add(1, 1)) == Sum(2)

    async def test_a_closed_peer_is_unreachable(self, open: Open, service: Service) -> None:
        async with open() as (peer, _):
            async with asyncio.TaskGroup() as group:
                held = group.create_task(_outcome(peer.ask(Hold(1))))
                await service.wait_held(1)
                peer.close()
            assert isinstance(held.result(), Unreachable)
            with pytest.raises(Unreachable, match="closed"):
                await peer.ask(Add(1, 1))
            peer.close()

    async def test_the_request_id_and_the_callers_identity_reach_the_handler(
        self, pair: Pair, open: Open
    ) -> None:
        async with open() as (peer, _):
            token = current_request.set("4442587FB7D0A2F9")
            try:
                trace = await peer.ask(WhoAmI())
            finally:
                current_request.reset(token)
            assert trace == Trace("4442587FB7D0A2F9", pair.client_identity, pair.local)
            assert (await peer.ask(WhoAmI())).request == ""

    @pytest.mark.parametrize("address", ["", "http://x", "ipc://relative", "tcp://", "memory://"])
    async def test_a_bad_address_is_refused(self, pair: Pair, address: str) -> None:
        with pytest.raises(AddressError):
            await pair.serving.serve(address, Handlers())
        with pytest.raises(AddressError):
            pair.asking.connect(address)


async def _outcome(ask: Awaitable[object]) -> object:
    try:
        return await ask
    except (Unreachable, RemoteError) as error:
        return error
