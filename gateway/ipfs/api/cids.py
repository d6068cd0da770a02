"""`cid …`: CIDs in other words. Nothing is stored or read."""

from collections.abc import Mapping
from typing import Any

from chain.cids import BLAKE3, DAG_PB, IDENTITY, SHA2_256, SHA2_512, Cid
from gateway.ipfs.api.call import Call, Lines, Reply, Value, each
from gateway.ipfs.api.errors import ApiError, BadCall
from gateway.ipfs.api.node import Node
from gateway.ipfs.api.paths import encoded, parse_cid
from gateway.ipfs.codecs import ipld

_BASES = {"base16": "f", "base32": "b", "base36": "k", "base58btc": "z"}
_HASHES = {
    IDENTITY: "identity", SHA2_256: "sha2-256", SHA2_512: "sha2-512", BLAKE3: "blake3",
}  # fmt: skip


async def form(_node: Node, call: Call) -> Reply:
    """CIDs in another version or base."""
    call.argument(0, "cid")
    lines = [{"CidStr": text, **_formatted(call, text)} for text in call.arguments]
    return Lines(each(lines))


def _formatted(call: Call, text: str) -> dict[str, str]:
    version = call.text("v")
    if version not in ("", "0", "1"):
        raise BadCall("the version is 0 or 1")
    try:
        cid = parse_cid(text)
        base = call.text("b")
        if version == "0":
            if cid.codec != DAG_PB or cid.hash_code != SHA2_256 or base not in ("", "base58btc"):
                raise ApiError(f"{text} cannot be version 0")
            return {"Formatted": str(Cid(cid.multihash)), "ErrorMsg": ""}
        if not base and not version:
            return {"Formatted": str(cid), "ErrorMsg": ""}
        return {"Formatted": encoded(cid, base or "base32"), "ErrorMsg": ""}
    except ApiError as error:
        return {"Formatted": "", "ErrorMsg": str(error)}


async def base32(_node: Node, call: Call) -> Reply:
    """CIDs as version 1 in base32."""
    call.argument(0, "cid")
    options = {"b": "base32", "v": "1"}
    as_base32 = Call(call.command, call.arguments, options)
    return Lines(each([{"CidStr": x, **_formatted(as_base32, x)} for x in call.arguments]))


async def codecs(_node: Node, _call: Call) -> Reply:
    """The codecs that are known."""
    return Value([{"Code": code, "Name": name} for code, name in ipld.NAMES.items()])


async def hashes(_node: Node, _call: Call) -> Reply:
    """The hash functions that are known."""
    return Value([{"Code": code, "Name": name} for code, name in _HASHES.items()])


async def bases(_node: Node, _call: Call) -> Reply:
    """The bases that are known."""
    return Value([{"Code": ord(mark), "Name": name} for name, mark in _BASES.items()])


COMMANDS: Mapping[str, Any] = {
    "cid/format": form,
    "cid/base32": base32,
    "cid/codecs": codecs,
    "cid/hashes": hashes,
    "cid/bases": bases,
}
