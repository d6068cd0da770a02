"""A path within a block of IPLD data, up to the first link that it meets. Pure.

https://specs.ipfs.tech/http-gateways/path-gateway/#traversal: keys of maps, indexes of lists.
"""

from collections.abc import Sequence

from chain.cids import Cid
from gateway.ipfs.codecs import ipld
from gateway.ipfs.codecs.data_model import Value
from gateway.ipfs.errors import BlockError, NotAcceptable, NotFound

_INDEX_DIGITS_MAX = 9


def follow(cid: Cid, block: bytes, path: Sequence[str]) -> tuple[Cid | None, int]:
    """(the first link on the path, how many segments lead there); None: all lie in the block.

    Raises NotFound for a segment that is not there, NotAcceptable for a block that is not of its
    codec.
    """
    try:
        value = ipld.decode(cid.codec, block)
    except BlockError as error:
        raise NotAcceptable(f"{cid}: {error}") from None
    for number, name in enumerate(path, 1):
        value = _child(cid, value, name)
        if isinstance(value, Cid):
            return value, number
    return None, len(path)


def _child(cid: Cid, value: Value, name: str) -> Value:
    if isinstance(value, dict) and name in value:
        return value[name]
    if isinstance(value, list) and name.isascii() and name.isdigit():
        index = int(name[:_INDEX_DIGITS_MAX])
        if len(name) <= _INDEX_DIGITS_MAX and index < len(value):
            return value[index]
    raise NotFound(f"no link named {name[:80]!r} under {cid}")
