"""Names and hosts of the gateway: which content root a request means, where a name leads.

`Names` is what app.py takes for its NameSystem: IPNS by the records that this network keeps,
DNSLink by the map and the resolver of the configuration, hosts by sites/hosts.py, missing pages by
`_redirects`. A name leads to a CID; whether its blocks may be seen is asked as for any other.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import quote, quote_from_bytes

from chain.cids import Cid, InvalidCid
from chain.clock import Clock
from gateway.ipfs.errors import BadRequest, NotFound, Unresolved
from gateway.ipfs.ipns.name import InvalidName, IpnsName
from gateway.ipfs.ipns.store import IpnsRecords
from gateway.ipfs.sites import hosts
from gateway.ipfs.sites.dnslink import DnsLinks, ResolverFailed
from gateway.ipfs.sites.hosts import Gateway, Other, Subdomain
from gateway.ipfs.sites.pages import missing_page
from gateway.ipfs.web.conditions import etag_matches
from gateway.ipfs.web.formats import MEDIA_TYPES, Format
from gateway.ipfs.web.replies import Reply, disposition, not_modified
from gateway.ipfs.web.request import ContentPath, GatewayRequest, Target, corrected
from gateway.ipfs.web.serving import Named, Rewrite, Serving

DEPTH_MAX = 32  # names that lead to names
SEGMENTS_MAX = 512
_RECORD = MEDIA_TYPES[Format.IPNS_RECORD]
_HOST_BYTES_MAX = 256


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a name leads."""

    path: str  # /ipfs/CID[/…], or what one step leads to
    ttl: int  # seconds for which this stays so; 0: not known


