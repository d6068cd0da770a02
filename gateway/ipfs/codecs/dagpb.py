"""DAG-PB blocks (https://ipld.io/specs/codecs/dag-pb/spec/).

`encode` writes the one canonical form: links before data, fields of a link in order Hash, Name,
Tsize. (Links of a HAMT or a file keep the order they are given; a directory's are sorted by name
bytes by whoever builds it.) `decode` takes what others wrote as well: data before links (IPIP-550),
fields of a link in any order, no name or size. A block is named by its bytes, so nothing is lost.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from chain import varint
from chain.cids import DAG_PB, SHA2_256, Cid, InvalidCid
from gateway.ipfs.errors import BlockError

# Blocks are at most 2 MiB everywhere in IPFS.
BLOCK_BYTES_MAX = 2 << 20
LINKS_MAX = 65_536

_LINKS, _DATA = b"\x12", b"\x0a"  # field 2 and 1 of the node, length-delimited
_HASH, _NAME, _TSIZE = b"\x0a", b"\x12", b"\x18"


class Link(NamedTuple):
    """A link: target, name within the parent, bytes of everything below it."""

    cid: Cid
    name: str
    size: int
    # Others may leave a field out: "" or 0 to whoever reads it, but another block to its CID.
    has_name: bool = True
    has_size: bool = True


class Node(NamedTuple):
    """A DAG-PB node. `data` is None when the block has no data field."""

    links: tuple[Link, ...]
    data: bytes | None


def encode(links: Sequence[Link], data: bytes | None) -> bytes:
    """The canonical block."""
    out = []
    for link in links:
        if not (link.has_name and link.has_size):
            body = _partial(link)
        else:
            name = link.name.encode("utf-8", "surrogateescape")
            body = b"".join((
                _HASH, varint.encode(len(link.cid.raw)), link.cid.raw,
                _NAME, varint.encode(len(name)), name,
                _TSIZE, varint.encode(link.size),
            ))  # fmt: skip
        out += [_LINKS, varint.encode(len(body)), body]
    if data is not None:
        out += [_DATA, varint.encode(len(data)), data]
    return b"".join(out)


def _partial(link: Link) -> bytes:
    """A link of which fields may be left out; one that is not empty is written all the same."""
    parts = [_HASH, varint.encode(len(link.cid.raw)), link.cid.raw]
    if link.name or link.has_name:
        name = link.name.encode("utf-8", "surrogateescape")
        parts += [_NAME, varint.encode(len(name)), name]
    if link.size or link.has_size:
        parts += [_TSIZE, varint.encode(link.size)]
    return b"".join(parts)


def cid_of(block: bytes) -> Cid:
    """The CIDv1 (SHA2-256) of a DAG-PB block."""
    return Cid.of(DAG_PB, SHA2_256, hashlib.sha256(block).digest())


def decode(block: bytes) -> Node:
    """Read a block. Raises BlockError."""
    if len(block) > BLOCK_BYTES_MAX:
        raise BlockError("a DAG-PB block is larger than 2 MiB")
    links: list[Link] = []
    data: bytes | None = None
    at = 0
    while at < len(block):
        tag = block[at : at + 1]
        body, at = _field(block, at + 1)
        if tag == _LINKS:
            if len(links) == LINKS_MAX:
                raise BlockError("too many links")
            links.append(_link(body))
        elif tag == _DATA and data is None:
            data = body
        else:
            raise BlockError("not a DAG-PB node")
    return Node(tuple(links), data)


def _field(block: bytes, at: int) -> tuple[bytes, int]:
    if at < len(block) and block[at] < 0x80:
        size, at = block[at], at + 1
    else:
        size, at = varint.decode(block, at, BlockError)
    if size > len(block) - at:
        raise BlockError("a field is longer than the block")
    return block[at : at + size], at + size


def _link(body: bytes) -> Link:
    # What nearly every link is: a CIDv1 of 36 bytes, a name of up to 127, a size.
    if body[:2] == b"\x0a\x24" and len(body) > 41 and body[38] == 0x12 and body[39] < 0x80:
        at = 40 + body[39]
        if body[at : at + 1] == _TSIZE:
            size, end = varint.decode(body, at + 1, BlockError)
            if end == len(body):
                name = body[40:at].decode("utf-8", "surrogateescape")
                return Link(_cid(body[2:38]), name, size)
    return _any_link(body)


def _cid(raw: bytes) -> Cid:
    try:
        return Cid.from_bytes(raw)
    except InvalidCid as error:
        raise BlockError(f"a link: {error}") from None


def _any_link(body: bytes) -> Link:
    raw: bytes | None = None
    name: bytes | None = None
    size: int | None = None
    at = 0
    while at < len(body):
        tag = body[at : at + 1]
        if tag == _HASH and raw is None:
            raw, at = _field(body, at + 1)
        elif tag == _NAME and name is None:
            name, at = _field(body, at + 1)
        elif tag == _TSIZE and size is None:
            size, at = varint.decode(body, at + 1, BlockError)
        else:
            raise BlockError("a link has unknown fields, or one twice")
    if raw is None:
        raise BlockError("a link without a hash")
    text = (name or b"").decode("utf-8", "surrogateescape")
    return Link(_cid(raw), text, size or 0, name is not None, size is not None)
