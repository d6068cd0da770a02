"""Frames between nodes: bytes in, values out; no I/O. Specification: docs/specs/wire.md.

A message is one head frame and up to 64 payload frames. The head frame is a fixed header, the
message's tag, the trace and the MessagePack body. A `Payload` field is encoded as the index of
its frame, so bulk bytes are never copied into the body.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from chain.net.transport import Buffer, Message, Payload

VERSION = 1
MAGIC = 0xCE
REQUEST, REPLY, ERROR = 1, 2, 3

# magic, version, kind, flags, payload frames, tag length, trace length, 0, request id
HEADER = struct.Struct(">BBBBBBBBQ")
HEADER_BYTES = HEADER.size
# Which of the two Ed25519 keys over one CURVE key speaks (docs/specs/wire.md, "Identity").
FLAG_ODD = 1

TAG_MAX = 64
TRACE_MAX = 64
BODY_MAX = 16 << 20
PAYLOAD_MAX = 16 << 20
PAYLOADS_MAX = 64
MESSAGE_MAX = 64 << 20
# A frame on the socket (ZMQ_MAXMSGSIZE): the largest head frame, or the largest payload.
FRAME_MAX = BODY_MAX + HEADER_BYTES + TAG_MAX + TRACE_MAX
CODE_MAX = 64
REASON_MAX = 1024

S = TypeVar("S", bound=msgspec.Struct)


class MalformedFrame(ValueError):
    """These frames are no message of this protocol."""


class OversizeMessage(ValueError):
    """Our own message is larger than the protocol carries."""


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """The body of an error: becomes RemoteError at the caller."""

    code: str
    reason: str


class Head(NamedTuple):
    """A parsed head frame."""

    kind: int
    flags: int
    payloads: int
    request: int
    tag: bytes
    trace: str
    body: memoryview


def tag_of(message: type[Message[Any]]) -> bytes:
    """A message's name on the wire: its class name (ASCII, at most 64 bytes)."""
    tag = message.__name__.encode("ascii")
    assert len(tag) <= TAG_MAX, message
    return tag


def pack_head(
    kind: int, request: int, body: bytes, payloads: int, *, tag: bytes = b"", trace: str = "",
    flags: int = 0,
) -> bytes:  # fmt: skip
    """The head frame. A trace that is not short printable ASCII is left out."""
    raw = trace.encode("ascii") if is_trace(trace) else b""
    header = HEADER.pack(MAGIC, VERSION, kind, flags, payloads, len(tag), len(raw), 0, request)
    return b"".join((header, tag, raw, body))


def is_trace(trace: str) -> bool:
    """Whether this text may travel as a request id: at most 64 printable ASCII characters."""
    return len(trace) <= TRACE_MAX and trace.isascii() and (not trace or trace.isprintable())


def parse_head(frame: Buffer) -> Head:
    """Check and cut a head frame. Raises MalformedFrame."""
    view = memoryview(frame)
    if not HEADER_BYTES <= len(view) <= FRAME_MAX:
        raise MalformedFrame(f"a head frame of {len(view)} bytes")
    magic, version, kind, flags, payloads, tag_bytes, trace_bytes, zero, request = (
        HEADER.unpack_from(view)
    )
    if magic != MAGIC:
        raise MalformedFrame("not a Cumulus frame")
    if version != VERSION:
        raise MalformedFrame(f"wire version {version}; this node speaks {VERSION}")
    if not REQUEST <= kind <= ERROR or flags & ~FLAG_ODD or zero or payloads > PAYLOADS_MAX:
        raise MalformedFrame("a header field is out of range")
    trace_at = HEADER_BYTES + tag_bytes
    body_at = trace_at + trace_bytes
    if tag_bytes > TAG_MAX or trace_bytes > TRACE_MAX or body_at > len(view):
        raise MalformedFrame("the head frame is too short")
    if len(view) - body_at > BODY_MAX:
        raise MalformedFrame("the body is too large")
    tag = bytes(view[HEADER_BYTES:trace_at])
    trace = ""
    if trace_bytes:
        trace = bytes(view[trace_at:body_at]).decode("latin-1")
        if not is_trace(trace):
            raise MalformedFrame("the trace is not printable ASCII")
    return Head(kind, flags, payloads, request, tag, trace, view[body_at:])


def check_payloads(head: Head, payloads: Sequence[Buffer]) -> None:
    """The payload frames must be as many as announced, and within limits. Raises MalformedFrame."""
    if len(payloads) != head.payloads:
        raise MalformedFrame(f"{len(payloads)} payload frames, {head.payloads} announced")
    total = 0
    for payload in payloads:
        size = len(payload)
        total += size
        if size > PAYLOAD_MAX or total > MESSAGE_MAX:
            raise MalformedFrame("payload frames are too large")


class Codec:
    """MessagePack bodies with payload references. One per event loop; not for several threads."""

    def __init__(self) -> None:
        self._sent: list[Buffer] = []
        self._received: Sequence[Buffer] = ()
        self._taken = 0
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._put)
        self._decoders: dict[type[msgspec.Struct], msgspec.msgpack.Decoder[Any]] = {}

    def encode(self, value: msgspec.Struct) -> tuple[bytes, list[Buffer]]:
        """Body and payload frames. Raises OversizeMessage."""
        self._sent = []
        body = self._encoder.encode(value)
        payloads = self._sent
        if len(body) > BODY_MAX or len(payloads) > PAYLOADS_MAX:
            raise OversizeMessage(f"{type(value).__name__}: {len(body)} bytes of body")
        if payloads:
            sizes = [len(payload) for payload in payloads]
            if max(sizes) > PAYLOAD_MAX or sum(sizes) > MESSAGE_MAX:
                raise OversizeMessage(f"{type(value).__name__}: {sum(sizes)} bytes of payload")
        return body, payloads

    def decode(self, kind: type[S], body: Buffer, payloads: Sequence[Buffer]) -> S:
        """A value of `kind`; every payload frame must be used exactly once.

        Payload buffers are the frames themselves, not copies. Raises MalformedFrame.
        """
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = msgspec.msgpack.Decoder(kind, dec_hook=self._get)
            self._decoders[kind] = decoder
        self._received = payloads
        self._taken = 0
        try:
            value: S = decoder.decode(body)
        except (
            ValueError,
            TypeError,
            OverflowError,
            RecursionError,
            msgspec.MsgspecError,
        ) as error:
            raise MalformedFrame(f"{kind.__name__}: {error}") from None
        finally:
            self._received = ()
        if self._taken != len(payloads):
            raise MalformedFrame(f"{kind.__name__}: a payload frame is not used")
        return value

    def _put(self, value: object) -> int:
        if not isinstance(value, Payload):
            raise TypeError(f"cannot send a {type(value).__name__}")
        buffer = value.buffer
        if isinstance(buffer, memoryview) and (buffer.itemsize != 1 or buffer.ndim != 1):
            buffer = buffer.cast("B")
        self._sent.append(buffer)
        return len(self._sent) - 1

    def _get(self, kind: type, value: object) -> Payload:
        # References stand in the order of their frames, so "used exactly once" is a counter.
        if kind is not Payload or type(value) is not int or value != self._taken:
            raise ValueError("a payload reference is out of order")
        if value >= len(self._received):
            raise ValueError("a payload frame is missing")
        self._taken += 1
        return Payload(self._received[value])