class Names:
    """The names that one gateway serves."""

    def __init__(
        self,
        records: IpnsRecords,
        links: DnsLinks,
        subdomain_hosts: tuple[str, ...],
        clock: Clock,
    ) -> None:
        self._records = records
        self._links = links
        self._hosts = frozenset(host.lower().rstrip(".") for host in subdomain_hosts)
        self._clock = clock

    # ------------------------------------------------------------------ names
    async def lookup(self, name: str) -> Destination:
        """Where a name (a key in any spelling, or a domain name) leads.

        Raises Unresolved, ResolverFailed, BadRequest, CatalogUnavailable.
        """
        segments: tuple[str, ...] = ()
        ttls = []
        for _ in range(DEPTH_MAX):
            step = await self._step(name)
            if step.ttl:
                ttls.append(step.ttl)
            _, namespace, root, *rest = step.path.split("/")
            segments = (*(part for part in rest if part), *segments)
            if len(segments) > SEGMENTS_MAX:
                break
            if namespace == "ipfs":
                path = "/".join(["", namespace, root, *segments])
                return Destination(path, min(ttls, default=0))
            name = root
        raise Unresolved(f"failed to resolve /ipns/{name}: names, or a path, without an end")

    async def _step(self, name: str) -> Destination:
        try:
            key = IpnsName.parse(name)
        except InvalidName:
            return await self._dnslink(name)
        record = self._records.get(key)
        if record is None:
            raise Unresolved(f"failed to resolve /ipns/{name}: could not resolve name")
        return Destination(record.value, record.cache_seconds(self._clock.now_ns()))

    async def _dnslink(self, name: str) -> Destination:
        if not hosts.is_domain(name.lower()):
            raise BadRequest(
                f"invalid path: {name[:80]!r} is neither an IPNS key nor a domain name"
            )
        link = await self._links.link(name)
        if link is None:
            raise Unresolved(
                f"failed to resolve /ipns/{name[:128]}: no DNSLink of this name is known here"
            )
        if not link.path.startswith(("/ipfs/", "/ipns/")):
            raise Unresolved(f"failed to resolve /ipns/{name}: its DNSLink is no content path")
        return Destination(link.path, link.ttl)

    async def resolve(self, content: ContentPath) -> Named:
        """Where `/ipns/NAME/…` leads now."""
        found = await self.lookup(content.root)
        _, _, root, *segments = found.path.split("/")
        try:
            Cid.parse(root)
        except InvalidCid as error:
            raise Unresolved(f"failed to resolve /ipns/{content.root}: {error}") from None
        path = ContentPath("ipfs", root, (*segments, *content.segments), content.trailing_slash)
        return Named(path, found.ttl)

    async def record(self, request: GatewayRequest) -> Reply:
        """The signed record of a name (IPIP-351)."""
        if request.content.segments:
            raise BadRequest("a path below an IPNS name has no record of its own")
        try:
            name = IpnsName.parse(request.content.root)
        except InvalidName as error:
            raise BadRequest(f"only a key has an IPNS record: {error}") from None
        record = self._records.get(name)
        if record is None:
            raise NotFound(f"no record of {name} is known here")
        tag = f'"{hashlib.sha256(record.raw).hexdigest()[:32]}"'
        seconds = record.cache_seconds(self._clock.now_ns())
        out = {
            "Content-Type": _RECORD,
            "Etag": tag,
            "Cache-Control": f"public, max-age={seconds}",
            "Content-Disposition": disposition(
                "attachment", request.filename or f"{request.content.root}.ipns-record"
            ),
        }
        if etag_matches(request.headers.get(b"if-none-match", b""), [tag]):
            return not_modified(out)
        return Reply(HTTPStatus.OK, out, record.raw)

    # ------------------------------------------------------------------ hosts
    async def route(
        self, target: Target, scope: Mapping[str, object], headers: Mapping[bytes, bytes]
    ) -> Target | Reply:
        """Map the request's host to a content path, or send the client to where it is."""
        forwarded = headers.get(b"x-forwarded-host", b"").partition(b",")[0]  # by the first proxy
        host = forwarded or headers.get(b"host", b"")
        if len(host) > _HOST_BYTES_MAX:
            raise BadRequest("the Host header is too long")
        place = hosts.place(host.decode("latin-1").strip(), self._hosts)
        secure = scope.get("scheme") == "https" or headers.get(b"x-forwarded-proto") == b"https"
        scheme = "https" if secure else "http"
        match place:
            case Subdomain():
                return await self._below(target, place, scheme)
            case Other(name=name, host=shown) if name and await self._is_dnslink(name, target):
                inside = _inside(target, b"/ipns/" + name.encode())
                return replace(inside, gateway=shown)
            case _:
                pass
        namespace, root, rest = _split(target.path)
        if not namespace or not root or corrected(target) is not None:
            return target
        if isinstance(place, Gateway):
            where = hosts.subdomain_url(scheme, place.host, namespace, root, rest, target.query)
            return _moved(where)
        return _canonical(target, namespace, root, rest) or target

    async def _is_dnslink(self, name: str, target: Target) -> bool:
        """Raises ResolverFailed, but not for what a path gateway serves under any name."""
        try:
            return await self._links.link(name) is not None
        except ResolverFailed:
            if target.path.startswith((b"/ipfs/", b"/ipns/")):
                return False
            raise

    async def _below(self, target: Target, place: Subdomain, scheme: str) -> Target | Reply:
        """One content root on a host of its own."""
        namespace, root = place.namespace, place.root
        if not hosts.is_canonical(place):
            where = hosts.subdomain_url(
                scheme, place.gateway, namespace, root, target.path, target.query
            )
            return _moved(where)
        if namespace == "ipns" and "." not in root and not hosts.is_key(root):
            root = await self._uninlined(root)
        inside = _inside(target, f"/{namespace}/{quote(root)}".encode())
        return replace(inside, gateway=place.gateway)

    async def _uninlined(self, label: str) -> str:
        """The domain name of a label: with dots, unless only the label itself is known."""
        dotted = hosts.uninlined(label)
        if dotted == label or await self._links.link(dotted) is not None:
            return dotted
        return label if await self._links.link(label) is not None else dotted

    async def missing(
        self, serving: Serving, request: GatewayRequest, path: ContentPath
    ) -> Rewrite | Reply | None:
        """What the website's `_redirects` (or ipfs-404.html) say of a path that is not there."""
        return await missing_page(serving, request, path)


def _inside(target: Target, root: bytes) -> Target:
    return replace(target, path=root + target.path, url_path=target.path, isolated=True)


def _moved(where: str, status: HTTPStatus = HTTPStatus.MOVED_PERMANENTLY) -> Reply:
    return Reply(status, {"Location": where, "Content-Type": "text/plain; charset=utf-8"})


def _split(path: bytes) -> tuple[str, str, bytes]:
    """(namespace, root, the rest with its slash) of a content path; "" where it is none."""
    _, namespace, *rest = path.split(b"/", 3)
    if namespace not in (b"ipfs", b"ipns") or not rest:
        return "", "", b""
    tail = b"/" + rest[1] if len(rest) > 1 else b""
    return namespace.decode(), rest[0].decode("latin-1"), tail


def _canonical(target: Target, namespace: str, root: str, rest: bytes) -> Reply | None:
    """`/ipns/12D3Koo…` and `/ipns/Qm…` lead to the name's canonical spelling."""
    if namespace != "ipns" or not root.startswith(("1", "Qm")):
        return None
    try:
        name = IpnsName.parse(root)
    except InvalidName:
        return None
    return _moved(f"/ipns/{name}" + _tail(rest, target.query), HTTPStatus.FOUND)


def _tail(path: bytes, query: bytes) -> str:
    asked = "?" + quote_from_bytes(query, safe=hosts.SAFE + "?[]") if query else ""
    return quote_from_bytes(path, safe=hosts.SAFE) + asked
