"""`/routing/v1`: where content, peers and IPNS records are, as far as this gateway knows.

https://specs.ipfs.tech/routing/http-routing-v1/ (IPIP-337, 379, 417, 484, 513). The one provider
that is known is the gateway itself, of what it holds in the open; peers have no addresses here. A
record may be put if its name is known here already: only the name's key can have signed it.
"""

import hashlib
import json
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import parse_qs

from chain.cids import Cid, InvalidCid
from chain.clock import Clock
from gateway.catalog.interface import CatalogUnavailable
from gateway.ipfs.errors import BadRequest, IpfsError, NotAcceptable
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.ipns.name import InvalidName, IpnsName
from gateway.ipfs.ipns.record import RECORD_BYTES_MAX, InvalidRecord
from gateway.ipfs.ipns.store import IpnsRecords, OldRecord, UnknownName
from gateway.ipfs.names import Names
from gateway.ipfs.web.conditions import etag_matches
from gateway.ipfs.web.formats import MEDIA_TYPES, Format
from gateway.ipfs.web.replies import Reply, disposition, not_modified, refusal, text
from gateway.ipfs.web.request import Target
from gateway.ipfs.web.sending import Receive, Scope, Send, received, send_reply

PREFIX = b"/routing/v1/"
PROTOCOL = "transport-ipfs-gateway-http"
_RECORD = MEDIA_TYPES[Format.IPNS_RECORD]
_JSON, _LINES = "application/json", "application/x-ndjson"
_FOUND = "public, max-age=300, stale-while-revalidate=600, stale-if-error=172800"
_NOTHING = "public, max-age=15, stale-while-revalidate=60, stale-if-error=3600"
_TEXT_MAX = 512
_STALL_SECONDS = 60.0  # all replies are bytes: nothing is waited for
_METHODS = {"providers": "GET, HEAD", "peers": "GET, HEAD", "ipns": "GET, HEAD, PUT"}
_OLD = "a newer record is kept here already"


class NotOurs(IpfsError):
    """A record of a name that nobody here asked for."""

    status = HTTPStatus.FORBIDDEN


