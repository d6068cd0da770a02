"""Heads of requests: their targets, byte for byte (RFC 9112 section 3.2), and framing. Pure."""

from typing import NamedTuple
from urllib.parse import unquote

_SCHEMES = (b"http", b"https")
HEAD_TOO_LARGE = (431, "RequestHeaderSectionTooLarge", "The request's head is too large.")


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


def check_headers(
    headers: list[tuple[bytes, bytes]], version: str, room: int
) -> tuple[int | None, bool]:
    """Framing that every reader understands alike: the body's length, None when chunked; and
    whether the client waits for `100 Continue`.

    Raises RefusedRequest, also for headers of more than `room` bytes.
    """
    length: int | None = 0
    hosts = 0
    expects_continue = False
    for name, value in headers:
        room -= len(name) + len(value) + 4
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            length = int(value) if length is not None else None
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise RefusedRequest(
                    501, "NotImplemented", "Only chunked transfer coding is known."
                )
            length = None
        elif name == b"expect":
            if value.strip().lower() != b"100-continue":
                raise RefusedRequest(417, "ExpectationFailed", "Only 100-continue is known.")
            expects_continue = True
    if room < 0:
        raise RefusedRequest(*HEAD_TOO_LARGE)
    if hosts > 1 or (not hosts and version == "1.1"):
        raise RefusedRequest(400, "BadRequest", "A request has one Host header.")
    return length, expects_continue
