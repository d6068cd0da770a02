"""Request targets, byte for byte (RFC 9112 section 3.2). Pure."""

from typing import NamedTuple
from urllib.parse import unquote

_SCHEMES = (b"http", b"https")


class RefusedRequest(Exception):
    """Raised through the parser: (status, code, message)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.failure = (status, code, message)


class Target(NamedTuple):
    """What a request line asks for."""

    path: bytes
    query: bytes
    authority: bytes  # of the absolute form, as clients of a proxy send it; it is the true host


def split_target(target: bytes, method: str) -> Target:
    """Origin form, absolute form or `*`. Raises RefusedRequest."""
    authority = b""
    if not target.startswith(b"/"):
        scheme, mark, rest = target.partition(b"://")
        if mark and scheme.lower() in _SCHEMES:
            cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=-1)
            authority, target = (rest[:cut], rest[cut:]) if cut >= 0 else (rest, b"/")
            if target.startswith(b"?"):
                target = b"/" + target
        elif target != b"*" or method != "OPTIONS":
            raise RefusedRequest(400, "BadRequest", "The request target is not valid.")
    path, _, query = target.partition(b"?")
    return Target(path, query, authority)


def decode_path(raw: bytes) -> str:
    """A path as ASGI has it beside the raw one."""
    text = raw.decode("utf-8", "replace")
    return unquote(text) if "%" in text else text
