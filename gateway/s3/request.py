"""A request as the S3 front end sees it, made once from an ASGI scope."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec

from gateway.bodies import Fill
from gateway.s3.addressing import host_bucket, parse_query, site_bucket, split_path

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Request(msgspec.Struct, frozen=True):
    """Method, address, query and headers; the body is read through gateway/s3/body.py."""

    method: str
    raw_path: bytes  # as sent, without the query
    pairs: tuple[tuple[str, str], ...]  # the query, decoded, in order
    query: Mapping[str, str]  # the same; of a repeated name the first value
    headers: dict[str, str]  # lower-case name -> value as Latin-1; repeated ones joined by ","
    bucket: str  # "" for the service itself
    key: str  # "" for a bucket or the service
    virtual_hosted: bool
    secure: bool
    client: str  # the peer's address, "" if it has none
    receive: Receive
    fill: Fill | None = None  # where the server can read the body to a place
    site: bool = False  # a visitor of the bucket's website

    def __repr__(self) -> str:
        # Headers and query may hold a client's key or signature.
        return f"Request({self.method} {self.raw_path!r})"


# Parameters of a presigned URL that prove who asks; no others of its x-amz- ones do.
_PROOF = frozenset({
    "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signature",
    "x-amz-signedheaders",
})  # fmt: skip


def with_query_headers(request: Request) -> Request:
    """A presigned request with the headers that its URL holds; those that were sent go first.

    Clients move them there: version 2 all of x-amz-, Content-MD5 and Content-Type; of version 4,
    some clients those of x-amz-.
    """
    older = "AWSAccessKeyId" in request.query
    if not older and "X-Amz-Signature" not in request.query:
        return request
    named = ((name.lower(), value) for name, value in reversed(request.pairs))
    found = {
        name: value
        for name, value in named
        if (name.startswith("x-amz-") and name not in _PROOF)
        or (older and name in ("content-md5", "content-type"))
    }
    return msgspec.structs.replace(request, headers=found | request.headers) if found else request


def join_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """ASGI headers as a dictionary."""
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name = name_bytes.decode("latin-1")
        value = value_bytes.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def raw_target(scope: Mapping[str, Any]) -> bytes:
    """The path exactly as sent, without its query."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0]


def parse_request(
    scope: Mapping[str, Any], receive: Receive, domains: Sequence[str], fill: Fill | None = None
) -> Request:
    """Raises InvalidURI, KeyTooLong."""
    headers = join_headers(scope["headers"])
    raw_path = raw_target(scope)
    host = headers.get("host", "")
    site = site_bucket(host, domains)
    virtual = site or host_bucket(host, domains)
    bucket, key = split_path(raw_path, virtual)
    pairs = parse_query(scope.get("query_string", b""))
    return Request(
        method=scope["method"],
        raw_path=raw_path,
        pairs=pairs,
        query=dict(reversed(pairs)),
        headers=headers,
        bucket=bucket,
        key=key,
        virtual_hosted=bool(virtual),
        secure=scope.get("scheme") == "https",
        client=(scope.get("client") or ("",))[0],
        receive=receive,
        fill=fill,
        site=bool(site),
    )
