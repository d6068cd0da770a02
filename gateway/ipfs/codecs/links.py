"""What a block links to, by its codec: for walks that take every link, whatever it is called.

DAG-PB, DAG-CBOR and DAG-JSON have links. Blocks of other codecs are leaves.
"""

from chain.cids import DAG_CBOR, DAG_JSON, DAG_PB, Cid
from gateway.ipfs.codecs import dagpb, ipld
from gateway.ipfs.codecs.data_model import Value

_LINKED = (DAG_PB, DAG_CBOR, DAG_JSON)


def has_links(cid: Cid) -> bool:
    """Whether blocks of this codec may link to others."""
    return cid.codec in _LINKED


def links(cid: Cid, block: bytes) -> list[Cid]:
    """The CIDs that a block links to, in order, as often as it does. Raises BlockError."""
    codec = cid.codec
    if codec == DAG_PB:
        return [link.cid for link in dagpb.decode(block).links]
    return _inside(ipld.decode(codec, block)) if codec in _LINKED else []


def _inside(value: Value) -> list[Cid]:
    found: list[Cid] = []
    waiting: list[Value] = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Cid):
            found.append(value)
        elif isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, dict):
            waiting += reversed(value.values())
    return found
