"""IPLD's data model, and blocks of each codec as values of it. Pure.

https://ipld.io/docs/data-model/. A link is a Cid and bytes are bytes: chain/dagcbor.py, which the
ledger uses, tells them not apart (ADR 194). What is read is bounded in depth and in items.
"""

from chain.cids import CBOR, DAG_CBOR, DAG_JSON, DAG_PB, JSON, LIBP2P_KEY, RAW, Cid
from gateway.ipfs.codecs import cbor, dagjson, dagpb
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.codecs.data_model import Value
from gateway.ipfs.errors import BlockError

NAMES = {
    RAW: "raw",
    DAG_PB: "dag-pb",
    DAG_CBOR: "dag-cbor",
    DAG_JSON: "dag-json",
    CBOR: "cbor",
    JSON: "json",
    LIBP2P_KEY: "libp2p-key",
}
CODECS = {name: code for code, name in NAMES.items() if code != LIBP2P_KEY}


def name(codec: int) -> str:
    """What a codec is called; its number where that is not known."""
    return NAMES.get(codec, f"{codec:#x}")


def decode(codec: int, block: bytes) -> Value:
    """The value of a block. Raises BlockError."""
    if codec == RAW:
        return block
    if codec == DAG_PB:
        return _logical(dagpb.decode(block))
    if codec in (DAG_CBOR, CBOR):
        return cbor.decode(block)
    if codec in (DAG_JSON, JSON):
        return dagjson.decode(block, links=codec == DAG_JSON)
    raise BlockError(f"codec {codec:#x} cannot be read")


def encode(codec: int, value: Value) -> bytes:
    """The canonical block of a value. Raises BlockError for what the codec cannot say."""
    if codec == RAW:
        if not isinstance(value, bytes):
            raise BlockError("a raw block is bytes")
        return value
    if codec == DAG_PB:
        return _dag_pb(value)
    if codec in (DAG_CBOR, CBOR):
        return cbor.encode(value)
    if codec in (DAG_JSON, JSON):
        return dagjson.encode(value, links=codec == DAG_JSON)
    raise BlockError(f"codec {codec:#x} cannot be written")


def _logical(node: dagpb.Node) -> Value:
    """DAG-PB's logical format (https://ipld.io/specs/codecs/dag-pb/spec/#logical-format)."""
    links: list[Value] = []
    for link in node.links:
        shown: dict[str, Value] = {"Hash": link.cid}
        if link.has_name:
            shown["Name"] = link.name
        if link.has_size:
            shown["Tsize"] = link.size
        links.append(shown)
    return {"Links": links} if node.data is None else {"Data": node.data, "Links": links}


def _dag_pb(value: Value) -> bytes:
    if not isinstance(value, dict) or not {"Links"} <= set(value) <= {"Data", "Links"}:
        raise BlockError("a DAG-PB node has Links, and Data or not")
    data, links = value.get("Data"), value["Links"]
    if not isinstance(links, list) or not isinstance(data, bytes | None):
        raise BlockError("DAG-PB: Links is a list and Data is bytes")
    block = dagpb.encode([_link(link) for link in links], data)
    if len(block) > dagpb.BLOCK_BYTES_MAX:
        raise BlockError("a DAG-PB block is larger than 2 MiB")
    return block


def _link(value: Value) -> Link:
    if isinstance(value, dict) and set(value) <= {"Hash", "Name", "Tsize"}:
        cid, name, size = value.get("Hash"), value.get("Name", ""), value.get("Tsize", 0)
        is_sized = type(size) is int and 0 <= size < 1 << 63
        if isinstance(cid, Cid) and isinstance(name, str) and type(size) is int and is_sized:
            return Link(cid, name, size, "Name" in value, "Tsize" in value)
    raise BlockError("a DAG-PB link has Hash (a link), Name (text) and Tsize (a number)")
