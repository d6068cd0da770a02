"""Arguments that name content: `/ipfs/CID/path`, `CID/path`, `/ipns/NAME/path`; CIDs as text."""

import base58

from chain.cids import DAG_PB, SHA2_256, Cid, InvalidCid
from gateway.ipfs.api.call import Call
from gateway.ipfs.api.errors import BadCall
from gateway.ipfs.web.request import SEGMENTS_MAX, ContentPath

DEPTH_MAX = 128
NAME_BYTES_MAX = 255
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def content_path(text: str) -> ContentPath:
    """An argument as a path. Raises BadCall."""
    for scheme in ("ipfs", "ipns"):
        if text.startswith(f"{scheme}://"):
            text = f"/{scheme}/" + text[len(scheme) + 3 :]
    if not text.startswith("/"):
        text = "/ipfs/" + text
    _, namespace, *segments = text.split("/")
    if namespace not in ("ipfs", "ipns") or not segments or not segments[0]:
        raise BadCall(f"invalid path {text[:80]!r}: /ipfs/CID or /ipns/NAME is expected")
    if len(segments) > SEGMENTS_MAX:
        raise BadCall("invalid path: too many segments")
    names = tuple(name for name in segments[1:] if name)
    return ContentPath(namespace, segments[0], names, segments[-1] == "")


def check_name(name: str) -> None:
    """Refuse what no directory's entry is called. Raises BadCall."""
    if name in ("", ".", "..") or "/" in name or "\x00" in name:
        raise BadCall(f"{name[:40]!r} is no file name")
    if len(name.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
        raise BadCall(f"a file name has at most {NAME_BYTES_MAX} bytes")


def mfs_path(text: str) -> tuple[str, ...]:
    """An absolute path as its names; `.` and `..` are followed. Raises BadCall."""
    if not text.startswith("/"):
        raise BadCall("paths must start with a leading slash")
    names: list[str] = []
    for name in text.split("/"):
        if name == "..":
            names[-1:] = []
        elif name not in ("", "."):
            check_name(name)
            names.append(name)
    if len(names) > DEPTH_MAX:
        raise BadCall(f"a path has at most {DEPTH_MAX} names")
    return tuple(names)


def parse_cid(text: str) -> Cid:
    """A CID. Raises BadCall."""
    try:
        return Cid.parse(text.removeprefix("/ipfs/").rstrip("/"))
    except InvalidCid as error:
        raise BadCall(f"invalid cid: {error}") from None


def cid_text(call: Call, cid: Cid) -> str:
    """A CID as the option `cid-base` wants it. Raises BadCall."""
    base = call.text("cid-base")
    if not base or (base == "base58btc" and _is_v0(cid)):
        return str(cid)
    return encoded(cid, base)


def encoded(cid: Cid, base: str) -> str:
    """A CID, as version 1, in a multibase. Raises BadCall."""
    if _is_v0(cid):
        cid = Cid.of(DAG_PB, SHA2_256, cid.digest)
    match base:
        case "base32":
            return str(cid)
        case "base58btc":
            return "z" + base58.b58encode(cid.raw).decode()
        case "base16":
            return "f" + cid.raw.hex()
        case "base36":
            return "k" + _base36(cid.raw)
    raise BadCall(f"cid-base {base[:40]!r} is not known: base16, base32, base36, base58btc are")


def _is_v0(cid: Cid) -> bool:
    return cid.raw[:2] == b"\x12\x20"


def _base36(raw: bytes) -> str:
    number, out = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 36)
        out = _DIGITS[digit] + out
    return out
