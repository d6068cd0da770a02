"""Incremental decoder of `aws-chunked` bodies. Sans-IO: bytes in, slices of payload out.

    size[;chunk-signature=SIG] CRLF  data CRLF  …  0[;chunk-signature=SIG] CRLF  trailer CRLF

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html (and -trailers).
Slices of the caller's buffers are handed on uncopied; only an unfinished line is kept back. The
signature of a chunk is checked when its last byte is in, so payload is given out before it is
proved: who stores it must wait for `finish`.
"""

from collections.abc import Iterator
from enum import Enum, auto
from hashlib import sha256

from chain.net.transport import Buffer
from gateway.errors import IncompleteBody
from gateway.s3.errors import InvalidChunk, MalformedTrailer, SignatureDoesNotMatch
from gateway.s3.sigv4 import ChunkSigner

# 16 digits of size, `;chunk-signature=`, 64 digits, CRLF.
HEADER_MAX = 128
TRAILER_MAX = 4096
_SIGNATURE_EXTENSION = b"chunk-signature="
_TRAILER_SIGNATURE = "x-amz-trailer-signature"
_HEX = frozenset(b"0123456789abcdefABCDEF")


class _State(Enum):
    HEADER = auto()
    DATA = auto()
    DATA_END = auto()  # the CRLF behind a chunk's data
    TRAILER = auto()
    DONE = auto()


class ChunkedDecoder:
    """Decodes one body.

    `length` is x-amz-decoded-content-length: more or fewer bytes are refused. With `signer` every
    chunk must be signed (and the trailer, with `trailer=True`); without it none may need to be.
    """

    def __init__(
        self, length: int, signer: ChunkSigner | None = None, *, trailer: bool = False
    ) -> None:
        self._left = length
        self._signer = signer
        self._has_trailer = trailer
        self._state = _State.HEADER
        self._line = bytearray()
        self._chunk_left = 0
        self._chunk_size = 0
        self._signature = ""
        self._hash = sha256()
        self._trailer_bytes = 0
        self._trailer_signature = ""
        self._canonical_trailer: list[str] = []
        # Trailer names in lower case -> values; complete after `finish`.
        self.trailers: dict[str, str] = {}

    def feed(self, data: Buffer) -> Iterator[memoryview]:
        """Payload in `data`, as slices of it.

        Raises InvalidChunk, IncompleteBody (more than `length`), SignatureDoesNotMatch,
        MalformedTrailer.
        """
        view = memoryview(data)
        at = 0
        while at < len(view):
            if self._state is _State.DATA:
                take = min(self._chunk_left, len(view) - at)
                piece = view[at : at + take]
                at += take
                self._chunk_left -= take
                if self._signer is not None:
                    self._hash.update(piece)
                if not self._chunk_left:
                    self._end_chunk()
                yield piece
            elif self._state is _State.DONE:
                raise InvalidChunk("There are bytes after the last chunk.")
            else:
                at = self._take_line(view, at)

    def finish(self) -> None:
        """The body has ended. Raises IncompleteBody, MalformedTrailer, SignatureDoesNotMatch."""
        if self._state is _State.TRAILER:
            # Some clients leave out the empty line behind the trailer.
            if self._line:
                self._trailer_line(bytes(self._line))
            self._end_body()
        if self._state is not _State.DONE:
            raise IncompleteBody
        if self._left:
            raise IncompleteBody(
                "The decoded body is shorter than x-amz-decoded-content-length says."
            )

    # -------------------------------------------------------------- lines
    def _take_line(self, view: memoryview, at: int) -> int:
        """Gather bytes up to a line feed and act on the line; returns the new position."""
        limit = TRAILER_MAX if self._state is _State.TRAILER else HEADER_MAX
        window = bytes(view[at : at + limit + 1 - len(self._line)])
        end = window.find(b"\n")
        if end < 0:
            self._line += window
            if len(self._line) > limit:
                raise InvalidChunk
            return at + len(window)
        self._line += window[: end + 1]
        line = bytes(self._line)
        self._line.clear()
        if len(line) > limit:
            raise InvalidChunk
        match self._state:
            case _State.HEADER:
                self._chunk_header(line)
            case _State.DATA_END:
                if line != b"\r\n":
                    raise InvalidChunk
                self._state = _State.HEADER
            case _:
                self._trailer_line(line)
        return at + end + 1

    def _chunk_header(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise InvalidChunk
        size_text, _, extension = line[:-2].partition(b";")
        if not 0 < len(size_text) <= 16 or not _HEX.issuperset(size_text):
            raise InvalidChunk
        size = int(size_text, 16)
        if self._signer is not None:
            if not extension.startswith(_SIGNATURE_EXTENSION):
                raise SignatureDoesNotMatch("A chunk of the body has no signature.")
            self._signature = extension[len(_SIGNATURE_EXTENSION) :].decode("latin-1")
        if size > self._left:
            raise IncompleteBody(
                "The decoded body is longer than x-amz-decoded-content-length says."
            )
        self._left -= size
        self._chunk_size = self._chunk_left = size
        if size:
            self._state = _State.DATA
        else:
            self._end_chunk()

    def _end_chunk(self) -> None:
        if self._signer is not None:
            self._signer.check_chunk(self._hash.hexdigest(), self._signature)
            self._hash = sha256()
        self._state = _State.DATA_END if self._chunk_size else _State.TRAILER

    # -------------------------------------------------------------- trailer
    def _trailer_line(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if self._trailer_bytes > TRAILER_MAX:
            raise MalformedTrailer
        text = line.decode("latin-1").strip()
        if text:
            self._trailer_field(text)
        elif not self._awaits_signature():
            self._end_body()

    def _awaits_signature(self) -> bool:
        # AWS's own example has an empty line between the trailer and its signature.
        return bool(self._signer is not None and self.trailers and not self._trailer_signature)

    def _trailer_field(self, text: str) -> None:
        name, mark, value = text.partition(":")
        name, value = name.strip().lower(), value.strip()
        if not mark or not name or name in self.trailers or not self._has_trailer:
            raise MalformedTrailer
        if name == _TRAILER_SIGNATURE:
            if self._trailer_signature:
                raise MalformedTrailer
            self._trailer_signature = value
            return
        self.trailers[name] = value
        self._canonical_trailer.append(f"{name}:{value}\n")

    def _end_body(self) -> None:
        if self._signer is not None and self._has_trailer:
            canonical = "".join(self._canonical_trailer).encode("latin-1")
            self._signer.check_trailer(sha256(canonical).hexdigest(), self._trailer_signature)
        self._state = _State.DONE
