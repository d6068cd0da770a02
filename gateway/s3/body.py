"""A request's body: framing, length and limits, as a stream of buffers or as one document."""

import hmac
import re
from collections import deque
from hashlib import sha256
from typing import Self

from chain.net.http import ClientDisconnected
from chain.net.transport import Buffer
from gateway.bodies import Fill
from gateway.errors import EntityTooLarge, IncompleteBody, InvalidArgument, NotImplementedHere
from gateway.s3.auth import Caller
from gateway.s3.chunked import ChunkedDecoder
from gateway.s3.errors import (
    ContentSHA256Mismatch,
    MaxMessageLengthExceeded,
    MissingContentLength,
    ProtocolError,
)
from gateway.s3.request import Request
from gateway.s3.sigv4 import UNSIGNED_PAYLOAD

PUT_MAX = 5 << 30  # one PUT or part
_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InvalidArgument(f"{name} is not a length.", ArgumentName=name, ArgumentValue=text)
    return int(text)


class RequestBody:
    """The body of one request; read it once, as an async iterator or by `document`.

    `length` is the number of payload bytes, None when the request does not say. `sha256` is what
    the payload must hash to (checked by whoever iterates), or None.
    """

    def __init__(self, request: Request, caller: Caller) -> None:
        headers = request.headers
        self._receive = request.receive
        self._fill = request.fill
        self._decoder: ChunkedDecoder | None = None
        self._decoded: deque[Buffer] = deque()
        self._more = True
        self._seen = 0
        self.sha256: str | None = None
        stated = headers.get("content-length")
        self.length = None if stated is None else _number(stated, "Content-Length")
        payload = caller.payload
        if payload.startswith("STREAMING-"):
            self._open_chunked(request, caller)
        elif payload != UNSIGNED_PAYLOAD:
            if not _SHA256_HEX.fullmatch(payload):
                raise InvalidArgument(
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, "
                    f"{_UNSIGNED_TRAILER}, {_SIGNED}, {_SIGNED_TRAILER} or a valid sha256 value.",
                    ArgumentName="x-amz-content-sha256",
                    ArgumentValue=payload,
                )
            self.sha256 = payload
        self.chunked_transfer = "transfer-encoding" in headers

    def _open_chunked(self, request: Request, caller: Caller) -> None:
        payload = caller.payload
        if payload not in (_SIGNED, _SIGNED_TRAILER, _UNSIGNED_TRAILER):
            raise NotImplementedHere(f"{payload} is not supported.")
        if payload != _UNSIGNED_TRAILER and caller.chunks is None:
            raise ProtocolError("Signed chunks need an AWS4-HMAC-SHA256 signature.")
        decoded = request.headers.get("x-amz-decoded-content-length")
        if decoded is None:
            raise MissingContentLength(
                "You must provide the x-amz-decoded-content-length HTTP header."
            )
        self.length = _number(decoded, "x-amz-decoded-content-length")
        self._decoder = ChunkedDecoder(
            self.length, caller.chunks, trailer=payload != _SIGNED
        )  # fmt: skip

    @property
    def trailers(self) -> dict[str, str]:
        """Trailer fields; complete once the iteration has ended."""
        return self._decoder.trailers if self._decoder is not None else {}

    def upload_length(self) -> int:
        """The payload's length. Raises MissingContentLength, EntityTooLarge."""
        if self.length is None:
            raise MissingContentLength
        if self.length > PUT_MAX:
            raise EntityTooLarge(ProposedSize=str(self.length), MaxSizeAllowed=str(PUT_MAX))
        return self.length

    @property
    def fill(self) -> Fill | None:
        """How the body can be read to where it belongs (see Direct): not when it is encoded."""
        return self._read_to if self._fill is not None and self._decoder is None else None

    async def _read_to(self, place: memoryview) -> int:
        assert self._fill is not None
        try:
            count = await self._fill(place)
        except ClientDisconnected:
            raise IncompleteBody from None
        self._seen += count
        if count < len(place):
            self._more = False
            self._finish()
        return count

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Buffer:
        """Payload buffers. Raises IncompleteBody when the client leaves, and framing errors.

        No generator: the event loop keeps a list of those, which costs a small PUT 5 µs.
        """
        while not self._decoded:
            if not self._more:
                self._finish()
                raise StopAsyncIteration
            message = await self._receive()
            if message["type"] != "http.request":
                raise IncompleteBody
            self._more = message.get("more_body", False)
            data: Buffer = message.get("body", b"")
            if self._decoder is not None:
                self._decoded.extend(self._decoder.feed(data))
            elif data:
                self._seen += len(data)
                return data
        return self._decoded.popleft()

    def _finish(self) -> None:
        if self._decoder is not None:
            self._decoder.finish()
        elif self.length is not None and self._seen != self.length:
            raise IncompleteBody

    async def document(self, limit: int) -> bytes:
        """The whole payload, at most `limit` bytes, its signed hash checked.

        Raises MaxMessageLengthExceeded, ContentSHA256Mismatch.
        """
        if self.length == 0 or (self.length is None and not self.chunked_transfer):
            self.check_hash(b"")
            return b""
        if self.length is not None and self.length > limit:
            raise MaxMessageLengthExceeded(MaxMessageLengthBytes=str(limit))
        gathered = bytearray()
        async for piece in self:
            gathered += piece
            if len(gathered) > limit:
                raise MaxMessageLengthExceeded(MaxMessageLengthBytes=str(limit))
        data = bytes(gathered)
        self.check_hash(data)
        return data

    def check_hash(self, data: bytes) -> None:
        """Compare the signed hash, if there is one. Raises ContentSHA256Mismatch."""
        if self.sha256 is not None:
            check_sha256(self.sha256, sha256(data).digest())


def check_sha256(claimed: str, computed: bytes) -> None:
    """Compare a signed payload hash. Raises ContentSHA256Mismatch."""
    actual = computed.hex()
    if not hmac.compare_digest(claimed, actual):
        raise ContentSHA256Mismatch(
            ClientComputedContentSHA256=claimed, S3ComputedContentSHA256=actual
        )
