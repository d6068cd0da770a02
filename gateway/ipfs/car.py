"""CARv1, pure: frames out, blocks in. Format and limits: docs/specs/car.md."""

from collections.abc import Iterator, Sequence

from chain import dagcbor, varint
from chain.cids import Cid, InvalidCid
from chain.net.transport import Buffer
from gateway.ipfs.dagpb import BLOCK_BYTES_MAX
from gateway.ipfs.errors import BlockError

HEADER_BYTES_MAX = 64 << 10
SECTION_BYTES_MAX = BLOCK_BYTES_MAX + 128
ROOTS_MAX = 64
_CID_BYTES_MAX = 160


def header(roots: Sequence[Cid]) -> bytes:
    """The head of a CAR."""
    body = dagcbor.encode({"roots": [cid.raw for cid in roots], "version": 1})
    return varint.encode(len(body)) + body


def section_head(cid: Cid, size: int) -> bytes:
    """What stands before a block of `size` bytes."""
    return varint.encode(len(cid.raw) + size) + cid.raw


class CarReader:
    """Bytes in, checked blocks out; no I/O. Holds at most one section beyond what was fed."""

    def __init__(self) -> None:
        self.roots: tuple[Cid, ...] | None = None  # known once the header is in
        self._pending = bytearray()

    def feed(self, data: Buffer) -> Iterator[tuple[Cid, bytes]]:
        """The blocks that `data` completes. Raises BlockError; the reader is of no use then."""
        self._pending += data
        at = 0
        while (frame := self._frame(at)) is not None:
            start, at = frame
            body = bytes(self._pending[start:at])
            if self.roots is None:
                self.roots = _parse_header(body)
            else:
                yield _parse_section(body)
        del self._pending[:at]

    def finish(self) -> None:
        """Say that there is no more. Raises BlockError when the CAR is cut off."""
        if self.roots is None or self._pending:
            raise BlockError("the CAR is cut off")

    def _frame(self, at: int) -> tuple[int, int] | None:
        """(start, end) of the body of the frame at `at`, once it is whole."""
        limit = HEADER_BYTES_MAX if self.roots is None else SECTION_BYTES_MAX
        head = bytes(self._pending[at : at + 9])
        if not any(byte < 0x80 for byte in head) and len(head) < 9:
            return None
        size, used = varint.decode(head, 0, BlockError)
        if not 0 < size <= limit:
            raise BlockError(f"a CAR section of {size} bytes")
        end = at + used + size
        return (at + used, end) if end <= len(self._pending) else None


def _parse_header(body: bytes) -> tuple[Cid, ...]:
    try:
        value = dagcbor.decode(body)
    except dagcbor.NotCanonical:
        raise BlockError("the CAR header is not DAG-CBOR") from None
    if not isinstance(value, dict) or set(value) != {"roots", "version"} or value["version"] != 1:
        raise BlockError("not a CARv1 header")
    roots = value["roots"]
    if not isinstance(roots, list) or not 0 < len(roots) <= ROOTS_MAX:
        raise BlockError(f"a CAR has 1 to {ROOTS_MAX} roots")
    try:
        return tuple(Cid.from_bytes(root) for root in roots)
    except (InvalidCid, TypeError):
        raise BlockError("a CAR root is no CID") from None


def _parse_section(body: bytes) -> tuple[Cid, bytes]:
    size = _cid_bytes(body)
    try:
        cid = Cid.from_bytes(body[:size])
    except InvalidCid as error:
        raise BlockError(f"a CAR section: {error}") from None
    block = body[size:]
    if not cid.matches(block):
        raise BlockError(f"a block is not what {cid} names")
    return cid, block


def _cid_bytes(body: bytes) -> int:
    """How many of the first bytes are the CID."""
    if body[:2] == b"\x12\x20":
        return 34
    at = 0
    for _ in range(3):  # version, codec, hash function
        _, at = varint.decode(body, at, BlockError)
    size, at = varint.decode(body, at, BlockError)
    if at + size > min(len(body), _CID_BYTES_MAX):
        raise BlockError("a CAR section is shorter than its CID")
    return at + size
