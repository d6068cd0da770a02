"""Frames: what is packed is parsed, and no bytes crash the parser."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.ids import AccountId
from chain.net import wire
from chain.net.rpc import Responder
from chain.net.transport import Caller, Handlers, Message, Payload


class Stored(msgspec.Struct, array_like=True, frozen=True):
    count: int


class Inner(msgspec.Struct, array_like=True, frozen=True):
    name: str
    data: Payload


class Store(Message[Stored], frozen=True):
    owner: AccountId
    first: Payload | None
    rest: list[Inner]
    named: dict[str, Payload]
    number: int = 7


MESSAGE = Store(
    AccountId(b"\x01" * 32),
    Payload(b"first"),
    [Inner("a", Payload(b"aa")), Inner("b", Payload(b""))],
    {"x": Payload(b"xx")},
)


def _frames(message: Store = MESSAGE, **fields: Any) -> list[Any]:
    body, payloads = wire.Codec().encode(message)
    head = wire.pack_head(wire.REQUEST, 5, body, len(payloads), tag=b"Store", **fields)
    return [head, *payloads]


def test_a_message_comes_back_with_its_payloads() -> None:
    frames = _frames(trace="4442587FB7D0A2F9", flags=wire.FLAG_ODD)
    head = wire.parse_head(frames[0])
    assert (head.kind, head.flags, head.request) == (wire.REQUEST, wire.FLAG_ODD, 5)
    assert (head.tag, head.trace, head.payloads) == (b"Store", "4442587FB7D0A2F9", 4)
    wire.check_payloads(head, frames[1:])
    assert wire.Codec().decode(Store, head.body, frames[1:]) == MESSAGE


def test_payloads_are_not_copied() -> None:
    data = bytearray(b"bulk")
    message = Store(AccountId(bytes(32)), Payload(data), [], {})
    body, payloads = wire.Codec().encode(message)
    assert payloads[0] is data
    decoded = wire.Codec().decode(Store, body, payloads)
    assert decoded.first is not None
    assert decoded.first.buffer is data


def test_the_header_is_the_specified_one() -> None:
    head = wire.pack_head(wire.REPLY, 0x0102030405060708, b"\x91\x07", 0)
    assert head.hex() == "ce010200" + "00000000" + "0102030405060708" + "9107"
    request = wire.pack_head(wire.REQUEST, 1, b"\x90", 2, tag=b"Store", trace="ab", flags=1)
    assert (
        request.hex() == "ce010101" + "02050200" + "0000000000000001" + "53746f7265" + "6162" + "90"
    )


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, 0), (1, 2), (2, 0), (2, 4), (3, 2), (4, 65), (5, 65), (6, 255), (7, 1)],
)
def test_a_header_field_out_of_range_is_malformed(offset: int, value: int) -> None:
    head = bytearray(_frames()[0])
    head[offset] = value
    with pytest.raises(wire.MalformedFrame):
        wire.parse_head(head)


def test_a_trace_that_is_no_plain_text_does_not_travel() -> None:
    for trace in ("x" * 65, "a\nb", "ø", "\x7f"):
        assert wire.parse_head(wire.pack_head(wire.REPLY, 1, b"", 0, trace=trace)).trace == ""
    forged = bytearray(wire.pack_head(wire.REPLY, 1, b"", 0, trace="ab"))
    forged[-1] = 10
    with pytest.raises(wire.MalformedFrame):
        wire.parse_head(forged)


def test_payload_frames_must_be_as_announced() -> None:
    frames = _frames()
    head = wire.parse_head(frames[0])
    for payloads in (frames[1:-1], [*frames[1:], b""]):
        with pytest.raises(wire.MalformedFrame, match="announced"):
            wire.check_payloads(head, payloads)
    big = memoryview(bytes(wire.PAYLOAD_MAX + 1))
    one = head._replace(payloads=1)
    wire.check_payloads(one, [big[:-1]])
    with pytest.raises(wire.MalformedFrame, match="too large"):
        wire.check_payloads(one, [big])
    with pytest.raises(wire.MalformedFrame, match="too large"):
        wire.check_payloads(head._replace(payloads=5), [big[:-1]] * 5)


@pytest.mark.parametrize(
    "body",
    [
        [bytes(32), 0, [], {}],  # the second frame is not used
        [bytes(32), 1, [["a", 0]], {}],  # out of order
        [bytes(32), 0, [["a", 0]], {}],  # used twice
        [bytes(32), 0, [["a", 1], ["b", 2]], {}],  # missing
        [bytes(32), True, [["a", 1]], {}],
        [bytes(32), "0", [["a", 1]], {}],
        [bytes(32), -1, [["a", 0]], {}],
        [bytes(32), 0, [["a", 1.0]], {}],
        [bytes(32), 0],
        {"owner": bytes(32)},
        None,
    ],
)
def test_wrong_payload_references_are_malformed(body: object) -> None:
    with pytest.raises(wire.MalformedFrame):
        wire.Codec().decode(Store, msgspec.msgpack.encode(body), [b"x", b"y"])


def test_our_own_oversize_message_is_refused_before_it_is_sent() -> None:
    half = Payload(memoryview(bytes(wire.PAYLOAD_MAX)))
    whole = Payload(memoryview(bytes(wire.PAYLOAD_MAX + 1)))
    for payloads in ([whole], [half] * 5, [Payload(b"")] * 65):
        rest = [Inner("", payload) for payload in payloads]
        with pytest.raises(wire.OversizeMessage):
            wire.Codec().encode(Store(AccountId(b""), None, rest, {}))


def test_two_messages_of_one_name_cannot_be_served_together() -> None:
    class Other:
        class Store(Message[Stored], frozen=True):
            pass

    async def handler(_: object, __: Caller) -> Stored:
        return Stored(1)

    handlers = Handlers().on(Store, handler).on(Other.Store, handler)
    with pytest.raises(ValueError, match="share a name"):
        Responder(wire.Codec(), handlers)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_bytes_never_crash_the_head_parser(raw: bytes) -> None:
    for frame in (raw, b"\xce\x01" + raw):
        try:
            head = wire.parse_head(frame)
        except wire.MalformedFrame:
            continue
        assert len(head.tag) <= wire.TAG_MAX


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_requests_are_answered_or_dropped_never_a_crash(data: st.DataObject) -> None:
    async def store(message: Store, _: Caller) -> Stored:
        return Stored(len(message.rest))

    frames = [bytearray(frame) for frame in _frames()]
    for _ in range(data.draw(st.integers(1, 4))):
        frame = data.draw(st.sampled_from(frames[:2]))
        if frame:
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    frames = frames[: data.draw(st.integers(1, len(frames)))]
    responder = Responder(wire.Codec(), Handlers().on(Store, store))
    answer = responder.answer(frames, Caller(None, local=True))
    with pytest.raises(StopIteration) as done:
        answer.send(None)
    reply = done.value.value
    if reply is not None:
        assert wire.parse_head(reply[0]).kind in (wire.REPLY, wire.ERROR)


LEAVES = st.none() | st.integers() | st.binary(max_size=40) | st.text(max_size=9)
BODIES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(BODIES)
@settings(max_examples=100, deadline=None)
def test_random_bodies_never_crash_the_decoder(value: object) -> None:
    try:
        body = msgspec.msgpack.encode(value)
    except OverflowError:
        return
    for raw in (body, body[:-1], b"\x91" * 2000 + body):
        try:
            wire.Codec().decode(Store, raw, [b"x"])
        except wire.MalformedFrame:
            continue
