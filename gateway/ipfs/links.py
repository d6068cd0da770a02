"""What a block links to, by its codec: for walks that take every link, whatever it is called.

DAG-PB, DAG-CBOR (https://ipld.io/specs/codecs/dag-cbor/spec/: tag 42) and DAG-JSON
(https://ipld.io/specs/codecs/dag-json/spec/: {"/": "CID"}). Blocks of other codecs are leaves.
"""

import json
from collections.abc import Iterator

from chain.cids import DAG_CBOR, DAG_JSON, DAG_PB, Cid, InvalidCid
from gateway.ipfs import dagpb
from gateway.ipfs.errors import BlockError

_DEPTH_MAX = 256
_LINKS_MAX = 100_000
_BYTES, _TEXT, _LIST, _MAP, _TAG = 2, 3, 4, 5, 6  # CBOR's major types
_INSIDE = (_LIST, _MAP, _TAG)
_LINK = 42


def links(cid: Cid, block: bytes) -> list[Cid]:
    """The CIDs that a block links to, in order, as often as it does. Raises BlockError."""
    codec = cid.codec
    if codec == DAG_PB:
        return [link.cid for link in dagpb.decode(block).links]
    if codec == DAG_CBOR:
        return _limited(_cbor_links(block))
    if codec == DAG_JSON:
        return _limited(_json_links(block))
    return []


def _limited(found: Iterator[Cid]) -> list[Cid]:
    taken: list[Cid] = []
    for cid in found:
        if len(taken) == _LINKS_MAX:
            raise BlockError(f"a block of more than {_LINKS_MAX} links")
        taken.append(cid)
    return taken


def _cbor_links(block: bytes) -> Iterator[Cid]:
    """Tags 42 of one item, found without building it. Cost follows the block's bytes."""
    left = [1]  # items that are still to come, at each depth
    at = 0
    is_link = False
    while left:
        if not left[-1]:
            left.pop()
            continue
        left[-1] -= 1
        kind, value, at = _cbor_head(block, at)
        if is_link and kind != _BYTES:
            raise BlockError("a link that is no byte string")
        if kind in (_BYTES, _TEXT):
            if value > len(block) - at:
                raise BlockError("a DAG-CBOR block is cut off")
            if is_link:
                yield _link(block[at : at + value])
            at += value
        elif kind in _INSIDE:
            left.append(_items(kind, value, len(left), len(block)))
        is_link = kind == _TAG
    if at != len(block):
        raise BlockError("bytes behind a DAG-CBOR item")


def _items(kind: int, value: int, depth: int, size: int) -> int:
    """How many items a list, map or tag holds."""
    if kind == _TAG:
        if value != _LINK:
            raise BlockError(f"DAG-CBOR has no tag {value}")
        return 1
    if value > size:
        raise BlockError("a DAG-CBOR block is cut off")
    if depth == _DEPTH_MAX:
        raise BlockError("a DAG-CBOR block is too deep")
    return value if kind == _LIST else 2 * value


def _cbor_head(block: bytes, at: int) -> tuple[int, int, int]:
    """(major type, argument, offset behind it)."""
    if at >= len(block):
        raise BlockError("a DAG-CBOR block is cut off")
    kind, short = block[at] >> 5, block[at] & 0x1F
    if short < 24:
        return kind, short, at + 1
    if short > 27:
        raise BlockError("DAG-CBOR says how long everything is")
    end = at + 1 + (1 << (short - 24))
    if end > len(block):
        raise BlockError("a DAG-CBOR block is cut off")
    return kind, int.from_bytes(block[at + 1 : end], "big"), end


def _link(raw: bytes) -> Cid:
    if raw[:1] != b"\x00":
        raise BlockError("a link without its multibase")
    try:
        return Cid.from_bytes(raw[1:])
    except InvalidCid as error:
        raise BlockError(f"a link: {error}") from None


def _json_links(block: bytes) -> Iterator[Cid]:
    try:
        waiting = [json.loads(block)]
    except (ValueError, RecursionError):
        raise BlockError("a block is not JSON") from None
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, dict):
            text = value.get("/")
            if len(value) == 1 and isinstance(text, str):
                try:
                    yield Cid.parse(text)
                except InvalidCid as error:
                    raise BlockError(f"a link: {error}") from None
            else:
                waiting += reversed(value.values())
