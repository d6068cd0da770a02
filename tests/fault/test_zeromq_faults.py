"""ZeroMQ under abuse: strangers, broken, forged and oversize messages."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import zmq
import zmq.asyncio
import zmq.utils.z85
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.ids import AccountId
from chain.keys import curve
from chain.keys.identity import Identity
from chain.net import wire
from chain.net.rpc import AddressError, Limits, Window
from chain.net.transport import Caller, Handlers, Message, Payload, RemoteError, Unreachable
from chain.net.zeromq import ZeroMqTransport
from tests.fault.served import BROKEN, GOOD, outcome, request

ALICE, BOB, EVE = (Identity(bytes([n]) * 32) for n in (1, 2, 3))


class Size(msgspec.Struct, array_like=True):
    size: int
    caller: bytes


class Measure(Message[Size], frozen=True):
    data: Payload


async def measure(message: Measure, caller: Caller) -> Size:
    return Size(len(message.data), caller.identity or b"")


HANDLERS = Handlers().on(Measure, measure)

PLAIN = "tcp://127.0.0.1:0"


@pytest.fixture
async def serving() -> AsyncIterator[ZeroMqTransport]:
    transport = ZeroMqTransport(plain=True)
    yield transport
    await transport.close()


@pytest.fixture
async def asking() -> AsyncIterator[ZeroMqTransport]:
    transport = ZeroMqTransport(plain=True)
    yield transport
    await transport.close()


async def test_tcp_without_an_identity_is_refused() -> None:
    transport = ZeroMqTransport()
    for connect in (transport.serve("tcp://127.0.0.1:0", HANDLERS),):
        with pytest.raises(AddressError, match="identity"):
            await connect
    with pytest.raises(AddressError, match="identity"):
        transport.connect("tcp://127.0.0.1:9", ALICE.id)
    await transport.close()
    named = ZeroMqTransport(BOB)
    with pytest.raises(AddressError, match="whose address"):
        named.connect("tcp://127.0.0.1:9")
    await named.close()


@pytest.fixture
async def alice() -> AsyncIterator[tuple[ZeroMqTransport, str]]:
    transport = ZeroMqTransport(ALICE, authorise=lambda account: account == BOB.id)
    server = await transport.serve("tcp://127.0.0.1:0", HANDLERS)
    yield transport, server.address
    await transport.close()


async def _ask_as(identity: Identity | None, address: str, server: AccountId = ALICE.id) -> object:
    limits = Limits(Window(connect_grace=0.5))
    transport = ZeroMqTransport(identity, plain=identity is None, limits=limits)
    peer = transport.connect(address, server if identity else None)
    try:
        return await outcome(peer.ask(Measure(Payload(b"abc")), timeout=2))
    finally:
        await transport.close()


async def test_only_the_authorised_are_answered_and_are_who_they_say(
    alice: tuple[ZeroMqTransport, str],
) -> None:
    _, address = alice
    assert await _ask_as(BOB, address) == Size(3, BOB.id)
    assert isinstance(await _ask_as(EVE, address), Unreachable)
    assert isinstance(await _ask_as(None, address), Unreachable)  # no CURVE at all


async def test_a_server_that_is_somebody_else_is_not_asked(
    alice: tuple[ZeroMqTransport, str],
) -> None:
    _, address = alice
    assert isinstance(await _ask_as(BOB, address, EVE.id), Unreachable)


async def test_a_caller_cannot_speak_as_the_twin_of_its_key(
    alice: tuple[ZeroMqTransport, str],
) -> None:
    _, address = alice
    transport = ZeroMqTransport(BOB)
    peer = transport.connect(address, ALICE.id)
    assert await outcome(peer.ask(Measure(Payload(b"abc")))) == Size(3, BOB.id)
    peer.asks.flags ^= wire.FLAG_ODD  # the twin is not authorised
    with pytest.raises(RemoteError, match="not_authorised"):
        await peer.ask(Measure(Payload(b"abc")))
    await transport.close()


async def test_authorisation_withdrawn_ends_an_open_connection() -> None:
    allowed = {BOB.id}
    serving = ZeroMqTransport(ALICE, authorise=lambda account: account in allowed)
    server = await serving.serve("tcp://127.0.0.1:0", HANDLERS)
    transport = ZeroMqTransport(BOB)
    peer = transport.connect(server.address, ALICE.id)
    assert (await peer.ask(Measure(Payload(b"abc")))).size == 3
    allowed.clear()
    with pytest.raises(RemoteError, match="not_authorised"):
        await peer.ask(Measure(Payload(b"abc")))
    await transport.close()
    await serving.close()


async def test_a_refused_peer_is_answered_once_it_is_authorised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chain.net.zeromq.REFUSED_SECONDS", 0.1)
    known: set[AccountId] = set()
    serving = ZeroMqTransport(ALICE, authorise=known.__contains__)
    asking = ZeroMqTransport(BOB)
    try:
        server = await serving.serve("tcp://127.0.0.1:0", HANDLERS)
        peer = asking.connect(server.address, ALICE.id)
        with pytest.raises(Unreachable):
            await peer.ask(Measure(Payload(b"abc")))
        known.add(BOB.id)
        async with asyncio.timeout(10):
            while True:
                try:
                    assert (await peer.ask(Measure(Payload(b"abc")))).caller == BOB.id
                    break
                except Unreachable:
                    await asyncio.sleep(0.05)
    finally:
        await asking.close()
        await serving.close()


async def test_an_identity_that_is_no_point_cannot_be_connected_to() -> None:
    transport = ZeroMqTransport(BOB)
    with pytest.raises(AddressError, match="no point"):
        transport.connect("tcp://127.0.0.1:9", AccountId(b"\x02" + bytes(31)))
    await transport.close()


class Stranger:
    """A raw DEALER: whatever bytes it likes."""

    def __init__(self, address: str) -> None:
        self.context = zmq.asyncio.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(address)

    async def __aenter__(self) -> zmq.asyncio.Socket:
        return self.socket

    async def __aexit__(self, *_: object) -> None:
        self.socket.close(0)
        self.context.term()


async def test_broken_messages_are_answered_or_dropped_and_the_next_works(
    serving: ZeroMqTransport,
) -> None:
    server = await serving.serve(PLAIN, HANDLERS)
    broken: list[tuple[list[bytes], str | None]] = [
        *BROKEN,
        ([GOOD, *[b"x"] * 100], None),
        ([request(b"\x91\x00", 64), *[b"x"] * 65], None),
    ]
    async with Stranger(server.address) as stranger:
        for frames, code in broken:
            await stranger.send_multipart(frames)
            if code is not None:
                async with asyncio.timeout(5):
                    reply = await stranger.recv_multipart()
                head = wire.parse_head(reply[0])
                assert head.kind == wire.ERROR
                assert wire.Codec().decode(wire.Refusal, head.body, ()).code == code
        await stranger.send_multipart([GOOD, b"abc"])
        async with asyncio.timeout(5):
            reply = await stranger.recv_multipart()
        assert wire.parse_head(reply[0]).kind == wire.REPLY


async def test_an_oversize_frame_costs_the_connection_not_the_server(
    serving: ZeroMqTransport, asking: ZeroMqTransport
) -> None:
    server = await serving.serve(PLAIN, HANDLERS)
    async with Stranger(server.address) as stranger:
        await stranger.send_multipart([request(b"\x91\x00", 1), bytes(wire.FRAME_MAX + 1)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await stranger.recv_multipart()
    peer = asking.connect(server.address)
    assert (await peer.ask(Measure(Payload(b"abc")))).size == 3
    largest = Payload(memoryview(bytes(wire.PAYLOAD_MAX)))
    assert (await peer.ask(Measure(largest))).size == wire.PAYLOAD_MAX
    with pytest.raises(wire.OversizeMessage):
        await peer.ask(Measure(Payload(memoryview(bytes(wire.PAYLOAD_MAX + 1)))))


async def test_forged_late_and_repeated_replies_disturb_nobody(
    asking: ZeroMqTransport,
) -> None:
    context = zmq.asyncio.Context()
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    port = router.bind_to_random_port("tcp://127.0.0.1")
    peer = asking.connect(f"tcp://127.0.0.1:{port}")
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(peer.ask(Measure(Payload(b"abc"))))
        route, head, _ = await router.recv_multipart()
        number = wire.parse_head(head).request
        body = wire.Codec().encode(Size(3, b""))[0]
        for forged in (b"", b"nonsense", wire.pack_head(wire.REPLY, number + 9, body, 0)):
            await router.send_multipart([route, forged])
        good = wire.pack_head(wire.REPLY, number, body, 0)
        await router.send_multipart([route, good])
        await router.send_multipart([route, good])
    assert asked.result() == Size(3, b"")
    async with asyncio.TaskGroup() as group:
        asked_again = group.create_task(outcome(peer.ask(Measure(Payload(b"abc")))))
        route, head, _ = await router.recv_multipart()
        number = wire.parse_head(head).request
        await router.send_multipart([route, wire.pack_head(wire.REPLY, number, b"\xc1", 0)])
    ended = asked_again.result()
    assert isinstance(ended, RemoteError)
    assert ended.code == "malformed_reply"
    router.close(0)
    context.term()


async def test_handlers_at_once_are_bounded(asking: ZeroMqTransport) -> None:
    running = peak = 0
    gate = asyncio.Event()

    async def slow(message: Measure, _: Caller) -> Size:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await gate.wait()
        running -= 1
        return Size(len(message.data), b"")

    serving = ZeroMqTransport(plain=True, limits=Limits(handlers=5))
    server = await serving.serve(PLAIN, Handlers().on(Measure, slow))
    peer = asking.connect(server.address)
    async with asyncio.TaskGroup() as group:
        asks = [group.create_task(peer.ask(Measure(Payload(bytes(n))))) for n in range(100)]
        while running < 5:  # noqa: ASYNC110 - the handlers are polled, not changed
            await asyncio.sleep(0.001)
        gate.set()
    assert [ask.result().size for ask in asks] == list(range(100))
    assert peak == 5
    await serving.close()


@given(frames=st.lists(st.binary(max_size=60), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_random_messages_never_stop_a_server(frames: list[bytes]) -> None:
    async def main() -> None:
        serving, asking = ZeroMqTransport(plain=True), ZeroMqTransport(plain=True)
        server = await serving.serve(PLAIN, HANDLERS)
        async with Stranger(server.address) as stranger:
            await stranger.send_multipart(frames)
            await stranger.send_multipart([b"\xce\x01\x01" + frames[0], *frames[1:]])
            peer = asking.connect(server.address)
            assert (await peer.ask(Measure(Payload(b"abc")))).size == 3
        await asking.close()
        await serving.close()

    asyncio.run(main())


def test_the_curve_key_is_the_identitys() -> None:
    secret = curve.curve_secret(ALICE)
    assert zmq.curve_public(zmq.utils.z85.encode(secret)) == zmq.utils.z85.encode(
        curve.curve_public(ALICE.id)
    )
