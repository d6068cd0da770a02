"""CAR, pure: frames out, blocks in. Format and limits: docs/specs/car.md."""

from collections.abc import Iterator, Sequence

from chain import dagcbor, varint
from chain.cids import Cid, InvalidCid
from chain.net.transport import Buffer
from gateway.ipfs.codecs.dagpb import BLOCK_BYTES_MAX
from gateway.ipfs.errors import BlockError

HEADER_BYTES_MAX = 64 << 10
SECTION_BYTES_MAX = BLOCK_BYTES_MAX + 128
ROOTS_MAX = 1024
_CID_BYTES_MAX = 160
_VERSION_2, _V2_HEADER = b"\xa1\x67version\x02", 40


def header(roots: Sequence[Cid]) -> bytes:
    """The head of a CAR."""
    body = dagcbor.encode({"roots": [cid.raw for cid in roots], "version": 1})
    return varint.encode(len(body)) + body


def section_head(cid: Cid, size: int) -> bytes:
    """What stands before a block of `size` bytes."""
    return varint.encode(len(cid.raw) + size) + cid.raw


class CarReader:
    """Bytes in, checked blocks out; no I/O. Holds at most one section beyond what was fed.

    Reads CARv1, and of a CARv2 the CARv1 inside. `check` False: whether a block is what its CID
    names is left to somebody else.
    """

    def __init__(self, *, check: bool = True) -> None:
        self._check = check
        self.roots: tuple[Cid, ...] | None = None  # known once the header is in
        self.at = 0  # where in the stream the block begins that was given last
        self._pending = bytearray()
        self._begin = 0  # where in the stream the pending bytes begin
        self._wrapped = False  # a CARv2, whose own header is still to come
        self._inner: tuple[int, int] | None = None  # of a CARv2: where its CARv1 is

    def feed(self, data: Buffer) -> Iterator[tuple[Cid, bytes]]:
        """The blocks that `data` completes. Raises BlockError; the reader is of no use then."""
        self._pending += data
        at = 0
        while (frame := self._frame(at)) is not None:
            start, at = frame
            body = bytes(self._pending[start:at])
            if self.roots is not None:
                cid, block = _parse_section(body, check=self._check)
                self.at = self._begin + at - len(block)
                yield cid, block
            elif self._wrapped:
                self._wrapped = False
                self._inner = _parse_inner(body)
            elif self._inner is None and body == _VERSION_2:
                self._wrapped = True
            else:
                self.roots = _parse_header(body)
        at = len(self._pending) if self._is_behind(at) else at
        self._begin += at
        del self._pending[:at]

    def finish(self) -> None:
        """Say that there is no more. Raises BlockError when the CAR is cut off."""
        if self.roots is None or self._pending or not (self._inner is None or self._is_behind(0)):
            raise BlockError("the CAR is cut off")

    def _is_behind(self, at: int) -> bool:
        """Whether only a CARv2's index is left."""
        return self._inner is not None and self._begin + at >= self._inner[1]

    def _frame(self, at: int) -> tuple[int, int] | None:
        """(start, end) of the body of the frame at `at`, once it is whole."""
        if self._wrapped:
            return (at, at + _V2_HEADER) if at + _V2_HEADER <= len(self._pending) else None
        if self._inner is not None:
            at = max(at, self._inner[0] - self._begin)  # what lies before the CARv1 is padding
            if self._is_behind(at):
                return None
        limit = HEADER_BYTES_MAX if self.roots is None else SECTION_BYTES_MAX
        head = bytes(self._pending[at : at + 9])
        if len(head) > 1 and head[0] > 0x7F and 0 < head[1] < 0x80:  # 128 to 16,383: most of them
            size, used = head[0] & 0x7F | head[1] << 7, 2
        elif not any(byte < 0x80 for byte in head) and len(head) < 9:
            return None
        else:
            size, used = varint.decode(head, 0, BlockError)
        if not 0 < size <= limit:
            raise BlockError(f"a CAR section of {size} bytes")
        end = at + used + size
        if self._inner is not None and self._begin + end > self._inner[1]:
            raise BlockError("a CAR section is longer than the CARv2 says")
        return (at + used, end) if end <= len(self._pending) else None


def _parse_inner(header: bytes) -> tuple[int, int]:
    """Where a CARv2 says that its CARv1 is: [start, end) of the stream."""
    start, size = int.from_bytes(header[16:24], "little"), int.from_bytes(header[24:32], "little")
    if start < 1 + len(_VERSION_2) + _V2_HEADER or not size or start + size >= 1 << 63:
        raise BlockError("a CARv2 whose CARv1 is nowhere")
    return start, start + size


def _parse_header(body: bytes) -> tuple[Cid, ...]:
    try:
        value = dagcbor.decode(body)
    except dagcbor.NotCanonical:
        raise BlockError("the CAR header is not DAG-CBOR") from None
    if not isinstance(value, dict) or set(value) != {"roots", "version"} or value["version"] != 1:
        raise BlockError("not a CARv1 header")
    roots = value["roots"]
    if not isinstance(roots, list) or len(roots) > ROOTS_MAX:
        raise BlockError(f"a CAR has at most {ROOTS_MAX} roots")
    try:
        return tuple(Cid.from_bytes(root) for root in roots)
    except (InvalidCid, TypeError):
        raise BlockError("a CAR root is no CID") from None


def _parse_section(body: bytes, *, check: bool) -> tuple[Cid, bytes]:
    size = _cid_bytes(body)
    try:
        cid = Cid.from_bytes(body[:size])
    except InvalidCid as error:
        raise BlockError(f"a CAR section: {error}") from None
    block = body[size:]
    if check and not cid.matches(block):
        raise BlockError(f"a block is not what {cid} names")
    return cid, block


def _cid_bytes(body: bytes) -> int:
    """How many of the first bytes are the CID."""
    if body[:2] == b"\x12\x20":
        return 34
    if body[2:4] == b"\x12\x20" and body[0] == 1 and body[1] < 0x80 and len(body) >= 36:
        return 36  # version 1, a codec of one byte, SHA2-256
    at = 0
    for _ in range(3):  # version, codec, hash function
        _, at = varint.decode(body, at, BlockError)
    size, at = varint.decode(body, at, BlockError)
    if at + size > min(len(body), _CID_BYTES_MAX):
        raise BlockError("a CAR section is shorter than its CID")
    return at + size