class Routing:
    """ASGI: `/routing/v1/…` here, everything else, and other hosts' paths, in `inner`."""

    def __init__(
        self,
        inner: Any,
        index: BlockIndex,
        records: IpnsRecords,
        names: Names,
        peer: IpnsName,
        clock: Clock,
    ) -> None:
        self._inner = inner
        self._index = index
        self._records = records
        self._names = names
        self._peer = peer
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("raw_path") or scope["path"].encode()
        if not path.startswith(PREFIX):
            await self._inner(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        try:
            # A website may have pages under this path.
            target = Target(path, scope["query_string"], path)
            routed = await self._names.route(target, scope, headers)
            if routed is not target:
                await self._inner(scope, receive, send)
                return
            reply = await self._answer(scope, path[len(PREFIX) :], headers, receive)
        except (IpfsError, CatalogUnavailable) as error:
            reply = refusal(error, only_if_cached=False)
        await send_reply(reply, scope["method"] == "HEAD", receive, send, _STALL_SECONDS)

    async def _answer(
        self, scope: Scope, path: bytes, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Reply:
        method = scope["method"]
        kind, _, key = path.decode("latin-1").partition("/")
        allowed = _METHODS.get(kind)
        if allowed is None or not 0 < len(key) <= _TEXT_MAX:
            return text(HTTPStatus.NOT_FOUND, "providers/CID, peers/ID and ipns/NAME are served")
        if method == "OPTIONS":
            return Reply(HTTPStatus.OK, {"Allow": f"{allowed}, OPTIONS"})
        if method not in allowed.split(", "):
            return text(HTTPStatus.METHOD_NOT_ALLOWED, f"{allowed} are served", Allow=allowed)
        if kind == "providers":
            return self._providers(_cid(key), scope, headers)
        name = _name(key)
        if kind == "peers":
            return _listed("Peers", [], headers)
        put = method == "PUT"
        return await self._put(name, headers, receive) if put else self._record(name, headers)

    def _providers(self, cid: Cid, scope: Scope, headers: Mapping[bytes, bytes]) -> Reply:
        found = []
        address = multiaddr(headers.get(b"host", b"").decode("latin-1"), scope.get("scheme", ""))
        if address and self._index.block(cid) is not None:
            wanted = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=32)
            if _passes(wanted.get("filter-protocols"), {PROTOCOL}) and _passes(
                wanted.get("filter-addrs"), set(address.split("/"))
            ):
                found = [
                    {
                        "Schema": "peer",
                        "ID": self._peer.peer_id,
                        "Addrs": [address],
                        "Protocols": [PROTOCOL],
                    }
                ]
        return _listed("Providers", found, headers)

    def _record(self, name: IpnsName, headers: Mapping[bytes, bytes]) -> Reply:
        accept = headers.get(b"accept", b"").decode("latin-1")
        if accept and "*/*" not in accept and _RECORD not in accept:
            raise NotAcceptable(f"ask for {_RECORD}")
        record = self._records.get(name)
        if record is None:  # IPIP-513: no other status than 200, but another type
            reply = text(HTTPStatus.OK, f"no record of {name} is known here")
            reply.headers["Cache-Control"] = _NOTHING
            return reply
        now = self._clock.now_ns()
        seconds, left = record.cache_seconds(now), max(0, record.eol_ns - now) // 10**9
        stale = left - seconds
        out = {
            "Content-Type": _RECORD,
            "Content-Disposition": disposition("attachment", f"{name}.ipns-record"),
            "Cache-Control": f"public, max-age={seconds}, stale-while-revalidate={stale}, "
            f"stale-if-error={stale}",
            "Etag": f'"{hashlib.sha256(record.raw).hexdigest()[:32]}"',
            "Vary": "Accept",
            "Expires": formatdate(record.eol_ns // 10**9, usegmt=True),
        }
        if etag_matches(headers.get(b"if-none-match", b""), [out["Etag"]]):
            return not_modified(out)
        return Reply(HTTPStatus.OK, out, record.raw)

    async def _put(self, name: IpnsName, headers: Mapping[bytes, bytes], receive: Receive) -> Reply:
        if _RECORD not in headers.get(b"content-type", b"").decode("latin-1"):
            raise NotAcceptable(f"Content-Type is {_RECORD}")
        raw = await received(receive, RECORD_BYTES_MAX, BadRequest)
        try:
            await self._records.put(name, raw, known_only=True)
        except InvalidRecord as error:
            raise BadRequest(str(error)) from None
        except OldRecord:
            raise BadRequest(_OLD) from None
        except UnknownName:
            raise NotOurs(f"no record of {name} was imported here") from None
        return Reply(HTTPStatus.OK)


def multiaddr(host: str, scheme: str) -> str:
    """The address of an HTTP server by its Host header; "" where it is none."""
    name, mark, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not mark:
        name, port = host, "443" if scheme == "https" else "80"
    if not port.isdecimal() or not 0 < int(port[:6]) < 1 << 16:
        return ""
    end = "https" if scheme == "https" else "http"
    try:
        address = ip_address(name.strip("[]"))
    except ValueError:
        plain = all(part and part.replace("-", "").isalnum() for part in name.split("."))
        return f"/dns/{name.lower()}/tcp/{port}/{end}" if plain and name.isascii() else ""
    kind = "ip6" if isinstance(address, IPv6Address) else "ip4"
    return f"/{kind}/{address}/tcp/{port}/{end}"


def _passes(filters: list[str] | None, has: set[str]) -> bool:
    """IPIP-484: one of the names that are wanted (`!name`: none of these)."""
    names = {name.strip().lower() for part in filters or () for name in part.split(",")} - {""}
    unwanted = {name[1:] for name in names if name.startswith("!")}
    wanted = {name for name in names if not name.startswith("!")}
    return not (unwanted & has) and (not wanted or bool(wanted & has))


def _listed(kind: str, found: list[dict[str, Any]], headers: Mapping[bytes, bytes]) -> Reply:
    accept = headers.get(b"accept", b"").decode("latin-1")
    out = {"Cache-Control": _FOUND if found else _NOTHING, "Vary": "Accept"}
    if _LINES in accept:
        lines = b"".join(json.dumps(item).encode() + b"\n" for item in found)
        return Reply(HTTPStatus.OK, {"Content-Type": _LINES, **out}, lines)
    if accept and "*/*" not in accept and _JSON not in accept and "application/*" not in accept:
        raise NotAcceptable(f"{_JSON} and {_LINES} are served")
    body = json.dumps({kind: found}).encode()
    return Reply(HTTPStatus.OK, {"Content-Type": _JSON, **out}, body)


def _cid(text: str) -> Cid:
    try:
        return Cid.parse(text)
    except InvalidCid as error:
        raise BadRequest(f"no CID: {error}") from None


def _name(text: str) -> IpnsName:
    try:
        return IpnsName.parse(text)
    except InvalidName as error:
        raise BadRequest(str(error)) from None
